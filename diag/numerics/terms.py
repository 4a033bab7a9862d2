"""The terms that single elements of a contraction add up, written out one by one.

A product or a convolution is many dot products.  Written out for a sample of elements, any hypothesis
about how they were summed (in which order, in which format, with what left out) is a line of NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Wide = npt.NDArray[np.float64]
Axes = tuple[tuple[str, int], ...]
Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Terms:
    """Element e is weight * sum over t of left[e, t] * right[e, t].

    left, right: float64, (elements, terms); a place outside the image is a zero of `left`.
    axes: name and length of what the terms run over, the outermost first, as they lie in memory.
    """

    left: Wide
    right: Wide
    axes: Axes
    weight: float = 1.0

    @property
    def products(self) -> Wide:
        result: Wide = self.left * self.right
        return result

    def along(self, names: Sequence[str]) -> Wide:
        """Contributions to each element by index along some adjacent axes, (elements, their joint length)."""
        lengths = [length for _, length in self.axes]
        kept = [name in names for name, _ in self.axes]
        joint = math.prod(length for length, keep in zip(lengths, kept, strict=True) if keep)
        dropped = tuple(axis + 1 for axis, keep in enumerate(kept) if not keep)
        products = (self.weight * self.products).reshape(-1, *lengths)
        result: Wide = products.sum(axis=dropped).reshape(-1, joint)
        return result


def unraveled(flat: npt.NDArray[np.intp], shape: Sequence[int]) -> npt.NDArray[np.intp]:
    """The indices, (elements, axes), of elements counted in the order of memory; a scalar has no axes."""
    if not len(shape):
        return np.zeros((len(flat), 0), np.intp)
    return np.stack(np.unravel_index(flat, shape), axis=1)


def terms_of(
    op_type: str, inputs: Sequence[Array], attrs: Attributes, shape: Sequence[int], elements: npt.NDArray[np.intp]
) -> Terms | None:
    """The terms of some elements of an op's one output; None for ops that are not written out here.

    Args:
        inputs: float64 where floating, integers as they are.
        attrs: of the op, strings as str.
        shape: of the output.
        elements: their indices, (elements, axes of the output).
    """
    written_out = _WRITTEN_OUT.get(op_type)
    return None if written_out is None else written_out(inputs, attrs, tuple(shape), np.asarray(elements))


# -- products of matrices --------------------------------------------------------------------------


MATRIX_PRODUCTS = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")


def are_transposed(attrs: Attributes) -> tuple[bool, bool]:
    """Whether the factors of a matrix product are."""
    return bool(attrs.get("transpose_a") or attrs.get("adj_x")), bool(attrs.get("transpose_b") or attrs.get("adj_y"))


def factors_of(inputs: Sequence[Array], attrs: Attributes) -> tuple[Array, Array]:
    """What a matrix product multiplies, (..., m, k) and (..., k, n)."""
    a, b = (np.swapaxes(x, -1, -2) if flip else x for x, flip in zip(inputs, are_transposed(attrs), strict=True))
    return a, b


def _matrix_product(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array) -> Terms:
    a, b = factors_of(inputs, attrs)
    batch = shape[:-2]
    a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = np.broadcast_to(b, (*batch, *b.shape[-2:]))
    leading = tuple(at[:, axis] for axis in range(len(batch)))
    left = a[(*leading, at[:, -2])]
    right = np.swapaxes(b, -1, -2)[(*leading, at[:, -1])]
    return Terms(left, right, (("inner dimension", a.shape[-1]),))


def _einsum(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array) -> Terms | None:
    equation = str(attrs["equation"]).replace(" ", "")
    operands, _, result = equation.partition("->")
    labels = operands.split(",")
    if len(labels) != 2 or "." in equation or any(len(set(each)) != len(each) for each in (*labels, result)):
        return None
    sizes = {label: size for each, x in zip(labels, inputs, strict=True) for label, size in zip(each, x.shape)}  # noqa: B905
    summed = [label for label in sizes if label not in result]
    lengths = [sizes[label] for label in summed]
    grid = np.stack(np.unravel_index(np.arange(math.prod(lengths)), lengths)) if summed else np.zeros((0, 1), int)
    index = {label: at[:, axis, None] for axis, label in enumerate(result)}
    index |= {label: grid[axis][None] for axis, label in enumerate(summed)}
    left, right = (
        np.broadcast_to(x[tuple(index[label] for label in each)], (len(at), grid.shape[1]))
        for x, each in zip(inputs, labels, strict=True)
    )
    return Terms(left, right, tuple((f"index {label}", length) for label, length in zip(summed, lengths, strict=True)))


# -- plain sums ------------------------------------------------------------------------------------


def _over_axes(x: Array, axes: Sequence[int], at: Array, weight: float = 1.0, names: Sequence[str] = ()) -> Terms:
    """Sums of x over some axes; `at` indexes the others."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    moved = np.transpose(x, (*kept, *axes))
    left = moved[tuple(at[:, i] for i in range(len(kept)))] if kept else moved[None]
    left = left.reshape(max(len(at), 1), -1)
    named = [names[axis] if names else f"axis {axis}" for axis in axes]
    lengths = [x.shape[axis] for axis in axes]
    return Terms(left, np.ones_like(left), tuple(zip(named, lengths, strict=True)), weight)


