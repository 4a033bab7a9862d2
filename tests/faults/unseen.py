"""Kernels that are wrong in ways that no place of the catalogue is, through the public interface only.

They strike at every step, as a kernel does, in one kind of op.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from diag.numerics.definitions import defined


def _is(call, op_type, phase="forward", layer=None):
    return (call.op_type, call.phase) == (op_type, phase) and (layer is None or call.layer == layer)


def _f32(x):
    return np.asarray(x, np.float32)


# -- convolutions, products, sums


def _convolved(x, kernel, before, dilation=1):
    """float64, stride 1, as many outputs as inputs; `before` zeros in front of each spatial axis."""
    height, width = x.shape[1:3]
    padded = np.pad(x.astype(np.float64), ((0, 0), (before, 8), (before, 8), (0, 0)))
    total = 0.0
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            a, b = i * dilation, j * dilation
            total = total + padded[:, a : a + height, b : b + width] @ kernel[i, j].astype(np.float64)
    return total


def padded_one_off(call):
    """A padding of SAME all behind, none in front."""
    if not (_is(call, "Conv2D") and call.attrs["padding"] == "SAME"):
        return None
    return [_f32(_convolved(*call.inputs, before=0))]


def correlated_not_convolved(call):
    """The kernel is read back to front."""
    if not (_is(call, "Conv2D") and call.attrs["padding"] == "SAME"):
        return None
    x, kernel = call.inputs
    return [_f32(_convolved(x, kernel[::-1, ::-1], before=1))]


def weight_transposed(call):
    """A square weight is read by columns."""
    if not _is(call, "MatMul") or len(set(call.inputs[1].shape)) > 1:
        return None
    return [_f32(call.inputs[0].astype(np.float64) @ call.inputs[1].T)]


def wrong_depthwise_channel(call):
    """Each channel is filtered by its neighbour's kernel."""
    if not _is(call, "DepthwiseConv2dNative"):
        return None
    x, kernel = call.inputs
    height, width = x.shape[1:3]
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    turned = np.roll(kernel[..., 0], 1, -1).astype(np.float64)
    return [_f32(sum(padded[:, i : i + height, j : j + width] * turned[i, j] for i in range(3) for j in range(3)))]


def inner_thirds(call):
    """A sum of three dimensions leaves out the last plane of its kernel."""
    if not _is(call, "Conv3D"):
        return None
    x, kernel = (each.astype(np.float64) for each in call.inputs)
    shape = call.outputs[0].shape
    total = np.zeros(shape)
    for i in range(2):
        for j in range(3):
            for k in range(3):
                total += x[:, i : i + shape[1], j : j + shape[2], k : k + shape[3]] @ kernel[i, j, k]
    return [_f32(total)]


def overlap_twice(call):
    """A transposed convolution whose borders between tiles of four are added twice."""
    if not _is(call, "Conv2DBackpropInput"):
        return None
    result = call.outputs[0].copy()
    result[:, 4::4] *= 2
    return [result]


def mean_by_one_less(call):
    """A mean divided by n - 1."""
    if not _is(call, "Mean"):
        return None
    count = call.inputs[0].size // max(call.outputs[0].size, 1)
    return [_f32(call.outputs[0] * (count / (count - 1.0)))] if count > 1 else None


def pool_counts_padding(call):
    """An average over the whole window, padding included; at the border and nowhere else."""
    if not _is(call, "AvgPool"):
        return None
    result = call.outputs[0].copy()
    result[:, -1] /= 2
    return [result]


def short_sum(call):
    """A sum over the batch that stops before its last row."""
    return [_f32(call.inputs[0][:-1].reshape(-1, call.inputs[0].shape[-1]).sum(0))] if _is(
        call, "BiasAddGrad", "backward"
    ) else None  # fmt: skip


def duplicates_lost(call):
    """Of the rows that go to one segment the last one wins."""
    if call.op_type != "UnsortedSegmentSum":
        return None
    data, segments, _ = call.inputs
    result = np.zeros_like(call.outputs[0])
    result[segments.reshape(-1)] = data.reshape(segments.size, *result.shape[1:])
    return [result]


def bias_twice(call):
    return [_f32(call.outputs[0] + call.inputs[1])] if _is(call, "BiasAdd") else None


def bias_forgotten(call):
    return [call.inputs[0]] if _is(call, "BiasAdd") else None


# -- functions


def gelu_by_tanh(call):
    """erfc, and so gelu, by the tanh approximation."""
    if not _is(call, "Erfc"):
        return None
    x = -call.inputs[0].astype(np.float64) * np.sqrt(2.0)
    return [_f32(1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))]


