"""Faults of our own, through the public interface only: what no place of the catalogue does.

Each strikes one kind of op in the forward or backward pass at step 1, but for the last two, which are within the bounds
of every op that they strike: a tenth of its numbers one step off.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

STEP = 1
_KEPT: dict[tuple[int, int], np.ndarray] = {}  # outputs by step and op, kept by no place


def _struck(call, op_type, phase="forward"):
    return (call.step, call.op_type, call.phase) == (STEP, op_type, phase)


def factor(call):
    """A little too large."""
    return [call.outputs[0] * np.float32(1 + 2.0**-12)] if _struck(call, "MatMul") else None


def rolled(call):
    """Channels one further."""
    return [np.roll(call.outputs[0], 1, axis=-1)] if _struck(call, "Conv2D") else None


def halves_swapped(call):
    result = call.outputs[0]
    return [np.roll(result, result.shape[-1] // 2, axis=-1)] if _struck(call, "MatMul", "backward") else None


def fourth_columns(call):
    """Every fourth column is zero."""
    if not _struck(call, "MatMul"):
        return None
    result = call.outputs[0].copy()
    result[..., ::4] = 0
    return [result]


def block_dropped(call):
    """The product leaves out its last four terms."""
    if not _struck(call, "MatMul"):
        return None
    a, b = call.inputs
    return [(a[:, :-4].astype(np.float64) @ b[:-4].astype(np.float64)).astype(np.float32)]


def bf16_sums(call):
    """float32 products whose partial sums are bfloat16 after every four terms."""
    if not _struck(call, "MatMul"):
        return None
    a, b = call.inputs
    total = np.zeros(call.outputs[0].shape, np.float32)
    for k in range(0, a.shape[1], 4):
        total = (total + a[:, k : k + 4] @ b[k : k + 4]).astype(ml_dtypes.bfloat16).astype(np.float32)
    return [total]


def three_products(call):
    """Operands split in two bfloat16 numbers, the product of the low parts left out."""
    if not _struck(call, "MatMul"):
        return None
    parts = []
    for x in call.inputs:
        high = x.astype(ml_dtypes.bfloat16).astype(np.float64)
        parts.append((high, (x - high).astype(ml_dtypes.bfloat16).astype(np.float64)))
    (a, c), (b, d) = parts
    return [(a @ b + a @ d + c @ b).astype(np.float32)]


def of_the_step_before(call):
    """The output that the place remembers from the step before."""
    if (call.op_type, call.phase) != ("MatMul", "forward"):
        return None
    call.memory[call.step, call.index] = np.array(call.outputs[0])
    return [call.memory[call.step - 1, call.index]] if call.step == STEP else None


def of_the_step_before_elsewhere(call):
    """The same, remembered where the place does not know of it."""
    if (call.op_type, call.phase) != ("MatMul", "forward"):
        return None
    _KEPT[call.step, call.index] = np.array(call.outputs[0])
    return [_KEPT[call.step - 1, call.index]] if call.step == STEP else None


def half_the_time(call):
    """Wrong in every second call: a race."""
    if not _struck(call, "BiasAdd"):
        return None
    count = call.memory[call.index] = call.memory.get(call.index, 0) + 1
    return [call.outputs[0] + np.float32(1)] if count % 2 else None


def tanh_in_float16(call):
    if not _struck(call, "Tanh"):
        return None
    return [np.tanh(call.inputs[0].astype(np.float16)).astype(np.float16).astype(np.float32)]


def nearer_to_zero(call):
    """A bias: every quotient and square root that is off is too small."""
    return _a_tenth_off(call, upwards=0.0)


def off_on_both_sides(call):
    """No bias: as many are too large."""
    return _a_tenth_off(call, upwards=0.5)


def _a_tenth_off(call, upwards):
    right = call.outputs[0]
    if call.op_type not in ("RealDiv", "Sqrt") or right.dtype != np.float32:
        return None
    size = np.abs(right.reshape(-1))
    random = np.random.default_rng(call.index)
    towards = np.where(random.random(size.size) < upwards, np.float32(3e38), np.float32(0))
    is_off = np.arange(size.size) % 10 == call.index % min(10, size.size)
    off = np.where(is_off, np.nextafter(size, towards), size)
    return [np.copysign(off, right.reshape(-1)).reshape(right.shape).astype(np.float32)]
