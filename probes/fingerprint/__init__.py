"""What arithmetic a device does: the order and precision of its sums, the format of its operands, how it rounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from diag.common.wording import first_line
from probes.fingerprint import elementwise, ops, summary
from probes.fingerprint.arithmetic import arithmetic_of, order_of
from probes.fingerprint.ops import SumShape
from probes.fingerprint.summary import FAMILY, Shaped
from probes.fingerprint.sums import spread
from probes.frame.device import NOT_SUPPORTED, DeviceUnderTest
from probes.frame.device_report import UNSUPPORTED, Measurement
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

NUM_TERMS = 32  # that are told apart in a sum; of a longer one the first, and as many spread over all of it
TREE_SIZES = (8, 16, 32, 64)
QUICK_TREE_SIZES = (16, 32)


@dataclass(frozen=True)
class Op:
    """shapes: the first is the one that the card's line describes.  trees: short sums of each of TREE_SIZES."""

    name: str
    shapes: tuple[SumShape, ...]
    trees: tuple[tuple[int, SumShape], ...] = ()


def probes(choice: Choice) -> Iterator[Probe]:
    for op in sums(choice.quick):
        for dtype in FLOAT_DTYPES:
            yield Probe(FAMILY, op.name, dtype, "arithmetic", lambda device, o=op, d=dtype: _measurements(o, d, device))  # type: ignore[misc]
    yield from elementwise.probes()


def sums(quick: bool) -> Sequence[Op]:
    """The ops that add, each in shapes for which another kernel may be chosen."""
    sizes = QUICK_TREE_SIZES if quick else TREE_SIZES
    full = (
        Op("MatMul", (
            ops.matmul(32, 32, 32), ops.matmul(1, 32, 1), ops.matmul(1, 256, 32), ops.matmul(64, 64, 64),
            ops.matmul(256, 256, 256), ops.matmul(32, 4096, 32), ops.matmul(32, 32, 32, transpose_a=True),
            ops.matmul(32, 32, 32, transpose_b=True),
        ), tuple((n, ops.matmul(32, n, 32)) for n in sizes)),
        Op("BatchMatMulV2", (ops.batch_matmul(4, 32, 32, 32), ops.batch_matmul(4, 16, 128, 16))),
        Op("Conv2D", (
            ops.conv(3, 4, 32), ops.conv(1, 32, 32), ops.conv(3, 32, 32), ops.conv(5, 32, 32),
        ), tuple((n, ops.conv(2, n // 4, 32)) for n in sizes)),
        Op("Conv2DBackpropInput", (ops.conv_to_input(4, 32), ops.conv_to_input(32, 32))),
        Op("Conv2DBackpropFilter", (ops.conv_to_filter(6, 1, 32), ops.conv_to_filter(6, 16, 32))),
        Op("Sum", (
            ops.sum_rows("Sum", 32, 32), ops.sum_columns("Sum", 32, 32), ops.sum_whole("Sum", 4, 8),
            ops.sum_rows("Sum", 8, 1024), ops.sum_columns("Sum", 1024, 32), ops.sum_whole("Sum", 64, 64),
        ), tuple((n, ops.sum_rows("Sum", 32, n)) for n in sizes)),
        Op("Mean", (ops.sum_rows("Mean", 32, 32), ops.sum_columns("Mean", 32, 32), ops.sum_whole("Mean", 8, 16))),
        Op("BiasAddGrad", (ops.bias_gradient(32, 32), ops.bias_gradient(2048, 32))),
    )  # fmt: skip
    return [Op(op.name, op.shapes[: 2 if op.trees else 1], op.trees) for op in full] if quick else full


def _measurements(op: Op, dtype: str, device: DeviceUnderTest) -> Iterator[Measurement]:
    first = _shaped(op.shapes[0], dtype, device)
    found = [(shape, _tried(shape, dtype, device)) for shape in op.shapes[1:]]
    others = [each for _, each in found if isinstance(each, Shaped)]
    yield summary.summary(op.name, dtype, first, others)
    for shape, each in found:
        if isinstance(each, Shaped):
            yield summary.of_shape(op.name, dtype, each, first)
        else:
            yield Measurement(FAMILY, op.name, dtype, shape.name, UNSUPPORTED, each)
    if op.trees:
        trees = {n: order_of(shape.make(device, _dtype(dtype))) for n, shape in op.trees}
        yield summary.orders(op.name, dtype, trees)


def _tried(shape: SumShape, dtype: str, device: DeviceUnderTest) -> Shaped | str:
    """What it does in a shape, or why it does nothing there."""
    try:
        return _shaped(shape, dtype, device)
    except NOT_SUPPORTED as error:
        return first_line(error)[:300]


def _shaped(shape: SumShape, dtype: str, device: DeviceUnderTest) -> Shaped:
    whole = shape.make(device, _dtype(dtype))
    if whole.num_terms <= 2 * NUM_TERMS:
        return Shaped(shape.name, arithmetic_of(whole, device.seed), None)
    far = np.arange(NUM_TERMS) * whole.num_terms // NUM_TERMS
    arithmetic = arithmetic_of(spread(whole, range(NUM_TERMS)), device.seed)
    return Shaped(shape.name, arithmetic, order_of(spread(whole, [int(index) for index in far])))


def _dtype(name: str) -> np.dtype:
    return np.dtype(tf.dtypes.as_dtype(name).as_numpy_dtype)
