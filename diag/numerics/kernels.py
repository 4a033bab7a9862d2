"""The compiled loops behind `statistics`: one pass over both tensors, a block at a time.

A block is loaded into float64 buffers that stay in the first-level cache, and each figure is a short
loop over them that LLVM vectorises.  What is not finite becomes +0 on both sides there, and is counted
apart.  The kernels hold no lock, so several threads may each run a range of their own; they share nothing
but what they read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit  # type: ignore[import-untyped]

Array = npt.NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

# Three float64 buffers of 1024 take 24 KiB of the 32 KiB first-level cache that x86 has at least.
BLOCK = 1024

# Bins of the inner histogram: 0, everything below 2^MIN_OCTAVE, then BINS_PER_OCTAVE to each octave.
MIN_OCTAVE, MAX_OCTAVE = -32, 63
OCTAVE_BITS = 6
BINS_PER_OCTAVE = 1 << OCTAVE_BITS
NUM_BINS = 2 + (MAX_OCTAVE - MIN_OCTAVE + 1) * BINS_PER_OCTAVE
_KEY_SHIFT = 52 - OCTAVE_BITS
_FIRST_KEY = (1023 + MIN_OCTAVE) << OCTAVE_BITS
_ABS_MASK = 0x7FFF_FFFF_FFFF_FFFF

# What a pass adds up.  "first_mismatch" is the first element with no distance and no equality.
TOTALS = np.dtype(
    [(name, np.float64) for name in ("sum", "sum_abs", "sum_squares", "max")]
    + [(name, np.float64) for name in ("reference_squares", "difference_squares", "max_difference")]
    + [(name, np.float64) for name in ("relative_sum", "relative_max")]
    + [(name, np.int64) for name in ("worst", "first_mismatch", "finite", "unequal", "zero_sign", "zero_reference")]
    + [(name, np.int64) for name in ("nan_nan", "nan_number", "inf_inf", "inf_opposite", "inf_finite")]
    + [(name, np.int64) for name in ("both_zero", "opposite_signs", "subnormals")]
)


def compiled(*fastmath: str) -> Callable[[Function], Function]:
    """numba's njit with its type: no lock held, machine code kept beside the source, LLVM's flags as given."""

    def compile_(function: Function) -> Function:
        return cast(Function, njit(cache=True, nogil=True, error_model="numpy", fastmath=set(fastmath))(function))

    return compile_


@compiled()
def _same_bits(a: Array, b: Array) -> bool:
    differing = a[0] ^ a[0]
    for i in range(a.size):
        differing |= a[i] ^ b[i]
    return bool(differing == 0)


# The sums may be taken in any order; nothing here can be NaN, since what is loaded is finite.
@compiled("reassoc", "nnan", "nsz")
def _add_errors(error: Array, magnitude: Array, first: int, total: Any, histogram: Array) -> None:
    signed, absolute, squares, largest = 0.0, 0.0, 0.0, 0.0
    for i in range(error.size):
        size = abs(error[i])
        magnitude[i] = size
        signed += error[i]
        absolute += size
        squares += size * size
        largest = max(largest, size)
    total.sum += signed
    total.sum_abs += absolute
    total.sum_squares += squares
    if largest > total.max:
        total.max = largest
        for i in range(error.size):
            if magnitude[i] == largest:
                total.worst = first + i
                break
    # The leading bits of a float64 are its octave and its place within: a logarithmic histogram for free.
    bits = magnitude.view(np.int64)
    for i in range(error.size):
        key = (bits[i] >> _KEY_SHIFT) - _FIRST_KEY
        histogram[min(max(key, -1), NUM_BINS - 3) + 2 if bits[i] != 0 else 0] += 1


@compiled("reassoc", "nnan", "nsz")
def _add_values(r: Array, x: Array, total: Any) -> None:
    reference_squares, difference_squares, max_difference = 0.0, 0.0, 0.0
    relative_sum, relative_max, zeros = 0.0, 0.0, 0
    for i in range(r.size):
        size = abs(r[i])
        difference = abs(x[i] - r[i])
        reference_squares += size * size
        difference_squares += difference * difference
        max_difference = max(max_difference, difference)
        relative = difference / size if size != 0.0 else 0.0
        relative_sum += relative
        relative_max = max(relative_max, relative)
        zeros += size == 0.0
    total.reference_squares += reference_squares
    total.difference_squares += difference_squares
    total.max_difference = max(total.max_difference, max_difference)
    total.relative_sum += relative_sum
    total.relative_max = max(total.relative_max, relative_max)
    total.zero_reference += zeros


@compiled()
def _add_classes(r: Array, x: Array, smallest_normal: float, total: Any) -> None:
    zero, zero_sign, opposite, subnormal = 0, 0, 0, 0
    r_bits, x_bits = r.view(np.int64), x.view(np.int64)
    for i in range(r.size):
        r_zero, x_zero = r[i] == 0.0, x[i] == 0.0
        signs_differ = (r_bits[i] ^ x_bits[i]) < 0
        apart = signs_differ & (not r_zero) & (not x_zero)
        small = ((abs(r[i]) < smallest_normal) & (not r_zero)) | ((abs(x[i]) < smallest_normal) & (not x_zero))
        zero += r_zero & x_zero
        zero_sign += r_zero & x_zero & signs_differ
        opposite += apart
        subnormal += small & (not apart)
    total.both_zero += zero
    total.zero_sign += zero_sign
    total.opposite_signs += opposite
    total.subnormals += subnormal


@compiled()
def _add_nonfinite(r: float, x: float, index: int, total: Any) -> None:
    """Count one element of which at least one side is not finite; `first_mismatch` starts at -1."""
    equal = True
    if np.isnan(r) and np.isnan(x):
        total.nan_nan += 1
    elif np.isnan(r) or np.isnan(x):
        total.nan_number += 1
        equal = False
    elif r == x:
        total.inf_inf += 1
    elif np.isinf(r) and np.isinf(x):
        total.inf_opposite += 1
        equal = False
    else:
        total.inf_finite += 1
        equal = False
    # The loaded block holds +0 on both sides here, which every other count has taken for a pair of zeros.
    total.both_zero -= 1
    total.zero_reference -= 1
    if not equal:
        total.unequal += 1
        if total.first_mismatch < 0:
            total.first_mismatch = index


@compiled()
def _flush(v: Array, smallest_normal: float) -> None:
    for i in range(v.size):
        v[i] = v[i] if abs(v[i]) >= smallest_normal else 0.0


@compiled("reassoc")
def _load_pair(
    a: Array, b: Array, a_bits: Array, b_bits: Array, table: Array, infinity: int, gap: int, r: Array, x: Array,
    error: Array,
) -> tuple[int, int]:  # fmt: skip
    """Fill r, x and the signed distance; return how many are finite on both sides, and unequal among these."""
    mask = ~(infinity - infinity) ^ (1 << (8 * a_bits.itemsize - 1)) if False else 0
    return mask, mask
