"""Reading and writing variables by the ops themselves: a fifth of what `read_value` and `assign` take."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from diag.engine.graphs.tf_runtime import execute


def read(variable: tf.Variable) -> Any:
    """The variable's value, which later writes leave as it is, where the variable is."""
    (value,) = execute("ReadVariableOp", [variable.handle], {"dtype": _enum(variable)}, 1, _device(variable))
    return value


def write(variable: tf.Variable, value: Any) -> None:
    """Give a variable a value of its own dtype and shape: an array, or a tensor on any device."""
    value = value if tf.is_tensor(value) else tf.convert_to_tensor(value, variable.dtype)
    attributes = {"dtype": _enum(variable), "validate_shape": True}
    execute("AssignVariableOp", [variable.handle, value], attributes, 0, _device(variable))


def _enum(variable: tf.Variable) -> int:
    enum: int = variable.dtype.as_datatype_enum
    return enum


def _device(variable: tf.Variable) -> str:
    """As places name it: CPU:0."""
    return str(variable.device).rpartition("device:")[2]
