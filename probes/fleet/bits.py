"""Ordinary numbers through the ops of a training step: no right answer is known, but siblings agree in every bit.

Exact probes compute with small integers, whose last bits are zeros; a circuit that is defective may be met by none.
Here every bit of an operand is in use, and the larger sizes are work for every core of a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import NOTE, Measurement
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

FAMILY = "bits"
SIZES, QUICK_SIZES = (33, 256, 1024), (33, 256)
"""Rows and columns; 1,024 are 64 tiles of 128 x 128, one for about each core of a large GPU's."""


@dataclass(frozen=True)
class BitsOp:
    """An op by its name in TensorFlow's graphs: what is computed, of inputs in these shapes at a size."""

    name: str
    function: Callable[..., Any]
    shapes: Callable[[int], Sequence[tuple[int, ...]]]


def _square(size: int) -> list[tuple[int, ...]]:
    return [(size, size)]


def _squares(size: int) -> list[tuple[int, ...]]:
    return [(size, size), (size, size)]


def _image(size: int) -> tuple[int, ...]:
    """(batch, rows, columns, channels) of about size x size elements, times four."""
    return (4, size // 4 + 1, size // 4 + 1, 16)


def _convolved(size: int) -> list[tuple[int, ...]]:
    return [_image(size), (3, 3, 16, 16)]


def _conv(x: Any, kernel: Any) -> Any:
    return tf.nn.conv2d(x, kernel, 1, "SAME")


def _gradients_of_conv(x: Any, kernel: Any) -> Any:
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        y = _conv(x, kernel)
    return tape.gradient(y, [x, kernel], output_gradients=tf.sin(y))


OPS = (
    BitsOp("MatMul", tf.linalg.matmul, _squares),
    BitsOp("BatchMatMulV2", tf.linalg.matmul, lambda size: [(8, size // 4, size // 4)] * 2),
    BitsOp("Conv2D", _conv, _convolved),
    BitsOp("Conv2DBackpropFilter", _gradients_of_conv, _convolved),
    BitsOp("DepthwiseConv2dNative", lambda x, k: tf.nn.depthwise_conv2d(x, k, [1] * 4, "SAME"),
           lambda size: [_image(size), (3, 3, 16, 1)]),
    BitsOp("Sum", lambda x: [tf.reduce_sum(x, 0), tf.reduce_sum(x, 1), tf.reduce_sum(x)], _square),
    BitsOp("BiasAddGrad", lambda x: tf.raw_ops.BiasAddGrad(out_backprop=x), _square),
    BitsOp("Softmax", tf.nn.softmax, _square),
    BitsOp("Exp", tf.exp, _square),
    BitsOp("Log", lambda x: tf.math.log(tf.abs(x)), _square),
    BitsOp("Tanh", tf.tanh, _square),
    BitsOp("Erf", tf.math.erf, _square),
    BitsOp("Rsqrt", lambda x: tf.math.rsqrt(tf.abs(x)), _square),
    BitsOp("RealDiv", tf.divide, _squares),
    BitsOp("AddV2", tf.add, _squares),
    BitsOp("Mul", tf.multiply, _squares),
)  # fmt: skip


def probes(choice: Choice) -> Iterator[Probe]:
    for op in OPS:
        for dtype in FLOAT_DTYPES:
            for size in QUICK_SIZES if choice.quick else SIZES:
                yield Probe(FAMILY, op.name, dtype, f"size {size}", partial(_run, op, dtype, size))


def _run(op: BitsOp, dtype: str, size: int, device: DeviceUnderTest) -> Iterator[Measurement]:
    """One reading, which says little: what counts is what the device saw."""
    random = np.random.default_rng([device.seed, size])
    numpy_dtype = tf.dtypes.as_dtype(dtype).as_numpy_dtype
    inputs = [random.normal(size=shape).astype(np.float32).astype(numpy_dtype) for shape in op.shapes(size)]
    outputs = device.run(op.function, *inputs)
    total = sum(float(output.astype(np.float64).sum()) for output in outputs)
    elements = sum(output.size for output in outputs)
    yield Measurement(FAMILY, op.name, dtype, f"size {size}", NOTE, f"{elements:,} elements, their sum {total!r}")
