"""Convolutions and pooling of integers in NumPy: one loop over the taps of a kernel, for any number of axes.

Arrays are int64 or float64, which hold every integer here; channels come last.  Nothing is shared with
the simulated faults' own convolutions (diag/engine/simulated), nor with TensorFlow's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Array = np.ndarray
Pads = Sequence[tuple[int, int]]


def pads_of(
    padding: str | Pads, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """Zeros before and after each spatial axis."""
    if not isinstance(padding, str):
        return list(padding)
    if padding == "VALID":
        return [(0, 0)] * len(sizes)
    made = []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        missing = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
        made.append((missing // 2, missing - missing // 2))
    return made


def output_sizes(
    pads: Pads, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    return [
        max((size + sum(pad) - (taps - 1) * dilation - 1) // stride + 1, 0)
        for pad, size, taps, stride, dilation in zip(pads, sizes, kernel, strides, dilations, strict=True)
    ]


def taps(
    kernel: Sequence[int], outputs: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each position in a kernel, and the part of the padded image that it meets."""
    for tap in itertools.product(*map(range, kernel)):
        yield (
            tap,
            (
                slice(None),
                *(
                    slice(at * dilation, at * dilation + (count - 1) * stride + 1 if count else 0, stride)
                    for at, dilation, count, stride in zip(tap, dilations, outputs, strides, strict=True)
                ),
            ),
        )


def padded(x: Array, pads: Pads, value: float = 0.0) -> Array:
    return np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=value)


def convolution(
    x: Array, w: Array, strides: Sequence[int], padding: str | Pads, dilations: Sequence[int], groups: int = 1
) -> Array:
    """(batch, *sizes, inputs) with (*kernel, inputs / groups, outputs)."""
    kernel, sizes = w.shape[:-2], x.shape[1:-1]
    pads = pads_of(padding, sizes, kernel, strides, dilations)
    outputs = output_sizes(pads, sizes, kernel, strides, dilations)
    image, result = padded(x, pads), np.zeros((len(x), *outputs, w.shape[-1]))
    for tap, where in taps(kernel, outputs, strides, dilations):
        for mine, theirs in _groups(groups, x.shape[-1], w.shape[-1]):
            result[..., theirs] += image[where][..., mine] @ w[tap][:, theirs]
    return result


def gradient_to_image(
    upstream: Array,
    w: Array,
    image_shape: Sequence[int],
    strides: Sequence[int],
    padding: str | Pads,
    dilations: Sequence[int],
    groups: int = 1,
) -> Array:
    """Of `convolution` with respect to x, which has `image_shape`."""
    kernel, sizes = w.shape[:-2], image_shape[1:-1]
    pads = pads_of(padding, sizes, kernel, strides, dilations)
    image = padded(np.zeros(image_shape), pads)
    for tap, where in taps(kernel, upstream.shape[1:-1], strides, dilations):
        for mine, theirs in _groups(groups, image_shape[-1], w.shape[-1]):
            image[(*where, mine)] += upstream[..., theirs] @ w[tap][:, theirs].T
    inner = [slice(before, before + size) for (before, _), size in zip(pads, sizes, strict=True)]
    return image[(slice(None), *inner)]


def gradient_to_kernel(
    x: Array,
    upstream: Array,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    padding: str | Pads,
    dilations: Sequence[int],
    groups: int = 1,
) -> Array:
    """Of `convolution` with respect to w, which has `kernel_shape`."""
    kernel, sizes = kernel_shape[:-2], x.shape[1:-1]
    image = padded(x, pads_of(padding, sizes, kernel, strides, dilations))
    result = np.zeros(kernel_shape)
    for tap, where in taps(kernel, upstream.shape[1:-1], strides, dilations):
        seen = image[where].reshape(-1, x.shape[-1])
        for mine, theirs in _groups(groups, x.shape[-1], kernel_shape[-1]):
            incoming = upstream[..., theirs].reshape(len(seen), theirs.stop - theirs.start)
            result[tap][:, theirs] = seen[:, mine].T @ incoming
    return result


def depthwise(x: Array, w: Array, strides: Sequence[int], padding: str | Pads, dilations: Sequence[int]) -> Array:
    """(batch, *sizes, channels) with (*kernel, channels, multiplier); output channel c * multiplier + m."""
    kernel, sizes = w.shape[:-2], x.shape[1:-1]
    pads = pads_of(padding, sizes, kernel, strides, dilations)
    outputs = output_sizes(pads, sizes, kernel, strides, dilations)
    image, result = padded(x, pads), np.zeros((len(x), *outputs, *w.shape[-2:]))
    for tap, where in taps(kernel, outputs, strides, dilations):
        result += image[where][..., None] * w[tap]
    return result.reshape(*result.shape[:-2], w.shape[-2] * w.shape[-1])


