"""Convolution by Winograd's minimal filtering, F(4x4, 3x3): right in norm, not per element.

Lavin and Gray 2015, "Fast algorithms for convolutional neural networks", section 4.3.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from diag.engine.faults.convolutions import geometry
from diag.engine.faults.simulation import Call, Simulation

_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)  # B^T
_KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float32,
)  # G
_OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32
)  # A^T
_TILE, _INPUT_TILE = 4, 6
_CHANNELS = 32


def winograd_4x4() -> Simulation:
    """3x3 convolutions of stride 1 and their kernels' gradients, with channels in and out in multiples of 32."""
    return Simulation("winograd-4x4", _winograd, op_types=frozenset({"Conv2D", "Conv2DBackpropFilter"}))


def _winograd(call: Call) -> list[np.ndarray] | None:
    is_gradient = call.op_type == "Conv2DBackpropFilter"
    image, shape = call.inputs[0], (call.outputs[0] if is_gradient else call.inputs[1]).shape
    where = geometry(call, image.shape, shape)
    if where is None or call.outputs[0].dtype != np.float32:
        return None
    if any((axis.kernel, axis.stride, axis.dilation) != (3, 1, 1) for axis in where):
        return None
    if shape[2] % _CHANNELS or shape[3] % _CHANNELS:
        return None
    # Padded at the far sides, too, to a whole number of tiles.
    pads = [(axis.before, axis.after + -axis.outputs % _TILE) for axis in where]
    padded = np.pad(image, [(0, 0), *pads, (0, 0)])
    if is_gradient:
        return [_gradient(padded, np.pad(call.inputs[2], [(0, 0), *((0, -a.outputs % _TILE) for a in where), (0, 0)]))]
    return [filtered(padded, call.inputs[1])[:, : where[0].outputs, : where[1].outputs]]


def filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A 3x3 convolution without padding, to sides that are multiples of 4; all in float32."""
    seen = _seen(image)
    weights = np.moveaxis(_KERNEL @ np.moveaxis(kernel, (0, 1), (2, 3)) @ _KERNEL.T, (2, 3), (0, 1))
    products = seen @ weights[:, :, None, None]  # (6, 6, batch, tile rows, tile columns, outputs)
    results = _OUTPUT @ np.moveaxis(products, (0, 1), (4, 5)) @ _OUTPUT.T
    batch, rows, columns, outputs = results.shape[:4]
    ordered = results.transpose(0, 1, 4, 2, 5, 3)
    return ordered.reshape(batch, rows * _TILE, columns * _TILE, outputs)  # type: ignore[no-any-return]


def _seen(image: np.ndarray) -> np.ndarray:
    """The transformed tiles of an image: (6, 6, batch, tile rows, tile columns, channels)."""
    tiles = sliding_window_view(image, (_INPUT_TILE, _INPUT_TILE), axis=(1, 2))  # type: ignore[call-overload]
    tiles = tiles[:, ::_TILE, ::_TILE]  # (batch, tile rows, tile columns, channels, 6, 6)
    return np.ascontiguousarray(np.moveaxis(_INPUT @ tiles @ _INPUT.T, (4, 5), (0, 1)))


def _gradient(image: np.ndarray, upstream: np.ndarray) -> np.ndarray:
    """Of `filtered`, to its kernel: the same transforms, transposed."""
    batch, rows, columns, outputs = upstream.shape
    tiles = upstream.reshape(batch, rows // _TILE, _TILE, columns // _TILE, _TILE, outputs)
    back = np.moveaxis(_OUTPUT.T @ np.moveaxis(tiles, (2, 4), (4, 5)) @ _OUTPUT, (4, 5), (0, 1))
    seen = _seen(image)
    products = seen.reshape(36, -1, seen.shape[-1]).transpose(0, 2, 1) @ back.reshape(36, -1, outputs)
    summed = products.reshape(6, 6, seen.shape[-1], outputs).transpose(2, 3, 0, 1)
    return np.moveaxis(_KERNEL.T @ summed @ _KERNEL, (2, 3), (0, 1))
