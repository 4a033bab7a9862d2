"""The ops whose sums are asked, in the shapes that are tried: each makes a `Sum` at a place."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from probes.fingerprint.sums import Array, Doubles, Sum
from probes.frame.device import DeviceUnderTest
from probes.frame.fallback import check_placed

Make = Callable[[DeviceUnderTest, "np.dtype[Any]"], Sum]


@dataclass(frozen=True)
class SumShape:
    """One way to call an op.  `name` is a reading's case; `make` gives the sum, asked at a place."""

    name: str
    make: Make


def _computation(device: DeviceUnderTest, function: Callable[..., Any]) -> Callable[..., Array]:
    """Run it there, and make sure at the first call that it is the place's own device that does it."""
    computation = device.computation(function)
    checked = False

    def run(*arrays: Array) -> Array:
        nonlocal checked
        if not checked:
            check_placed(device, computation, arrays)
            checked = True
        return computation(*arrays)[0]

    return run


def _diagonal(result: Array) -> Doubles:
    return np.asarray(np.diagonal(result), np.float64)


def matmul(rows: int, terms: int, columns: int, transpose_a: bool = False, transpose_b: bool = False) -> SumShape:
    def make(device: DeviceUnderTest, dtype: np.dtype[Any]) -> Sum:
        run = _computation(
            device, lambda a, b: tf.raw_ops.MatMul(a=a, b=b, transpose_a=transpose_a, transpose_b=transpose_b)
        )

        def compute(a: Array, b: Array) -> Doubles:
            first, second = np.resize(a, (rows, terms)), np.resize(b, (columns, terms)).T
            return _diagonal(run(first.T if transpose_a else first, second.T if transpose_b else second))

        return Sum("MatMul", dtype, terms, min(rows, columns), True, compute)

    left = f"[{terms},{rows}]T" if transpose_a else f"[{rows},{terms}]"
    right = f"[{columns},{terms}]T" if transpose_b else f"[{terms},{columns}]"
    return SumShape(f"{left} x {right}", make)


def batch_matmul(batch: int, rows: int, terms: int, columns: int) -> SumShape:
    """Every matrix of the batch is the same question."""

    def make(device: DeviceUnderTest, dtype: np.dtype[Any]) -> Sum:
        run = _computation(device, lambda a, b: tf.raw_ops.BatchMatMulV2(x=a, y=b))

        def compute(a: Array, b: Array) -> Doubles:
            first, second = np.resize(a, (rows, terms)), np.resize(b, (columns, terms)).T
            return _diagonal(run(np.stack([first] * batch), np.stack([second] * batch))[-1])

        return Sum("BatchMatMulV2", dtype, terms, min(rows, columns), True, compute)

    return SumShape(f"[{batch},{rows},{terms}] x [{batch},{terms},{columns}]", make)


def conv(kernel: int, channels: int, filters: int) -> SumShape:
    """Over the patch at the corner of an image one larger than the kernel: one as large would be a MatMul."""
    terms = kernel * kernel * channels

    def make(device: DeviceUnderTest, dtype: np.dtype[Any]) -> Sum:
        run = _computation(device, lambda x, w: tf.raw_ops.Conv2D(input=x, filter=w, strides=[1] * 4, padding="VALID"))

        def compute(a: Array, b: Array) -> Doubles:
            image = np.zeros((filters, kernel + 1, kernel + 1, channels), a.dtype)
            image[:, :kernel, :kernel] = a.reshape(filters, kernel, kernel, channels)
            return _diagonal(run(image, b.T.reshape(kernel, kernel, channels, filters))[:, 0, 0, :])

        return Sum("Conv2D", dtype, terms, filters, True, compute)

    return SumShape(f"{kernel}x{kernel}, {channels} to {filters} channels", make)


def conv_to_filter(size: int, batch: int, channels: int) -> SumShape:
    """The gradient of a 3x3 filter at its middle: over the positions of all images."""
    terms = batch * size * size

    def make(device: DeviceUnderTest, dtype: np.dtype[Any]) -> Sum:
        run = _computation(
            device,
            lambda x, dy: tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=[3, 3, channels, channels], out_backprop=dy, strides=[1] * 4, padding="SAME"
            ),
        )

        def compute(a: Array, b: Array) -> Doubles:
            image, upstream = (x.T.reshape(batch, size, size, channels) for x in (a, b))
            return _diagonal(run(image, upstream)[1, 1])

        return Sum("Conv2DBackpropFilter", dtype, terms, channels, True, compute)

    return SumShape(f"{batch} images of {size}x{size}, {channels} channels", make)


def conv_to_input(filters: int, channels: int) -> SumShape:
    """The gradient of an image's middle pixel, 3x3 filters: over the filter's positions and channels out."""
    terms = 9 * filters

    def make(device: DeviceUnderTest, dtype: np.dtype[Any]) -> Sum:
        run = _computation(
            device,
            lambda w, dy: tf.raw_ops.Conv2DBackpropInput(
                input_sizes=[channels, 3, 3, channels], filter=w, out_backprop=dy, strides=[1] * 4, padding="SAME"
            ),
        )

        def compute(a: Array, b: Array) -> Doubles:
            # Pixel (1, 1) gets dy[h, w] filter[2 - h, 2 - w]; terms are in the order of h, w, channel of dy.
            upstream = a.reshape(channels, 3, 3, filters)
            weights = np.moveaxis(b.reshape(channels, 3, 3, filters)[:, ::-1, ::-1], 0, 2)
            return _diagonal(run(np.ascontiguousarray(weights), upstream)[:, 1, 1, :])

        return Sum("Conv2DBackpropInput", dtype, terms, channels, True, compute)

    return SumShape(f"3x3, {filters} to {channels} channels", make)


def _reduction(name: str, function: Callable[[Any], Any], shape: tuple[int, int], axis: int | None) -> Make:
    def make(device: DeviceUnderTest, dtype: np.dtype[Any]) -> Sum:
        run = _computation(device, function)
        terms = math.prod(shape) if axis is None else shape[axis]
        scale = 1 / terms if name == "Mean" else 1.0

        def compute(a: Array, _: Array) -> Doubles:
            asked = a.reshape(shape) if axis is None else np.ascontiguousarray(a.T) if axis == 0 else a
            return np.atleast_1d(np.asarray(run(asked), np.float64))

        return Sum(name, dtype, terms, 1 if axis is None else shape[1 - axis], False, compute, scale)

    return make


def _reduced(op: str, axes: list[int]) -> Callable[[Any], Any]:
    return lambda x: getattr(tf.raw_ops, op)(input=x, axis=axes)


def sum_rows(op: str, rows: int, terms: int) -> SumShape:
    return SumShape(f"rows of [{rows},{terms}]", _reduction(op, _reduced(op, [1]), (rows, terms), 1))


def sum_columns(op: str, terms: int, columns: int) -> SumShape:
    return SumShape(f"columns of [{terms},{columns}]", _reduction(op, _reduced(op, [0]), (terms, columns), 0))


def sum_whole(op: str, rows: int, columns: int) -> SumShape:
    return SumShape(f"all of [{rows},{columns}]", _reduction(op, _reduced(op, [0, 1]), (rows, columns), None))


def bias_gradient(terms: int, channels: int) -> SumShape:
    return SumShape(
        f"[{terms},{channels}]",
        _reduction("BiasAddGrad", lambda x: tf.raw_ops.BiasAddGrad(out_backprop=x), (terms, channels), 0),
    )
