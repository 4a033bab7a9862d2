"""The compiled loops behind `statistics`: one pass over both tensors, a block at a time.

A block is loaded into float64 buffers that stay in the first-level cache, and each figure is a short
loop over them that LLVM vectorises.  What is not finite becomes +0 on both sides there, and is counted
apart.  The kernels hold no lock, so several threads may each run a range of their own; they share nothing
but what they read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diag.numerics.figures import CLASS_NAMES, MAX_OCTAVE, MIN_OCTAVE
from diag.numerics.loops import (
    BLOCK,
    INF_FINITE,
    INF_INF,
    INF_OPPOSITE,
    NAN_NAN,
    NAN_NUMBER,
    Array,
    compiled,
    first_equal,
    kind_of,
    largest_of,
    load,
)

# Bins of the inner histogram: 0, everything below 2^MIN_OCTAVE, then BINS_PER_OCTAVE to each octave.
OCTAVE_BITS = 6
BINS_PER_OCTAVE = 1 << OCTAVE_BITS
NUM_BINS = 2 + (MAX_OCTAVE - MIN_OCTAVE + 1) * BINS_PER_OCTAVE
_KEY_SHIFT = 52 - OCTAVE_BITS
_FIRST_KEY = (1023 + MIN_OCTAVE) << OCTAVE_BITS

# What a pass over two tensors adds up, before the first element; an index of -1 is none.
TOTALS = np.dtype(
    [(name, np.float64) for name in ("sum", "outward", "sum_abs", "sum_squares", "max")]
    + [(name, np.float64) for name in ("reference_squares", "difference_squares", "max_difference")]
    + [(name, np.float64) for name in ("relative_sum", "relative_max")]
    + [(name, np.int64) for name in ("worst", "first_mismatch", "min_bin", "max_bin")]
    + [(name, np.int64) for name in ("unequal", "zero_sign", "zero_reference")]
    + [(name, np.int64) for name in CLASS_NAMES]
)
NOTHING = np.zeros(1, TOTALS)
NOTHING["worst"] = NOTHING["first_mismatch"] = -1
NOTHING["min_bin"] = NUM_BINS

# The lower edge of each bin of the inner histogram.
LOWER_EDGES = ((np.arange(NUM_BINS) - 2 + _FIRST_KEY) << _KEY_SHIFT).view(np.float64)
LOWER_EDGES[:2] = 0.0


# "reassoc": the sums may be taken in any order, and so in vectors.
@compiled("reassoc")
def _add_errors(error: Array, magnitude: Array, first: int, total: Any, histogram: Array) -> None:
    signed, absolute, squares = 0.0, 0.0, 0.0
    for i in range(error.size):
        size = abs(error[i])
        magnitude[i] = size
        signed += error[i]
        absolute += size
        squares += size * size
    total.sum += signed
    total.sum_abs += absolute
    total.sum_squares += squares
    largest = largest_of(magnitude)
    if largest > total.max:
        total.max = largest
        total.worst = first + first_equal(magnitude, largest)
    # The leading bits of a float64 are its octave and its place within: a logarithmic histogram for free.
    bits, lowest, highest = magnitude.view(np.int64), NUM_BINS, 0
    for i in range(error.size):
        key = (bits[i] >> _KEY_SHIFT) - _FIRST_KEY
        bin = min(max(key, -1), NUM_BINS - 3) + 2 - (bits[i] == 0)
        bits[i] = bin
        lowest = min(lowest, bin if bin > 1 else NUM_BINS)
        highest = max(highest, bin)
    total.min_bin = min(total.min_bin, lowest)
    total.max_bin = max(total.max_bin, highest)
    for i in range(error.size):
        histogram[bits[i] & 0xFFFF] += 1


@compiled("reassoc")
def _outward(error: Array, r: Array) -> float:
    """The sum of errors that are positive where x is further from zero than r; none counts where r is zero."""
    total = 0.0
    for i in range(r.size):
        total += error[i] * ((r[i] > 0.0) * 1.0 - (r[i] < 0.0))
    return total


@compiled("reassoc")
def _add_values(r: Array, x: Array, relative: Array, total: Any) -> None:
    reference_squares, difference_squares, relative_sum, zeros = 0.0, 0.0, 0.0, 0
    for i in range(r.size):
        size = abs(r[i])
        difference = abs(x[i] - r[i])
        reference_squares += size * size
        difference_squares += difference * difference
        ratio = difference / size if size != 0.0 else 0.0
        relative_sum += ratio
        relative[i] = ratio
        x[i] = difference
        zeros += size == 0.0
    total.reference_squares += reference_squares
    total.difference_squares += difference_squares
    total.max_difference = max(total.max_difference, largest_of(x))
    total.relative_sum += relative_sum
    total.relative_max = max(total.relative_max, largest_of(relative))
    total.zero_reference += zeros


@compiled()
def _add_classes(r: Array, x: Array, smallest_normal: float, total: Any) -> None:
    zero, zero_sign, opposite, subnormal = 0, 0, 0, 0
    r_bits, x_bits = r.view(np.int64), x.view(np.int64)
    for i in range(r.size):
        r_zero, x_zero = r[i] == 0.0, x[i] == 0.0
        signs_differ = (r_bits[i] ^ x_bits[i]) < 0
        apart = signs_differ & (not r_zero) & (not x_zero)
        r_small = (abs(r[i]) < smallest_normal) & (not r_zero)
        x_small = (abs(x[i]) < smallest_normal) & (not x_zero)
        zero += r_zero & x_zero
        zero_sign += r_zero & x_zero & signs_differ
        opposite += apart
        subnormal += (r_small | x_small) & (not apart)
    total.both_zero += zero
    total.zero_sign += zero_sign
    total.opposite_signs += opposite
    total.subnormals += subnormal


@compiled()
def _settle_nonfinite(r: Array, x: Array, error: Array, first: int, overflow: float, total: Any) -> None:
    """Count the pairs that are not both finite, and put equal zeros in their place."""
    num_finite = 0
    for i in range(r.size):
        num_finite += (abs(r[i]) < np.inf) & (abs(x[i]) < np.inf)
    if num_finite == r.size:
        return
    for i in range(r.size):
        if abs(r[i]) < np.inf and abs(x[i]) < np.inf:
            continue
        kind = kind_of(r[i], x[i], overflow)
        total.nan_nan += kind == NAN_NAN
        total.nan_number += kind == NAN_NUMBER
        total.inf_inf += kind == INF_INF
        total.inf_opposite += kind == INF_OPPOSITE
        total.inf_finite += kind == INF_FINITE
        if kind not in (NAN_NAN, INF_INF):
            total.unequal += 1
            if total.first_mismatch < 0:
                total.first_mismatch = first + i
        r[i], x[i], error[i] = 0.0, 0.0, 0.0
        # The zeros are taken for a pair of zeros by what comes after.
        total.both_zero -= 1
        total.zero_reference -= 1


@compiled()
def _flush(v: Array, smallest_normal: float) -> None:
    for i in range(v.size):
        v[i] = v[i] if abs(v[i]) >= smallest_normal else 0.0


@compiled()
def _small(bits: Array, magnitude_mask: int, hidden: int) -> tuple[int, int]:
    """How many zeros, and how many below the smallest normal number."""
    zeros, below_normal = 0, 0
    for i in range(bits.size):
        magnitude = bits[i] & magnitude_mask
        zeros += magnitude == 0
        below_normal += magnitude < hidden
    return zeros, below_normal


@compiled("reassoc")
def _add_equal(bits: Array, r: Array, magnitude_mask: int, hidden: int, flushed: bool, total: Any) -> None:
    """What is to be counted where both sides have the same bits and are finite."""
    squares = 0.0
    for i in range(r.size):
        squares += r[i] * r[i]
    zeros, below_normal = _small(bits, magnitude_mask, hidden)
    total.reference_squares += squares
    total.both_zero += zeros
    total.zero_reference += below_normal if flushed else zeros
    total.subnormals += below_normal - zeros


@compiled()
def _same_bits(a: Array, b: Array, magnitude_mask: int, infinity: int) -> bool:
    """Whether the bits are the same on both sides, and all finite."""
    differing, num_nonfinite = 0, 0
    for i in range(a.size):
        differing |= a[i] ^ b[i]
        num_nonfinite += (a[i] & magnitude_mask) >= infinity
    return bool((differing == 0) & (num_nonfinite == 0))


@compiled()
def equal_bits(a: Array, b: Array, magnitude_mask: int, infinity: int, hidden: int) -> tuple[int, int]:
    """How many zeros two tensors of the same bits have, and how many numbers below the smallest normal one.

    -1 and -1 where a bit differs or a number is not finite.  Encodings, as for `add_pair`.
    """
    zeros, below_normal = 0, 0
    for start in range(0, a.size, BLOCK):
        stop = min(start + BLOCK, a.size)
        if not _same_bits(a[start:stop], b[start:stop], magnitude_mask, infinity):
            return -1, -1
        more_zeros, more_below_normal = _small(a[start:stop], magnitude_mask, hidden)
        zeros += more_zeros
        below_normal += more_below_normal
    return zeros, below_normal


@compiled()
def _distances(a: Array, b: Array, magnitude_mask: int, gap: int, distance: Array) -> None:
    """Signed steps from a to b along the line of their format's numbers, `gap` of which are left out.

    In int32 where magnitudes fit, because AVX2 turns only those into float64.  Of 64 bits, steps on one
    side of zero are subtracted as integers, exactly; across it as float64, since two magnitudes may add up
    to more than int64 holds.
    """
    narrow = magnitude_mask <= 0x7FFF_FFFF
    if narrow:
        for i in range(a.size):
            a_line = max((a[i] & magnitude_mask) - gap, 0)
            b_line = max((b[i] & magnitude_mask) - gap, 0)
            a_line = -a_line if a[i] < 0 else a_line
            b_line = -b_line if b[i] < 0 else b_line
            distance[i] = float(np.int32(b_line)) - float(np.int32(a_line))
    else:
        for i in range(a.size):
            a_line = max((a[i] & magnitude_mask) - gap, 0)
            b_line = max((b[i] & magnitude_mask) - gap, 0)
            a_line = -a_line if a[i] < 0 else a_line
            b_line = -b_line if b[i] < 0 else b_line
            one_side = (a_line ^ b_line) >= 0
            distance[i] = float(b_line - a_line) if one_side else float(b_line) - float(a_line)


@compiled()
def add_pair(
    a: Array, b: Array, a_bits: Array, b_bits: Array, table: Array, smallest_normal: float,
    magnitude_mask: int, infinity: int, hidden: int, flushed: bool, first: int, totals: Array,
    histogram: Array,
) -> None:  # fmt: skip
    """Add elements `first`, first + 1, ... of two tensors of one dtype to totals[0] and histogram.

    `a_bits` and `b_bits` are the encodings as signed integers, `infinity` and `hidden` those of infinity
    and of the smallest normal number.
    """
    total = totals[0]
    gap = hidden - 1 if flushed else 0
    buffers = np.empty((4, BLOCK))
    for start in range(0, a.size, BLOCK):
        stop = min(start + BLOCK, a.size)
        n = stop - start
        r, x, error, scratch = buffers[0, :n], buffers[1, :n], buffers[2, :n], buffers[3, :n]
        load(a[start:stop], table, r)
        if _same_bits(a_bits[start:stop], b_bits[start:stop], magnitude_mask, infinity):
            _add_equal(a_bits[start:stop], r, magnitude_mask, hidden, flushed, total)
            histogram[0] += n
            continue
        load(b[start:stop], table, x)
        _distances(a_bits[start:stop], b_bits[start:stop], magnitude_mask, gap, error)
        _settle_nonfinite(r, x, error, first + start, np.inf, total)
        _add_classes(r, x, smallest_normal, total)
        if flushed:
            _flush(r, smallest_normal)
            _flush(x, smallest_normal)
        total.unequal += np.count_nonzero(error)
        _add_errors(error, scratch, first + start, total, histogram)
        _add_values(r, x, scratch, total)


@compiled()
def _ulp_errors(x: Array, r: Array, precision: int, min_exponent: int, gap: float, error: Array) -> int:
    """(x - r) / ulp(r), less `gap` on every side of zero that lies between, as in `ulp.ulp_error`.

    Returns how many x are not r correctly rounded: off by more than half an ULP, or by half and odd.
    """
    bits = r.view(np.int64)
    num_not_nearest = 0
    for i in range(r.size):
        power_of_two = (bits[i] & 0xF_FFFF_FFFF_FFFF) == 0
        exponent = ((bits[i] >> 52) & 0x7FF) - 1023 - power_of_two
        ulp_exponent = max(exponent, min_exponent) - precision + 1
        # Half of the exponent before the subtraction and half after: x - r may overflow, and 1 / ulp(r) too.
        half = ulp_exponent >> 1
        before, after = np.int64((1023 - half) << 52), np.int64((1023 - ulp_exponent + half) << 52)
        scale = before.view(np.float64)
        r_side, x_side = (r[i] > 0.0) * 1.0 - (r[i] < 0.0), (x[i] > 0.0) * 1.0 - (x[i] < 0.0)
        left_out = gap if r_side != x_side else 0.0
        x_scaled, r_scaled = (x[i] - left_out * x_side) * scale, (r[i] - left_out * r_side) * scale
        scale_after = after.view(np.float64)
        error[i] = (x_scaled - r_scaled) * scale_after
        half_steps = 0.5 * (x_scaled * scale_after)
        size = abs(error[i])
        num_not_nearest += (size > 0.5) | ((size == 0.5) & (np.floor(half_steps) != half_steps))
    return num_not_nearest


@compiled()
def add_truth(
    truth: Array, values: Array, table: Array, smallest_normal: float, overflow: float, precision: int,
    min_exponent: int, gap: float, first: int, totals: Array, histogram: Array,
) -> None:  # fmt: skip
    """Add elements `first`, first + 1, ... of a tensor and of its float64 truth to totals[0] and histogram.

    A positive `gap` flushes: it is what lies between the smallest subnormal and the smallest normal number.
    """
    total = totals[0]
    buffers = np.empty((4, BLOCK))
    for start in range(0, truth.size, BLOCK):
        stop = min(start + BLOCK, truth.size)
        n = stop - start
        r, x, error, scratch = buffers[0, :n], buffers[1, :n], buffers[2, :n], buffers[3, :n]
        r[:] = truth[start:stop]
        load(values[start:stop], table, x)
        _settle_nonfinite(r, x, error, first + start, overflow, total)
        _add_classes(r, x, smallest_normal, total)
        if gap > 0.0:
            _flush(r, smallest_normal)
            _flush(x, smallest_normal)
        total.unequal += _ulp_errors(x, r, precision, min_exponent, gap, error)
        total.outward += _outward(error, r)
        _add_errors(error, scratch, first + start, total, histogram)
        _add_values(r, x, scratch, total)


@compiled()
def _bin_of(rank: int, histogram: Array, octaves: Array) -> int:
    """The bin of the element of a rank, the smallest being the first."""
    octave = 0
    while octave < octaves.size - 1 and octaves[octave] < rank:
        rank -= octaves[octave]
        octave += 1
    if octave < 2:
        return octave
    bin = 2 + (octave - 2) * BINS_PER_OCTAVE
    while bin < histogram.size - 1 and histogram[bin] < rank:
        rank -= histogram[bin]
        bin += 1
    return bin


@compiled()
def condense(histogram: Array, octaves: Array, bins: tuple[int, int], ranks: tuple[int, int]) -> tuple[int, int]:
    """Adds up an inner histogram by octaves, gives the bins of the elements of two ranks, and leaves it empty.

    bins: the first and the last that is not empty, but for the two of less than 2^MIN_OCTAVE.
    """
    octaves[:2] = histogram[:2]
    first = 2 + max(bins[0] - 2, 0) // BINS_PER_OCTAVE * BINS_PER_OCTAVE
    for bin in range(first, bins[1] + 1):
        octaves[2 + (bin - 2) // BINS_PER_OCTAVE] += histogram[bin]
    found = _bin_of(ranks[0], histogram, octaves), _bin_of(ranks[1], histogram, octaves)
    histogram[:2] = 0
    histogram[first : bins[1] + 1] = 0
    return found
