"""Places without subnormal numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diag.engine.faults.recompute import can_recompute, is_floating, recompute
from diag.engine.faults.simulation import Call, Simulation
from diag.engine.graphs.graph import ASSIGN_OPS
from diag.engine.graphs.locations import OPTIMIZER
from diag.numerics.bits import same_bits
from diag.numerics.formats import FLOAT16, format_of, round_to


def flush_subnormals() -> Simulation:
    """Every op takes subnormal inputs for zero and returns zero for subnormal results."""
    return Simulation("flush-subnormals", _flushing)


def fp16_adam_epsilon() -> Simulation:
    """The optimizer's updates are computed in float16 without subnormals.

    So epsilon 1e-7, 1.19e-7 in float16, is 0, and so is the square of a gradient below 2^-7.
    """
    return Simulation("fp16-adam-epsilon", _in_flushed_float16)


def flushed(array: np.ndarray) -> np.ndarray:
    """A copy with subnormals made zeros of their sign; told by their bits, for the thread may flush too."""
    if not is_floating(array):
        return array
    result = np.array(array, order="C")
    word = np.dtype(f"u{result.dtype.itemsize}").type
    bits = result.reshape(-1).view(word)
    sign = word(1 << (8 * result.dtype.itemsize - 1))
    smallest_normal = word(1 << (format_of(result.dtype).precision - 1))
    bits[(bits & ~sign) < smallest_normal] &= sign
    return result


def _flushing(call: Call) -> list[np.ndarray] | None:
    outputs: Sequence[np.ndarray] = call.outputs
    inputs = [flushed(x) for x in call.inputs]
    if not all(map(same_bits, inputs, call.inputs)):
        if call.op_type in ASSIGN_OPS:
            outputs = [_assigned(call.op_type, *inputs)]
        elif can_recompute(call):
            outputs = recompute(call, inputs)
    results = [flushed(x) for x in outputs]
    return None if all(map(same_bits, results, call.outputs)) else results


def _in_flushed_float16(call: Call) -> list[np.ndarray] | None:
    if call.phase != OPTIMIZER or call.variable is None:
        return None
    if call.op_type in ASSIGN_OPS:
        return [_narrowed(_assigned(call.op_type, *map(_narrowed, call.inputs)))]
    outputs = recompute(call, [_narrowed(x) for x in call.inputs]) if can_recompute(call) else call.outputs
    return [_narrowed(x) for x in outputs]


def _assigned(op_type: str, before: np.ndarray, value: np.ndarray) -> np.ndarray:
    """What an assignment leaves."""
    with np.errstate(all="ignore"):
        if op_type == "AssignAddVariableOp":
            return before + value
        return before - value if op_type == "AssignSubVariableOp" else value


def _narrowed(array: np.ndarray) -> np.ndarray:
    """Rounded to float16 and flushed, in the array's own dtype; integers stay as they are."""
    if array.dtype.name not in ("float16", "float32"):
        return array
    rounded = round_to(array.astype(np.float32), FLOAT16)
    rounded[np.abs(rounded) < FLOAT16.smallest_normal] = 0
    return rounded.astype(array.dtype)