def _reduction(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array, mean: bool) -> Terms:
    x = inputs[0]
    axes = sorted({int(axis) % max(x.ndim, 1) for axis in np.atleast_1d(inputs[1])})
    if attrs.get("keep_dims"):
        at = np.delete(at, axes, axis=1)
    count = math.prod(x.shape[axis] for axis in axes)
    return _over_axes(x, axes, at, 1.0 / count if mean and count else 1.0)


def _sum(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array) -> Terms:
    return _reduction(inputs, attrs, shape, at, mean=False)


def _mean(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array) -> Terms:
    return _reduction(inputs, attrs, shape, at, mean=True)


def _bias_gradient(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array) -> Terms:
    x = inputs[0]
    channel = 1 if str(attrs.get("data_format", "NHWC")).startswith("NC") else x.ndim - 1
    axes = [axis for axis in range(x.ndim) if axis != channel]
    names = ["batch", "height", "width"] if x.ndim == 4 and channel == 3 else ()
    return _over_axes(x, axes, at, names=[*names, "channel"] if names else ())


def _sum_of_tensors(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array) -> Terms:
    left = np.stack([x[tuple(at.T)] for x in inputs], axis=-1).reshape(max(len(at), 1), -1)
    return Terms(left, np.ones_like(left), (("input", len(inputs)),))


def _segment_sum(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array) -> Terms:
    """Of all rows, those of other segments as zeros."""
    data, segments = inputs[0], inputs[1].reshape(-1)
    rows = data.reshape(len(segments), *shape[1:])[(slice(None), *at[:, 1:].T)]  # (rows, elements)
    left = np.where(segments == at[:, :1], rows.T if at.shape[1] > 1 else rows, 0.0)
    return Terms(left, np.ones_like(left), (("row", len(segments)),))


# -- convolutions ----------------------------------------------------------------------------------
#
# Images are (batch, *space, channels), kernels (*space, channels in, channels out), both with channels last.