def softmax_as_written(call):
    """exp(x) / sum(exp(x)), with nothing taken off first."""
    if not _is(call, "Softmax"):
        return None
    with np.errstate(all="ignore"):
        e = np.exp(call.inputs[0])
        return [e / e.sum(-1, keepdims=True, dtype=np.float32)]


def softmax_of_columns(call):
    """A softmax over the wrong axis."""
    return [_f32(special.softmax(call.inputs[0].astype(np.float64), 0))] if _is(call, "Softmax") else None


def leakier(call):
    """A slope of 0.3 where 0.2 was asked for."""
    x = call.inputs[0]
    return [np.where(x > 0, x, x * np.float32(0.3))] if _is(call, "LeakyRelu") else None


def unclipped(call):
    """Relu6 stops at a tenth."""
    return [np.clip(call.inputs[0], 0, np.float32(0.1))] if _is(call, "Relu6") else None


def gradient_through_zero(call):
    """The gradient of a relu passes everything."""
    return [call.inputs[0]] if _is(call, "ReluGrad", "backward") else None


def in_fixed_point(call):
    """Sixteen bits, eight of them behind the point."""
    return [np.round(call.outputs[0] * 256) / np.float32(256)] if _is(call, "BiasAdd") else None


def through_integers(call):
    return [np.trunc(call.outputs[0])] if _is(call, "BiasAdd") else None


def division_by_reciprocal(call):
    """x / y as x times a reciprocal of twelve bits."""
    if not _is(call, "RealDiv", "optimizer"):
        return None
    with np.errstate(all="ignore"):
        reciprocal = (_f32(1 / call.inputs[1]).view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32)
        return [_f32(call.inputs[0] * reciprocal).reshape(call.outputs[0].shape)]


def tanh_saturates(call):
    """tanh is exactly one from 2 on."""
    x = call.inputs[0]
    return [np.where(np.abs(x) > 2, np.sign(x), call.outputs[0])] if _is(call, "Tanh") else None


def cast_cuts_off(call):
    """float32 to float16 towards zero."""
    if call.op_type != "Cast" or call.outputs[0].dtype != np.float16 or call.inputs[0].dtype != np.float32:
        return None
    x, nearest = call.inputs[0], call.outputs[0]
    toward_zero = np.nextafter(nearest, np.float16(0))
    return [np.where(np.abs(nearest.astype(np.float32)) > np.abs(x), toward_zero, nearest)]


# -- elements


def nan_in_a_block(call):
    """The second group of sixteen elements was never written."""
    if not _is(call, "BiasAdd"):
        return None
    result = call.outputs[0].copy()
    result.reshape(-1)[16:32] = np.nan
    return [result]


def mask_row_ignored(call):
    """The mask of the last query is not applied."""
    if not _is(call, "SelectV2", layer="attention"):
        return None
    result = call.outputs[0].copy()
    result[..., -1, :] = np.broadcast_to(call.inputs[1], result.shape)[..., -1, :]
    return [result]


def last_of_ties(call):
    """Of several largest elements the last; a control, for each is a largest."""
    if not _is(call, "ArgMax"):
        return None
    x = call.inputs[0]
    return [(x.shape[-1] - 1 - np.argmax(x[..., ::-1], -1)).astype(call.outputs[0].dtype)]


def second_best(call):
    """An arg max that is not one."""
    return [np.argsort(call.inputs[0], -1)[..., -2].astype(call.outputs[0].dtype)] if _is(call, "ArgMax") else None


def neighbours_gathered(call):
    """The index is one too large."""
    if not _is(call, "GatherV2"):
        return None
    values, indices, axis = call.inputs
    return [np.take(values, np.minimum(indices + 1, values.shape[int(axis)] - 1), int(axis))]


def exclusive_sum(call):
    """A running sum without its own element."""
    return [call.outputs[0] - call.inputs[0]] if _is(call, "Cumsum") else None


def other_order(call):
    """Two parts are joined the other way round."""
    if not _is(call, "ConcatV2", layer="picking"):
        return None
    *parts, axis = call.inputs
    return [np.concatenate(parts[::-1], int(axis))]


def gates_swapped(call):
    """Two of the parts that a recurrent layer splits its product into."""
    if not _is(call, "Split") or len(call.outputs) < 3:
        return None
    first, second, *rest = call.outputs
    return [second, first, *rest]


