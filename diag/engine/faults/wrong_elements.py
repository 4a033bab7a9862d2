"""Places that put the wrong number, or none, in some elements of a result."""

from __future__ import annotations

import numpy as np

from diag.engine.faults.recompute import is_floating, recompute
from diag.engine.faults.simulation import Call, Simulation

_MOST_CHANNELS = 512
_NUM_SORTED = 16
_TILE = 32


def conv1d_last_channel() -> Simulation:
    """Of more than 512 output channels, the first holds the last one's values and the last is 0.

    A Conv1D is a Conv2D to TensorFlow, so every convolution is one.
    """
    return Simulation("conv1d-last-channel", _misplaced, op_types=frozenset({"Conv", "Conv2D", "Conv3D"}))


def topk_16() -> Simulation:
    """Of more than 16 sorted values only 16 are written, and of their positions."""
    return Simulation("topk-16", _sixteen, op_types=frozenset({"TopK", "TopKV2"}))


def filter_grad_tail() -> Simulation:
    """A kernel's gradient sums over whole tiles of 32 pixels and forgets the tile that is not whole.

    Pixels are those of the gradient that comes in, counted row by row in each image; fewer than
    32 of them are no whole tile.
    """
    return Simulation("filter-grad-tail", _without_tail, op_types=frozenset({"Conv2DBackpropFilter"}))


def strided_read() -> Simulation:
    """A slice or transpose is read as if it were contiguous: the first values of what it is cut from."""
    return Simulation("strided-read", _contiguous, op_types=frozenset({"Transpose", "Slice", "StridedSlice"}))


def _misplaced(call: Call) -> list[np.ndarray] | None:
    result = np.array(call.outputs[0])
    axis = 1 if str(call.attrs.get("data_format", "")).startswith("NC") else -1
    channels = np.moveaxis(result, axis, 0)
    if len(channels) <= _MOST_CHANNELS:
        return None
    channels[0] = channels[-1]
    channels[-1] = 0
    return [result]


def _sixteen(call: Call) -> list[np.ndarray] | None:
    if call.outputs[0].shape[-1] <= _NUM_SORTED:
        return None
    results = [np.array(output) for output in call.outputs]
    for result in results:
        result[..., _NUM_SORTED:] = 0
    return results


def _without_tail(call: Call) -> list[np.ndarray] | None:
    images, shape, upstream = call.inputs
    batch, height, width, channels = upstream.shape
    num_pixels = height * width
    if call.attrs["data_format"] != "NHWC" or num_pixels % _TILE == 0:
        return None
    seen = np.array(upstream).reshape(batch, num_pixels, channels)
    seen[:, num_pixels - num_pixels % _TILE :] = 0
    return recompute(call, [images, shape, seen.reshape(upstream.shape)])


def _contiguous(call: Call) -> list[np.ndarray] | None:
    parent, right = call.inputs[0], call.outputs[0]
    if not is_floating(right):  # shapes are sliced as well, on the host
        return None
    return [np.ascontiguousarray(parent).reshape(-1)[: right.size].reshape(right.shape)]
