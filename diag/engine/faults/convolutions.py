"""Conv2D as a matrix product of patches, for places that sum in an order or a format of their own.

Images are (batch, height, width, channels), kernels (height, width, channels, outputs).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from diag.engine.faults.simulation import Call


@dataclass(frozen=True)
class Axis:
    """One spatial axis: sizes of image and kernel, and how the kernel moves along it."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def reach(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    @property
    def outputs(self) -> int:
        return (self.size + self.before + self.after - self.reach) // self.stride + 1


Geometry = tuple[Axis, Axis]


def geometry(call: Call, image: tuple[int, ...], kernel: tuple[int, ...]) -> Geometry | None:
    """Of a Conv2D or one of its gradients, for shapes of image and kernel.

    None where channels come first or are grouped.
    """
    if call.attrs["data_format"] != "NHWC" or image[3] != kernel[2]:
        return None
    axes = []
    for axis in (1, 2):
        size, reach_of, stride = image[axis], kernel[axis - 1], call.attrs["strides"][axis]
        dilation = call.attrs["dilations"][axis]
        before, after = 0, 0
        if call.attrs["padding"] == "SAME":
            missing = max((-(-size // stride) - 1) * stride + (reach_of - 1) * dilation + 1 - size, 0)
            before, after = missing // 2, missing - missing // 2
        elif call.attrs["padding"] == "EXPLICIT":
            before, after = call.attrs["explicit_paddings"][2 * axis : 2 * axis + 2]
        axes.append(Axis(size, reach_of, stride, dilation, before, after))
    return axes[0], axes[1]


def patches(image: np.ndarray, where: Geometry) -> np.ndarray:
    """(batch, rows out, columns out, kernel height, kernel width, channels), a view of the padded image.

    Negative padding crops.
    """
    rows, columns = where
    padded = np.pad(image, [(0, 0), *((max(axis.before, 0), max(axis.after, 0)) for axis in where), (0, 0)])
    top, left, below, right = (max(-cut, 0) for cut in (rows.before, columns.before, rows.after, columns.after))
    padded = padded[:, top : padded.shape[1] - below, left : padded.shape[2] - right]
    windows = sliding_window_view(padded, (rows.reach, columns.reach), axis=(1, 2))  # type: ignore[call-overload]
    moved = windows[:, :: rows.stride, :: columns.stride, :, :: rows.dilation, :: columns.dilation]
    return np.moveaxis(moved, 3, 5)  # type: ignore[no-any-return]


def as_input_gradient(upstream: np.ndarray, kernel: np.ndarray, where: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """The convolution that is the gradient to the image: (its patches, its kernel).

    The upstream gradient with zeros between its elements, and the kernel turned round.
    """
    spread = np.zeros(
        (len(upstream), *((a.outputs - 1) * a.stride + 1 for a in where), upstream.shape[3]), upstream.dtype
    )
    spread[:, :: where[0].stride, :: where[1].stride] = upstream
    turned = np.swapaxes(kernel[::-1, ::-1], 2, 3)
    axes = []
    for axis, size in zip(where, spread.shape[1:3], strict=True):
        before = axis.reach - 1 - axis.before
        axes.append(Axis(size, axis.kernel, 1, axis.dilation, before, axis.size + axis.reach - 1 - before - size))
    return patches(spread, (axes[0], axes[1])), turned
