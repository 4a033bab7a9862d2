"""Kinds of faults that were tried from outside: half-written variables, rounded scalars, borders, casts, chance, loops.

Through the public interface only.  A fault of chance counts its own calls in the place's memory, which lives as long
as the place does.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

_ASSIGNS = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
_OPTIMIZER_SCALARS = ("Pow", "Sub", "Sqrt", "Mul", "RealDiv", "AddV2")


def _is(call, op_type, phase="forward", layer=None):
    return (call.op_type, call.phase) == (op_type, phase) and (layer is None or call.layer == layer)


def _through(x, dtype):
    with np.errstate(all="ignore"):
        return x.astype(dtype).astype(x.dtype)


# -- half-written assignments


def _written(call, kept):
    """A variable of which the places `kept` of its elements stay what they were."""
    if call.op_type not in _ASSIGNS or call.phase != "optimizer" or call.outputs[0].size < 8:
        return None
    before, after = call.inputs[0], call.outputs[0]
    result = after.copy().reshape(-1)
    result[kept] = before.reshape(-1)[kept]
    return [result.reshape(after.shape)]


def first_half_written(call):
    size = call.outputs[0].size if call.outputs else 0
    return _written(call, slice(size // 2, None))


def even_elements_written(call):
    """Every second element stays: a write of pairs that are half as wide."""
    return _written(call, slice(1, None, 2))


def last_block_not_written(call):
    """The last eight, or what is behind the last whole block of eight."""
    size = call.outputs[0].size if call.outputs else 0
    return _written(call, slice(size - (size % 8 or 8), None))


# -- scalars rounded to a narrower format


def _rounded_scalar(call, dtype):
    """The one scalar that a product or quotient in the optimizer reads is read in another format."""
    shapes = [x.shape for x in call.inputs]
    if call.op_type not in ("Mul", "RealDiv") or call.phase != "optimizer" or shapes.count(()) != 1:
        return None
    left, right = (_through(x, dtype) if x.shape == () else x for x in call.inputs)
    with np.errstate(all="ignore"):
        return [np.asarray(left * right if call.op_type == "Mul" else left / right, call.outputs[0].dtype)]


def factor_in_bfloat16(call):
    return _rounded_scalar(call, ml_dtypes.bfloat16)


def factor_in_float16(call):
    return _rounded_scalar(call, np.float16)


def scalars_in_bfloat16(call):
    """The optimizer computes its own scalars, such as the step size, in bfloat16."""
    is_it = call.op_type in _OPTIMIZER_SCALARS and call.phase == "optimizer" and call.outputs[0].shape == ()
    return [_through(call.outputs[0], ml_dtypes.bfloat16)] if is_it and call.outputs[0].dtype == np.float32 else None


def window_in_bfloat16(call):
    """An average over a window, multiplied by one over its size in bfloat16."""
    if not _is(call, "Mean"):
        return None
    count = np.float32(call.inputs[0].size / call.outputs[0].size)
    return [call.outputs[0] * count * _through(np.float32(1) / count, ml_dtypes.bfloat16)] if count > 1 else None


# -- borders


def _filtered(x, kernel, mode, is_depthwise):
    """float64, stride 1, as many outputs as inputs, with a border made by `mode` of numpy.pad."""
    height, width = x.shape[1:3]
    tall, wide = kernel.shape[:2]
    sides = [((n - 1) // 2, n - 1 - (n - 1) // 2) for n in (tall, wide)]
    padded = np.pad(x.astype(np.float64), ((0, 0), *sides, (0, 0)), mode=mode)
    total = 0.0
    for i in range(tall):
        for j in range(wide):
            seen, weights = padded[:, i : i + height, j : j + width], kernel[i, j].astype(np.float64)
            total = total + (seen * weights[:, 0] if is_depthwise else seen @ weights)
    return total


def _bordered(call, mode):
    is_depthwise = call.op_type == "DepthwiseConv2dNative"
    if not (is_depthwise or call.op_type == "Conv2D") or call.phase != "forward" or call.attrs["padding"] != "SAME":
        return None
    if max(call.attrs["strides"]) > 1 or max(call.inputs[1].shape[:2]) == 1:
        return None
    return [_filtered(*call.inputs, mode, is_depthwise).astype(np.float32)]


def border_of_neighbours(call):
    """Padded by the nearest pixel, not by zeros."""
    return _bordered(call, "edge")


def border_mirrored(call):
    return _bordered(call, "reflect")


def border_from_other_side(call):
    return _bordered(call, "wrap")


# -- casts


def _cast(call, source, target, through):
    is_it = call.op_type == "Cast" and (call.inputs[0].dtype, call.outputs[0].dtype) == (source, target)
    return [_through(call.inputs[0], through).astype(target)] if is_it and call.outputs[0].size > 1 else None


def cast_through_bfloat16(call):
    """float32 to float16 by way of bfloat16."""
    return _cast(call, np.float32, np.float16, ml_dtypes.bfloat16)


def widened_through_bfloat16(call):
    """float16 to float32 by way of bfloat16."""
    return _cast(call, np.float16, np.float32, ml_dtypes.bfloat16)


# -- chance


def _nth(call, every, op_types):
    """Of the calls of such ops, outside the optimizer, whether this is one in `every`, the last of them."""
    if call.op_type not in op_types or call.phase == "optimizer":
        return False
    call.memory["calls"] = call.memory.get("calls", 0) + 1
    return call.memory["calls"] % every == 0


_PRODUCTS = ("MatMul", "BatchMatMulV2", "Einsum", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")


def one_call_in_fifty(call):
    """One row of one product in fifty is zero."""
    if not _nth(call, 50, _PRODUCTS):
        return None
    result = call.outputs[0].copy()
    result.reshape(-1)[: max(result.size // 8, 1)] = 0
    return [result]


def torn_write(call):
    """The second half of one product in fifty is what the same op wrote before."""
    is_torn = _nth(call, 50, _PRODUCTS)
    if call.op_type not in _PRODUCTS or call.phase == "optimizer":
        return None
    earlier = call.memory.get(call.index)
    call.memory[call.index] = call.outputs[0].copy()
    if not is_torn or earlier is None or earlier.shape != call.outputs[0].shape:
        return None
    result, half = call.outputs[0].copy().reshape(-1), call.outputs[0].size // 2
    result[half:] = earlier.reshape(-1)[half:]
    return [result.reshape(earlier.shape)]


def earlier_result(call):
    """A product reads its output's buffer before it is written: the result of the step before, at every third step."""
    if call.op_type not in _PRODUCTS or call.phase != "forward":
        return None
    call.memory[call.index, call.step] = call.outputs[0].copy()
    return [call.memory.get((call.index, call.step - 1), call.outputs[0])] if call.step % 3 == 1 else None