@dataclass(frozen=True)
class _Window:
    """How a kernel moves over an image, one number a spatial axis."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    output: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]

    @property
    def axes(self) -> range:
        return range(len(self.image))

    def reads(self, axis: int, output: Array, tap: Array) -> Array:
        """Which place of the image an output reads through a tap of the kernel; outside, there are zeros."""
        result: Array = output * self.strides[axis] + tap * self.dilations[axis] - self.before[axis]
        return result

    def writers(self, axis: int, place: Array, tap: Array) -> tuple[Array, Array]:
        """Which output reads a place of the image through a tap, and whether there is one."""
        reach = place + self.before[axis] - tap * self.dilations[axis]
        output = reach // self.strides[axis]
        exists = (reach % self.strides[axis] == 0) & (output >= 0) & (output < self.output[axis])
        return np.where(exists, output, 0), exists


def _window(attrs: Attributes, image: Sequence[int], kernel: Sequence[int], output: Sequence[int]) -> _Window:
    """Of the spatial sizes alone; attributes are in the order of the data format."""
    first = 2 if _channels_first(attrs) else 1
    num = len(image)
    strides = tuple(int(s) for s in attrs["strides"][first : first + num])
    dilations = tuple(int(d) for d in (attrs.get("dilations") or [1] * (num + 2))[first : first + num])
    before = [0] * num
    if attrs["padding"] == "SAME":
        for axis in range(num):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            before[axis] = max((output[axis] - 1) * strides[axis] + reach - image[axis], 0) // 2
    elif attrs["padding"] == "EXPLICIT":
        before = [int(attrs["explicit_paddings"][2 * (first + axis)]) for axis in range(num)]
    return _Window(tuple(image), tuple(kernel), tuple(output), strides, dilations, tuple(before))


def _channels_first(attrs: Attributes) -> bool:
    return str(attrs.get("data_format", "NHWC")).startswith("NC")


def _channels_last(x: Array, attrs: Attributes) -> Array:
    return np.moveaxis(x, 1, -1) if _channels_first(attrs) else x


def _elements_last(at: Array, attrs: Attributes) -> Array:
    return np.concatenate([at[:, :1], at[:, 2:], at[:, 1:2]], axis=1) if _channels_first(attrs) else at


def _spatial(names: Sequence[str], num: int) -> list[str]:
    return list(names) if num == 2 else ["depth", *names] if num == 3 else [f"space {axis}" for axis in range(num)]


def _one_axis(position: int, num: int) -> tuple[int, ...]:
    return (1, *(-1 if axis == position else 1 for axis in range(num)))


def _tap(length: int, position: int, num: int) -> Array:
    return np.arange(length).reshape(_one_axis(position, num))


def _column(values: Array, num: int) -> Array:
    return values.reshape(-1, *[1] * num)


def _gathered(image: Array, batch: Array, places: Sequence[Array], channel: Array) -> Wide:
    """image[batch, *places, channel], zero where a place is outside."""
    inside: Array = np.asarray(True)
    clipped = []
    for place, size in zip(places, image.shape[1:-1], strict=True):
        inside = inside & (place >= 0) & (place < size)
        clipped.append(np.clip(place, 0, size - 1))
    return np.where(inside, image[(batch, *clipped, channel)], 0.0)


def _flat(left: Array, right: Array, lengths: Sequence[int], names: Sequence[str], num_elements: int) -> Terms:
    shape = (num_elements, *lengths)
    left, right = (np.broadcast_to(x, shape).reshape(num_elements, -1) for x in (left, right))
    return Terms(left, right, tuple(zip(names, lengths, strict=True)))


def _convolution(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array) -> Terms | None:
    image, kernel = _channels_last(inputs[0], attrs), inputs[1]
    at, output = _elements_last(at, attrs), _shape_last(shape, attrs)
    groups = image.shape[-1] // kernel.shape[-2]
    if groups * kernel.shape[-2] != image.shape[-1]:
        return None
    window = _window(attrs, image.shape[1:-1], kernel.shape[:-2], output[1:-1])
    num = len(window.axes) + 1
    taps = [_tap(size, axis, num) for axis, size in enumerate(window.kernel)]
    channel_in = _tap(kernel.shape[-2], num - 1, num)
    places = [window.reads(axis, _column(at[:, axis + 1], num), taps[axis]) for axis in window.axes]
    out = _column(at[:, -1], num)
    first = out // (kernel.shape[-1] // groups) * kernel.shape[-2]
    left = _gathered(image, _column(at[:, 0], num), places, first + channel_in)
    right = kernel[(*taps, channel_in, out)]
    names = [*_spatial(("kernel height", "kernel width"), num - 1), "input channel"]
    return _flat(left, right, [*window.kernel, kernel.shape[-2]], names, len(at))


def _depthwise(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array) -> Terms:
    image, kernel = _channels_last(inputs[0], attrs), inputs[1]
    at, output = _elements_last(at, attrs), _shape_last(shape, attrs)
    window = _window(attrs, image.shape[1:-1], kernel.shape[:-2], output[1:-1])
    taps = [_tap(size, axis, 2) for axis, size in enumerate(window.kernel)]
    places = [window.reads(axis, _column(at[:, axis + 1], 2), taps[axis]) for axis in window.axes]
    channel, multiple = (_column(x, 2) for x in np.divmod(at[:, -1], kernel.shape[-1]))
    left = _gathered(image, _column(at[:, 0], 2), places, channel)
    return _flat(left, kernel[(*taps, channel, multiple)], window.kernel, ("kernel height", "kernel width"), len(at))


def _convolution_to_image(
    inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array
) -> Terms | None:
    _, kernel, upstream = inputs
    upstream, at = _channels_last(upstream, attrs), _elements_last(at, attrs)
    image = _shape_last(shape, attrs)
    if image[-1] != kernel.shape[-2]:
        return None
    window = _window(attrs, image[1:-1], kernel.shape[:-2], upstream.shape[1:-1])
    num = len(window.axes) + 1
    taps = [_tap(size, axis, num) for axis, size in enumerate(window.kernel)]
    out = _tap(kernel.shape[-1], num - 1, num)
    found = [window.writers(axis, _column(at[:, axis + 1], num), taps[axis]) for axis in window.axes]
    exists = np.logical_and.reduce(np.broadcast_arrays(*(each for _, each in found)))
    left = np.where(exists, upstream[(_column(at[:, 0], num), *(place for place, _ in found), out)], 0.0)
    right = kernel[(*taps, _column(at[:, -1], num), out)]
    names = [*_spatial(("kernel height", "kernel width"), num - 1), "output channel"]
    return _flat(left, right, [*window.kernel, kernel.shape[-1]], names, len(at))


def _depthwise_to_image(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array) -> Terms:
    _, kernel, upstream = inputs
    upstream, at = _channels_last(upstream, attrs), _elements_last(at, attrs)
    window = _window(attrs, _shape_last(shape, attrs)[1:-1], kernel.shape[:-2], upstream.shape[1:-1])
    taps = [_tap(size, axis, 3) for axis, size in enumerate(window.kernel)]
    multiple, channel = _tap(kernel.shape[-1], 2, 3), _column(at[:, -1], 3)
    found = [window.writers(axis, _column(at[:, axis + 1], 3), taps[axis]) for axis in window.axes]
    exists = found[0][1] & found[1][1]
    out = channel * kernel.shape[-1] + multiple
    left = np.where(exists, upstream[(_column(at[:, 0], 3), *(place for place, _ in found), out)], 0.0)
    names = ("kernel height", "kernel width", "channel multiplier")
    return _flat(left, kernel[(*taps, channel, multiple)], [*window.kernel, kernel.shape[-1]], names, len(at))


def _to_kernel(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array) -> Terms | None:
    return _kernel_gradient(inputs, attrs, shape, at, lambda at: at[:, -1])


def _depthwise_to_kernel(inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array) -> Terms | None:
    return _kernel_gradient(inputs, attrs, shape, at, lambda at: at[:, -2] * shape[-1] + at[:, -1], is_depthwise=True)


def _kernel_gradient(
    inputs: Sequence[Array], attrs: Attributes, shape: tuple[int, ...], at: Array,
    channel_out: Callable[[Array], Array], is_depthwise: bool = False,
) -> Terms | None:  # fmt: skip
    image, upstream = _channels_last(inputs[0], attrs), _channels_last(inputs[2], attrs)
    if not is_depthwise and image.shape[-1] != shape[-2]:
        return None
    window = _window(attrs, image.shape[1:-1], shape[:-2], upstream.shape[1:-1])
    num = len(window.axes) + 1
    batch = _tap(len(image), 0, num)
    outputs = [_tap(size, axis + 1, num) for axis, size in enumerate(window.output)]
    places = [window.reads(axis, outputs[axis], _column(at[:, axis], num)) for axis in window.axes]
    left = _gathered(image, batch, places, _column(at[:, -2], num))
    right = upstream[(batch, *outputs, _column(channel_out(at), num))]
    names = ["batch", *_spatial(("height", "width"), num - 1)]
    return _flat(left, right, [len(image), *window.output], names, len(at))


def _shape_last(shape: tuple[int, ...], attrs: Attributes) -> tuple[int, ...]:
    return (shape[0], *shape[2:], shape[1]) if _channels_first(attrs) else shape


_WRITTEN_OUT: dict[str, Callable[[Sequence[Array], Attributes, tuple[int, ...], Array], Terms | None]] = {
    **dict.fromkeys(MATRIX_PRODUCTS, _matrix_product),
    "Einsum": _einsum,
    "Sum": _sum,
    "Mean": _mean,
    "BiasAddGrad": _bias_gradient,
    "AddN": _sum_of_tensors,
    **dict.fromkeys(("SegmentSum", "SegmentSumV2", "UnsortedSegmentSum"), _segment_sum),
    **dict.fromkeys(("Conv2D", "Conv3D"), _convolution),
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), _convolution_to_image),
    **dict.fromkeys(("Conv2DBackpropFilter", "Conv3DBackpropFilterV2"), _to_kernel),
    "DepthwiseConv2dNative": _depthwise,
    "DepthwiseConv2dNativeBackpropInput": _depthwise_to_image,
    "DepthwiseConv2dNativeBackpropFilter": _depthwise_to_kernel,
}