def padded_with_ones(call):
    if not _is(call, "Pad"):
        return None
    return [np.pad(call.inputs[0], call.inputs[1], constant_values=1)]


def ties_all_paid(call):
    """The gradient of a max-pool goes to all winners of a window in full."""
    if not _is(call, "MaxPoolGrad", "backward"):
        return None
    x, y, dy = call.inputs
    up = y.repeat(2, 1).repeat(2, 2)
    return [np.where(x[:, : up.shape[1], : up.shape[2]] == up, dy.repeat(2, 1).repeat(2, 2), np.float32(0))]


def runner_up_paid(call):
    """The gradient of a max-pool goes to the last element of each window."""
    if not _is(call, "MaxPoolGrad", "backward"):
        return None
    result = np.zeros_like(call.outputs[0])
    result[:, 1::2, 1::2] = call.inputs[2]
    return [result]


def one_row_of_garbage(call):
    """The last row is whatever lay in memory."""
    if not _is(call, "MatMul", "backward"):
        return None
    result = call.outputs[0].copy()
    result[-1] = np.frombuffer(np.random.default_rng(call.index).bytes(result[-1].nbytes), np.float32)
    return [result]


def sign_lost(call):
    """Negative zero and negative numbers alike lose their sign."""
    return [np.abs(call.outputs[0])] if _is(call, "BiasAdd") else None


# -- optimizers


def decays_twice(call):
    """The weights decay twice as much: AdamW's, before anything else is done."""
    is_decay = call.op_type == "AssignSubVariableOp" and call.layer == "optimizer"
    return [call.inputs[0] - 2 * call.inputs[1]] if is_decay else None


def forgets_to_decay(call):
    is_decay = call.op_type == "AssignSubVariableOp" and call.layer == "optimizer"
    return [call.inputs[0]] if is_decay else None


def epsilon_forgotten(call):
    """sqrt(v) + epsilon is sqrt(v)."""
    is_it = _is(call, "AddV2", "optimizer") and call.inputs[1].shape == () and call.inputs[1] == np.float32(1e-7)
    return [call.inputs[0]] if is_it else None


def gradient_unscaled(call):
    """A clipped norm that is not."""
    is_it = _is(call, "Mul", "optimizer", "optimizer") and call.inputs[0].ndim > 0
    return [call.inputs[0]] if is_it else None


def averages_the_wrong_way(call):
    """Batch statistics enter a moving average by 0.9 instead of 0.1: the two weights are swapped."""
    if not (_is(call, "Mul", layer="norm") and call.inputs[1].shape == () and 0.05 < call.inputs[1] < 0.95):
        return None
    return [_f32(call.inputs[0] * (np.float32(1) - call.inputs[1]))]


def average_not_moved(call):
    return [call.inputs[0]] if _is(call, "AssignVariableOp", layer="norm") else None


def another_variables_update(call):
    """Every update is the last one of its shape: what another variable should have got."""
    if call.op_type not in ("AssignSubVariableOp", "AssignAddVariableOp") or call.layer == "optimizer":
        return None
    key = call.outputs[0].shape
    before, call.memory[key] = call.memory.get(key), call.outputs[0] - call.inputs[0]
    return None if before is None else [call.inputs[0] + before]


def sign_of_zero_gradient(call):
    """Lion's sign is one where it should be -1, in one element of sixteen."""
    if not _is(call, "Sign", "optimizer"):
        return None
    result = call.outputs[0].copy()
    result.reshape(-1)[::16] = 1
    return [result]


def step_counter_stands(call):
    """The number of steps stays what it was."""
    return [call.inputs[0]] if _is(call, "AssignVariableOp", "optimizer", "optimizer") else None


def assigned_late(call):
    """A variable gets its update one step late."""
    if call.op_type not in ("AssignSubVariableOp", "AssignAddVariableOp") or call.variable is None:
        return None
    call.memory.setdefault((call.step, call.index), call.outputs[0] - call.inputs[0])
    late = call.memory.get((call.step - 1, call.index))
    return [call.inputs[0] if late is None else call.inputs[0] + late]


# -- results that are not unique


def other_ties(call):
    """Of equal keys the last first; a control, for each order of them is right."""
    if call.op_type == "ArgMax":
        return last_of_ties(call)
    if call.op_type != "TopKV2":
        return None
    keys, num = call.inputs
    order = np.argsort(-keys[..., ::-1], axis=-1, kind="stable")[..., : int(num)]
    places = keys.shape[-1] - 1 - order
    return [np.take_along_axis(keys, places, -1), places.astype(call.outputs[1].dtype)]


