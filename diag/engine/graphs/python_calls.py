"""Nodes that call a Python function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def python_call(
    name: str, function: Callable[..., Any], inputs: Sequence[tuple[str, tf.DType]], results: Sequence[tf.DType]
) -> tuple[Any, object]:
    """A node that calls a function with arrays and gives arrays of these dtypes.

    inputs: text and dtype of each.  Returns the node, and what has to live as long as it may be executed.
    """
    with tf.Graph().as_default() as scratch:
        tf.numpy_function(function, [tf.compat.v1.placeholder(dtype) for _, dtype in inputs], list(results))
    call = scratch.as_graph_def().node[-1]
    call.name = name
    del call.input[:]
    call.input.extend(text for text, _ in inputs)
    return call, scratch