def depthwise_to_image(
    upstream: Array,
    w: Array,
    image_shape: Sequence[int],
    strides: Sequence[int],
    padding: str | Pads,
    dilations: Sequence[int],
) -> Array:
    kernel, sizes = w.shape[:-2], image_shape[1:-1]
    pads = pads_of(padding, sizes, kernel, strides, dilations)
    image, parts = padded(np.zeros(image_shape), pads), upstream.reshape(*upstream.shape[:-1], *w.shape[-2:])
    for tap, where in taps(kernel, upstream.shape[1:-1], strides, dilations):
        image[where] += (parts * w[tap]).sum(-1)
    inner = [slice(before, before + size) for (before, _), size in zip(pads, sizes, strict=True)]
    return image[(slice(None), *inner)]


def depthwise_to_kernel(
    x: Array,
    upstream: Array,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    padding: str | Pads,
    dilations: Sequence[int],
) -> Array:
    kernel, sizes = kernel_shape[:-2], x.shape[1:-1]
    image = padded(x, pads_of(padding, sizes, kernel, strides, dilations))
    parts, result = upstream.reshape(*upstream.shape[:-1], *kernel_shape[-2:]), np.zeros(kernel_shape)
    for tap, where in taps(kernel, upstream.shape[1:-1], strides, dilations):
        result[tap] = (image[where][..., None] * parts).sum(tuple(range(x.ndim - 1)))
    return result


def _groups(groups: int, num_inputs: int, num_outputs: int) -> Iterator[tuple[slice, slice]]:
    inputs, outputs = num_inputs // groups, num_outputs // groups
    for group in range(groups):
        yield slice(group * inputs, (group + 1) * inputs), slice(group * outputs, (group + 1) * outputs)


def windows(
    x: Array, window: Sequence[int], strides: Sequence[int], padding: str, outside: float
) -> tuple[list[tuple[Array, tuple[slice, ...]]], list[int], list[tuple[int, int]]]:
    """For each position in a pooling window its values over all windows; the output's sizes; the padding."""
    ones = [1] * len(window)
    pads = pads_of(padding, x.shape[1:-1], window, strides, ones)
    outputs = output_sizes(pads, x.shape[1:-1], window, strides, ones)
    image = padded(x, pads, outside)
    return [(image[where], where) for _, where in taps(window, outputs, strides, ones)], outputs, pads


def max_pool(x: Array, window: Sequence[int], strides: Sequence[int], padding: str) -> Array:
    seen, _, _ = windows(x, window, strides, padding, -np.inf)
    return np.max([values for values, _ in seen], axis=0)


def average_pool(x: Array, window: Sequence[int], strides: Sequence[int], padding: str) -> Array:
    """What lies outside the image is not counted."""
    seen, _, _ = windows(x, window, strides, padding, 0.0)
    there, _, _ = windows(np.ones_like(x), window, strides, padding, 0.0)
    return np.sum([values for values, _ in seen], axis=0) / np.sum([values for values, _ in there], axis=0)


def max_pool_gradient(x: Array, upstream: Array, window: Sequence[int], strides: Sequence[int], padding: str) -> Array:
    """Every window hands its gradient to its largest element; there must be no ties."""
    seen, _, pads = windows(x, window, strides, padding, -np.inf)
    largest = np.max([values for values, _ in seen], axis=0)
    return _handed_out(x, pads, ((where, upstream * (values == largest)) for values, where in seen))


def average_pool_gradient(
    image_shape: Sequence[int], upstream: Array, window: Sequence[int], strides: Sequence[int], padding: str
) -> Array:
    seen, _, pads = windows(np.ones(image_shape), window, strides, padding, 0.0)
    count = np.sum([values for values, _ in seen], axis=0)
    return _handed_out(np.zeros(image_shape), pads, ((where, upstream / count) for _, where in seen))


def _handed_out(x: Array, pads: Pads, parts: Iterator[tuple[tuple[slice, ...], Array]]) -> Array:
    image = padded(np.zeros_like(x), pads)
    for where, part in parts:
        image[where] += part
    inner = [slice(before, before + size) for (before, _), size in zip(pads, x.shape[1:-1], strict=True)]
    return image[(slice(None), *inner)]


def on_channels_last(oracle: Callable[..., Array], *images: Array) -> Array:
    """An oracle of channels-last images, for images (batch, channels, *sizes)."""
    return np.moveaxis(oracle(*(np.moveaxis(image, 1, -1) for image in images)), -1, 1)
