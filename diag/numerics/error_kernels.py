"""The compiled loops that measure how far a tensor is from float64 truth, absolutely or in units of a scale."""

from __future__ import annotations

import numpy as np

from diag.numerics.loops import BLOCK, INF_INF, NAN_NAN, Array, compiled, first_equal, kind_of, largest_of, load

# What is added up, before the first element; an index of -1 is none.
SCALED_TOTALS = np.dtype([("sum_squares", np.float64), ("max", np.float64), ("worst", np.int64), ("outside", np.int64)])
NOTHING_SCALED = np.zeros(1, SCALED_TOTALS)
NOTHING_SCALED["worst"] = -1
ABSOLUTE_TOTALS = np.dtype(
    [(name, np.float64) for name in ("sum_squares", "max", "truth_squares", "truth_max")]
    + [(name, np.int64) for name in ("worst", "num_finite")]
)
NOTHING_ABSOLUTE = np.zeros(1, ABSOLUTE_TOTALS)
NOTHING_ABSOLUTE["worst"] = -1


@compiled()
def _scaled_error(x: float, r: float, denominator: float, overflow: float) -> float:
    if not (np.isfinite(r) and np.isfinite(x)):
        kind = kind_of(r, x, overflow)
        return 0.0 if kind in (NAN_NAN, INF_INF) else np.inf
    difference = abs(x - r)
    if difference == 0.0:
        return 0.0
    return difference / denominator if denominator > 0.0 else np.inf


@compiled("reassoc")
def add_scaled(
    truth: Array, values: Array, scale: Array, table: Array, unit_roundoff: float, underflow: float,
    overflow: float, first: int, totals: Array,
) -> None:  # fmt: skip
    """Add |x - r| / (unit_roundoff scale + underflow) of elements `first`, first + 1, ... to totals[0]."""
    total = totals[0]
    buffers = np.empty((3, BLOCK))
    for start in range(0, truth.size, BLOCK):
        stop = min(start + BLOCK, truth.size)
        n = stop - start
        x, denominator, error = buffers[0, :n], buffers[1, :n], buffers[2, :n]
        r = truth[start:stop]
        load(values[start:stop], table, x)
        num_doubtful = 0
        for i in range(r.size):
            denominator[i] = unit_roundoff * scale[start + i] + underflow
            error[i] = abs(x[i] - r[i]) / denominator[i]
            num_doubtful += not ((denominator[i] > 0.0) & (error[i] < np.inf))
        if num_doubtful > 0:
            for i in range(r.size):
                error[i] = _scaled_error(x[i], r[i], denominator[i], overflow)
                both_finite = np.isfinite(r[i]) & np.isfinite(x[i])
                total.outside += both_finite & (error[i] == np.inf) & (not denominator[i] > 0.0)
        squares = 0.0
        for i in range(r.size):
            squares += error[i] * error[i]
        total.sum_squares += squares
        largest = largest_of(error)
        if largest > total.max:
            total.max = largest
            total.worst = first + start + first_equal(error, largest)


@compiled("reassoc")
def add_absolute(truth: Array, values: Array, table: Array, overflow: float, first: int, totals: Array) -> None:
    """Add |x - r| of elements `first`, first + 1, ... to totals[0], and the sizes of those r that are finite."""
    total = totals[0]
    buffers = np.empty((3, BLOCK))
    for start in range(0, truth.size, BLOCK):
        stop = min(start + BLOCK, truth.size)
        n = stop - start
        r, x, error = buffers[0, :n], buffers[1, :n], buffers[2, :n]
        r[:] = truth[start:stop]
        load(values[start:stop], table, x)
        num_finite = 0
        for i in range(n):
            error[i] = abs(x[i] - r[i])
            num_finite += (abs(r[i]) < np.inf) & (error[i] < np.inf)
        if num_finite < n:
            for i in range(n):
                error[i] = _scaled_error(x[i], r[i], 1.0, overflow)
            num_finite = 0
            for i in range(n):
                is_finite = abs(r[i]) < np.inf
                num_finite += is_finite
                r[i] = r[i] if is_finite else 0.0
        squares, truth_squares = 0.0, 0.0
        for i in range(n):
            size = abs(r[i])
            squares += error[i] * error[i]
            truth_squares += size * size
            r[i] = size
        total.num_finite += num_finite
        total.sum_squares += squares
        total.truth_squares += truth_squares
        total.truth_max = max(total.truth_max, largest_of(r))
        largest = largest_of(error)
        if largest > total.max:
            total.max = largest
            total.worst = first + start + first_equal(error, largest)
