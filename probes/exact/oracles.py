"""Convolutions and pooling of integers in NumPy: one loop over the taps of a kernel, for any number of axes.

Arrays are int64 or float64, which hold every integer here; channels come last.  Nothing is shared with
the simulated faults' own convolutions (diag/engine/faults), nor with TensorFlow's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Pads = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Geometry:
    """How a kernel moves over an image: strides and dilations, a number for each spatial axis.

    padding: SAME, VALID, or the zeros before and after each axis.
    """

    strides: Sequence[int]
    padding: str | Pads
    dilations: Sequence[int]
    groups: int = 1

    def pads(self, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
        """Zeros before and after each spatial axis."""
        if not isinstance(self.padding, str):
            return list(self.padding)
        if self.padding == "VALID":
            return [(0, 0)] * len(sizes)
        pads = []
        for size, taps, stride, dilation in zip(sizes, kernel, self.strides, self.dilations, strict=True):
            missing = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
            pads.append((missing // 2, missing - missing // 2))
        return pads

    def outputs(self, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """Sizes of the result."""
        axes = zip(self.pads(sizes, kernel), sizes, kernel, self.strides, self.dilations, strict=True)
        return [max((size + sum(pad) - (k - 1) * gap - 1) // stride + 1, 0) for pad, size, k, stride, gap in axes]

    def taps(
        self, kernel: Sequence[int], outputs: Sequence[int]
    ) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Each position in a kernel, and the part of the padded image that it meets."""
        for tap in itertools.product(*map(range, kernel)):
            axes = zip(tap, self.dilations, outputs, self.strides, strict=True)
            slices = (
                slice(at * gap, at * gap + (count - 1) * stride + 1 if count else 0, stride)
                for at, gap, count, stride in axes
            )
            yield tap, (slice(None), *slices)


def padded(x: Array, pads: Pads, value: float = 0.0) -> Array:
    return np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=value)


def unpadded(x: Array, pads: Pads, sizes: Sequence[int]) -> Array:
    inner = (slice(before, before + size) for (before, _), size in zip(pads, sizes, strict=True))
    return x[(slice(None), *inner)]


def convolution(x: Array, w: Array, geometry: Geometry) -> Array:
    """(batch, *sizes, inputs) with (*kernel, inputs / groups, outputs)."""
    kernel, sizes = w.shape[:-2], x.shape[1:-1]
    outputs = geometry.outputs(sizes, kernel)
    image, result = padded(x, geometry.pads(sizes, kernel)), np.zeros((len(x), *outputs, w.shape[-1]))
    for tap, where in geometry.taps(kernel, outputs):
        for inputs, results in _groups(geometry.groups, x.shape[-1], w.shape[-1]):
            result[..., results] += image[where][..., inputs] @ w[tap][:, results]
    return result


def gradient_to_image(upstream: Array, w: Array, image_shape: Sequence[int], geometry: Geometry) -> Array:
    """Of `convolution` with respect to x, which has `image_shape`."""
    kernel, sizes = w.shape[:-2], image_shape[1:-1]
    pads = geometry.pads(sizes, kernel)
    image = padded(np.zeros(image_shape), pads)
    for tap, where in geometry.taps(kernel, upstream.shape[1:-1]):
        for inputs, results in _groups(geometry.groups, image_shape[-1], w.shape[-1]):
            image[(*where, inputs)] += upstream[..., results] @ w[tap][:, results].T
    return unpadded(image, pads, sizes)


def gradient_to_kernel(x: Array, upstream: Array, kernel_shape: Sequence[int], geometry: Geometry) -> Array:
    """Of `convolution` with respect to w, which has `kernel_shape`."""
    kernel = kernel_shape[:-2]
    image, result = padded(x, geometry.pads(x.shape[1:-1], kernel)), np.zeros(kernel_shape)
    for tap, where in geometry.taps(kernel, upstream.shape[1:-1]):
        met = image[where].reshape(-1, x.shape[-1])
        for inputs, results in _groups(geometry.groups, x.shape[-1], kernel_shape[-1]):
            incoming = upstream[..., results].reshape(len(met), results.stop - results.start)
            result[tap][:, results] = met[:, inputs].T @ incoming
    return result


