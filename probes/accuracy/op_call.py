"""A call of one of `tf.raw_ops` at a place."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from probes.accuracy.elementwise import Function
from probes.frame.device import Computation, DeviceUnderTest


def computation_of(function: Function, device: DeviceUnderTest) -> Computation:
    """The op, at a place."""
    op = getattr(tf.raw_ops, function.op)

    def call(*tensors: Any) -> Any:
        return op(**dict(zip(function.arguments, tensors, strict=True)), **function.attributes)

    return device.computation(call)