def first_of_ties_again(call):
    """Of equal keys the first is chosen again and again."""
    if call.op_type != "TopKV2":
        return None
    values, places = (output.copy() for output in call.outputs)
    again = values[..., 1:] == values[..., :-1]
    for column in range(again.shape[-1]):
        places[..., column + 1] = np.where(again[..., column], places[..., column], places[..., column + 1])
    return [values, places]


_VECTORS = {"SelfAdjointEigV2": (1,), "Svd": (1, 2), "Qr": (0,)}


def _with_vectors(call, change, op_types=tuple(_VECTORS)):
    if call.op_type not in op_types:
        return None
    return [change(x) if at in _VECTORS[call.op_type] else x for at, x in enumerate(call.outputs)]


def other_signs(call):
    """Every second vector the other way round; a control."""
    if call.op_type == "Qr":
        signs = np.where(np.arange(call.outputs[0].shape[-1]) % 2, np.float32(-1), np.float32(1))
        return [call.outputs[0] * signs, call.outputs[1] * signs[:, None]]
    return _with_vectors(call, lambda v: v * np.where(np.arange(v.shape[-1]) % 2, np.float32(-1), np.float32(1)))


def vectors_not_orthogonal(call):
    """The last is what is left of it after a single precision of 11 bits."""

    def change(vectors):
        changed = vectors.copy()
        changed[..., -1] = (changed[..., -1].astype(np.float16)).astype(np.float32)
        return changed

    return _with_vectors(call, change, ("SelfAdjointEigV2",))


def last_vector_lost(call):
    """Zeros."""
    return _with_vectors(call, lambda v: np.where(np.arange(v.shape[-1]) < v.shape[-1] - 1, v, np.float32(0)), ("Svd",))


# -- ops without a float64 kernel


def _normalized(call, mean, variance, epsilon=None):
    _, scale, offset = (x.astype(np.float64) for x in call.inputs[:3])
    epsilon = call.attrs["epsilon"] if epsilon is None else epsilon
    y = (call.inputs[0] - mean) / np.sqrt(variance + epsilon) * scale + offset
    return [_f32(y), *call.outputs[1:]]


def _moments(call):
    x = call.inputs[0].astype(np.float64).reshape(-1, call.inputs[0].shape[-1])
    return len(x), x.mean(0), x.var(0)


def variance_over_one_less(call):
    """Normalized by the variance over N - 1."""
    if not call.op_type.startswith("FusedBatchNormV"):
        return None
    num, mean, variance = _moments(call)
    return _normalized(call, mean, variance * num / (num - 1))


def variance_not_centred(call):
    """Normalized by the mean square."""
    if not call.op_type.startswith("FusedBatchNormV"):
        return None
    _, mean, variance = _moments(call)
    return _normalized(call, mean, variance + mean**2)


def epsilon_of_another(call):
    """1e-5 where the op says 1e-3."""
    if not call.op_type.startswith("FusedBatchNormV"):
        return None
    _, mean, variance = _moments(call)
    return _normalized(call, mean, variance, 1e-5)


def gradient_without_its_mean(call):
    """Of a normalization: as if the mean did not hang on the inputs."""
    if not call.op_type.startswith("FusedBatchNormGrad"):
        return None
    dy, scale, variance = call.inputs[0], call.inputs[2], call.inputs[4]
    constant = scale / np.sqrt(variance + call.attrs["epsilon"]) * dy.reshape(-1, dy.shape[-1]).mean(0)
    return [_f32(call.outputs[0] + constant), *call.outputs[1:]]


def resized_from_corners(call):
    """Pixels taken at their corners, not at their middles."""
    if call.op_type != "ResizeBilinear":
        return None
    attrs = {**call.attrs, "half_pixel_centers": False}
    return [_f32(defined("ResizeBilinear", [call.inputs[0].astype(np.float64), call.inputs[1]], attrs)[0])]


def product_in_float32(call):
    """Of float64 numbers."""
    if call.op_type != "MatMul" or call.outputs[0].dtype != np.float64:
        return None
    a, b = (_f32(x) for x in call.inputs)
    return [((a.T if call.attrs["transpose_a"] else a) @ (b.T if call.attrs["transpose_b"] else b)).astype(np.float64)]


def response_of_fewer(call):
    """A local response over one neighbour less."""
    if call.op_type != "LRN":
        return None
    attrs = {**call.attrs, "depth_radius": call.attrs["depth_radius"] - 1}
    return [_f32(defined("LRN", [call.inputs[0].astype(np.float64)], attrs)[0])]