def depthwise(x: Array, w: Array, geometry: Geometry) -> Array:
    """(batch, *sizes, channels) with (*kernel, channels, multiplier); output channel c * multiplier + m."""
    kernel, sizes = w.shape[:-2], x.shape[1:-1]
    outputs = geometry.outputs(sizes, kernel)
    image, result = padded(x, geometry.pads(sizes, kernel)), np.zeros((len(x), *outputs, *w.shape[-2:]))
    for tap, where in geometry.taps(kernel, outputs):
        result += image[where][..., None] * w[tap]
    return result.reshape(*result.shape[:-2], w.shape[-2] * w.shape[-1])


def depthwise_to_image(upstream: Array, w: Array, image_shape: Sequence[int], geometry: Geometry) -> Array:
    kernel, sizes = w.shape[:-2], image_shape[1:-1]
    pads = geometry.pads(sizes, kernel)
    image, parts = padded(np.zeros(image_shape), pads), upstream.reshape(*upstream.shape[:-1], *w.shape[-2:])
    for tap, where in geometry.taps(kernel, upstream.shape[1:-1]):
        image[where] += (parts * w[tap]).sum(-1)
    return unpadded(image, pads, sizes)


def depthwise_to_kernel(x: Array, upstream: Array, kernel_shape: Sequence[int], geometry: Geometry) -> Array:
    kernel = kernel_shape[:-2]
    image = padded(x, geometry.pads(x.shape[1:-1], kernel))
    parts, result = upstream.reshape(*upstream.shape[:-1], *kernel_shape[-2:]), np.zeros(kernel_shape)
    for tap, where in geometry.taps(kernel, upstream.shape[1:-1]):
        result[tap] = (image[where][..., None] * parts).sum(tuple(range(x.ndim - 1)))
    return result


def _groups(groups: int, num_inputs: int, num_outputs: int) -> Iterator[tuple[slice, slice]]:
    inputs, outputs = num_inputs // groups, num_outputs // groups
    for group in range(groups):
        yield slice(group * inputs, (group + 1) * inputs), slice(group * outputs, (group + 1) * outputs)


def windows(
    x: Array, window: Sequence[int], strides: Sequence[int], padding: str, outside: float
) -> tuple[list[tuple[Array, tuple[slice, ...]]], list[tuple[int, int]]]:
    """For each position in a pooling window its values over all windows, and where they lie; the padding."""
    geometry, sizes = Geometry(strides, padding, [1] * len(window)), x.shape[1:-1]
    pads = geometry.pads(sizes, window)
    image = padded(x, pads, outside)
    return [(image[where], where) for _, where in geometry.taps(window, geometry.outputs(sizes, window))], pads


def max_pool(x: Array, window: Sequence[int], strides: Sequence[int], padding: str) -> Array:
    met, _ = windows(x, window, strides, padding, -np.inf)
    return np.max([values for values, _ in met], axis=0)


def average_pool(x: Array, window: Sequence[int], strides: Sequence[int], padding: str) -> Array:
    """What lies outside the image is not counted."""
    met, _ = windows(x, window, strides, padding, 0.0)
    there, _ = windows(np.ones_like(x), window, strides, padding, 0.0)
    return np.sum([values for values, _ in met], axis=0) / np.sum([values for values, _ in there], axis=0)


def max_pool_gradient(x: Array, upstream: Array, window: Sequence[int], strides: Sequence[int], padding: str) -> Array:
    """Every window hands its gradient to its largest element; there must be no ties."""
    met, pads = windows(x, window, strides, padding, -np.inf)
    largest = np.max([values for values, _ in met], axis=0)
    return _handed_out(x, pads, ((where, upstream * (values == largest)) for values, where in met))


def average_pool_gradient(
    image_shape: Sequence[int], upstream: Array, window: Sequence[int], strides: Sequence[int], padding: str
) -> Array:
    met, pads = windows(np.ones(image_shape), window, strides, padding, 0.0)
    count = np.sum([values for values, _ in met], axis=0)
    return _handed_out(np.zeros(image_shape), pads, ((where, upstream / count) for _, where in met))


def _handed_out(x: Array, pads: Pads, parts: Iterator[tuple[tuple[slice, ...], Array]]) -> Array:
    image = padded(np.zeros_like(x), pads)
    for where, part in parts:
        image[where] += part
    return unpadded(image, pads, x.shape[1:-1])