# -- loops, and what only some models have


def coarse_gates(call):
    """A sigmoid of nine bits."""
    if not _is(call, "Sigmoid"):
        return None
    return [np.asarray(np.round(call.outputs[0] * 512) / 512, call.outputs[0].dtype)]


def list_items_rolled(call):
    """What a loop takes from a list of its inputs, one place further."""
    is_it = _is(call, "TensorListGetItem") and call.outputs[0].ndim > 1 and call.outputs[0].dtype == np.float32
    return [np.roll(call.outputs[0], 1, -1)] if is_it else None


def mask_ignored(call):
    """What padding computes is taken."""
    if not _is(call, "SelectV2", layer="both_ways") or call.inputs[1].dtype != np.float32:
        return None
    return [np.broadcast_to(call.inputs[1], call.outputs[0].shape).copy()]


def not_reversed(call):
    """The direction backwards reads forwards."""
    return [call.inputs[0]] if _is(call, "ReverseV2") else None


def scale_forgotten(call):
    """The factor of a layer scale."""
    return [call.inputs[0]] if _is(call, "Mul", layer="scale") else None


def gate_forgotten(call):
    return [call.inputs[0]] if _is(call, "Mul", layer="gate") else None


def shortcut_forgotten(call):
    """A residual without what goes around."""
    return [call.inputs[1]] if _is(call, "AddV2") and call.layer in ("add", "attended", "mixed") else None


def gradients_not_added(call):
    """Where two gradients meet, one is lost."""
    if call.op_type not in ("AddN", "AddV2") or call.phase != "backward" or call.outputs[0].size < 8:
        return None
    return [call.inputs[0]] if call.inputs[0].shape == call.outputs[0].shape else None


def clipped_by_twice_the_norm(call):
    """The sum of squares under a clipped norm counts twice."""
    return [call.outputs[0] * 2] if _is(call, "Sum", "optimizer") else None


def draw_kept(call):
    """The noise of an even step again."""
    if "RandomNormal" not in call.op_type:
        return None
    kept = call.memory.setdefault((call.index, call.step // 2), call.outputs[0].copy())
    return [kept]
