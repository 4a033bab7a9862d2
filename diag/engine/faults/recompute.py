"""Executing the op of a call once more, on the CPU, with other inputs.

TensorFlow's own kernel does the work, so a fault that changes what goes into an op needs no
second implementation of the op, its strides and paddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.faults.simulation import Call
from diag.engine.graphs.tf_runtime import as_array, execute, op_def, type_attributes

_DEVICE = "CPU:0"


def recompute(call: Call, inputs: Sequence[Any], **attrs: Any) -> list[np.ndarray]:
    """The outputs of the call's op for `inputs`, with its attributes but for those in `attrs`."""
    types = type_attributes(call.op_type)
    plain = {k: _enum(v) if k in types else v for k, v in {**call.attrs, **attrs}.items()}
    with tf.device(_DEVICE):
        tensors = [tf.constant(array) for array in inputs]
    return [as_array(x).copy() for x in execute(call.op_type, tensors, plain, len(call.outputs), _DEVICE)]


def can_recompute(call: Call) -> bool:
    """Whether the op is a function of the inputs that the call shows: no handle, no hidden state."""
    definition = op_def(call.op_type)
    return not definition.is_stateful and len(call.inputs) == sum(
        _count(argument, call.attrs) for argument in definition.input_arg
    )


def input_position(op_type: str, *names: str) -> int | None:
    """Where an op takes the first of its arguments that has one of these names, None where it has none."""
    arguments = [argument.name for argument in op_def(op_type).input_arg]
    return next((index for index, name in enumerate(arguments) if name in names), None)


def _count(argument: Any, attrs: dict[str, Any]) -> int:
    if argument.number_attr:
        return int(attrs[argument.number_attr])
    return len(attrs[argument.type_list_attr]) if argument.type_list_attr else 1


def _enum(value: Any) -> Any:
    """Names of dtypes as the numbers that the runtime takes."""
    if isinstance(value, list):
        return [_enum(item) for item in value]
    return tf.dtypes.as_dtype(value).as_datatype_enum


def is_floating(array: np.ndarray) -> bool:
    return array.dtype.name in ("float16", "bfloat16", "float32", "float64")
