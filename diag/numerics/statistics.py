"""Figures about two tensors: a candidate against a reference, or a tensor against float64 truth.

All of them come from one pass over both tensors (`kernels`), and are added up in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from diag.numerics import kernels
from diag.numerics.figures import (
    CLASS_NAMES,
    HISTOGRAM_EDGES,
    ClassCounts,
    PairStatistics,
    ScaledError,
    Statistics,
    TruthStatistics,
)
from diag.numerics.formats import Format, format_of
from diag.numerics.passes import Encoding, by_part, encoding, flat, float64_truth, index_of, merged, require_same_shape
from diag.numerics.ulp import flush_subnormals

__all__ = [
    "HISTOGRAM_EDGES",
    "ClassCounts",
    "PairStatistics",
    "ScaledError",
    "Statistics",
    "TruthStatistics",
    "against_truth",
    "compare",
    "relative_difference",
]

# Squares of float64 numbers leave float64's range; from here on down they lose bits.
SMALLEST_SAFE_SQUARE = 2.0**-900


def compare(reference: npt.NDArray[Any], candidate: npt.NDArray[Any], flushed: bool = False) -> PairStatistics:
    """Statistics of `candidate` against `reference`, in steps of their own format.

    Args:
        reference: float16, bfloat16, float32 or float64, any shape and strides; or integers or booleans.
        candidate: of the same dtype and shape.
        flushed: subnormals of both sides count as zero in all figures but the classes, and zero and the
            smallest normal numbers are one step apart.

    Raises:
        TypeError: if the dtypes differ, or are neither a format of ours nor integers nor booleans.
        ValueError: if the shapes differ.
    """
    reference, candidate = np.asarray(reference), np.asarray(candidate)
    if reference.dtype != candidate.dtype:
        raise TypeError(
            "Two lanes are compared in one dtype. "
            f"Received: reference.dtype={reference.dtype}, candidate.dtype={candidate.dtype}"
        )
    require_same_shape(reference=reference, candidate=candidate)
    if reference.dtype.kind in "biu":
        return _compare_integers(reference, candidate)
    code = encoding(candidate.dtype)
    a, b = flat(reference, code.stored), flat(candidate, code.stored)
    a_bits, b_bits = a.view(code.bits), b.view(code.bits)
    equal = _of_equal_bits(code, a_bits, b_bits, flushed)
    if equal is not None:
        return equal

    def add(part: slice, totals: npt.NDArray[Any], histogram: npt.NDArray[np.int64]) -> None:
        kernels.add_pair(
            a[part], b[part], a_bits[part], b_bits[part], code.table, code.smallest_normal,
            code.magnitude_mask, code.infinity, code.hidden, flushed, part.start, totals, histogram,
        )  # fmt: skip

    return _statistics(PairStatistics, reference, candidate, flushed, *_add_up(a.size, kernels.NOTHING, add))


def relative_difference(reference: npt.NDArray[Any], candidate: npt.NDArray[Any]) -> float:
    """||candidate - reference|| / ||reference||, of arrays as `compare` takes them.

    Infinite where the reference alone is zero, or one side alone is not finite.
    """
    found = compare(reference, candidate)
    return math.inf if found.classes.num_mismatched else found.normwise_relative_error


def _of_equal_bits(
    code: Encoding, a_bits: npt.NDArray[Any], b_bits: npt.NDArray[Any], flushed: bool
) -> PairStatistics | None:
    """Statistics of two tensors that have the same bits, all of them finite; None of others."""

    def count(part: slice) -> tuple[int, int]:
        return kernels.equal_bits(a_bits[part], b_bits[part], code.magnitude_mask, code.infinity, code.hidden)

    counts = by_part(a_bits.size, count)
    if any(zeros < 0 for zeros, _ in counts):
        return None
    zeros, below_normal = (sum(each) for each in zip(*counts, strict=True))
    return _without_difference(code.name, a_bits.size, zeros, below_normal - zeros, flushed)


@lru_cache(maxsize=1024)
def _without_difference(dtype_name: str, size: int, zeros: int, subnormals: int, flushed: bool) -> PairStatistics:
    histogram = np.zeros(HISTOGRAM_EDGES.size, np.int64)
    histogram[0] = size
    histogram.setflags(write=False)
    return PairStatistics(
        dtype=dtype_name,
        size=size,
        num_unequal=0,
        num_zero_sign=0,
        num_compared=size,
        **dict.fromkeys(("max", "mean", "rms", "p50", "p99", "bias"), 0.0 if size else math.nan),
        histogram=histogram,
        worst_index=None,
        worst_values=None,
        normwise_relative_error=0.0,
        max_relative_error=0.0,
        mean_relative_error=0.0,
        num_zero_reference=zeros + (subnormals if flushed else 0),
        max_absolute_difference=0.0,
        classes=ClassCounts(both_zero=zeros, subnormals=subnormals),
    )


def against_truth(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], format: Format | None = None, flushed: bool = False
) -> TruthStatistics:
    """Statistics of `x` against float64 `truth`, in ULP of the truth.

    Args:
        x: float16, bfloat16, float32 or float64, any shape and strides.
        truth: float64 of the same shape.
        format: the format of x's numbers, by default that of its dtype.  TF32, say, is kept in float32.
        flushed: subnormals of both sides count as zero in all figures but the classes, and zero and the
            smallest normal numbers are one step apart.

    Raises:
        TypeError: if x has no format of ours or truth is not float64.
        ValueError: if the shapes differ.
    """
    x, truth = np.asarray(x), float64_truth(truth)
    require_same_shape(x=x, truth=truth)
    code = encoding(x.dtype)
    format = format or code.format
    r, values = flat(truth, truth.dtype), flat(x, code.stored)
    gap = format.smallest_normal - format.smallest_subnormal if flushed else 0.0

    def add(part: slice, totals: npt.NDArray[Any], histogram: npt.NDArray[np.int64]) -> None:
        kernels.add_truth(
            r[part], values[part], code.table, format.smallest_normal, format.overflow_threshold, format.precision,
            format.min_exponent, gap, part.start, totals, histogram,
        )  # fmt: skip

    total, histogram = _add_up(r.size, kernels.NOTHING, add)
    found = _statistics(TruthStatistics, truth, x, flushed, total, histogram)
    return replace(found, outward_bias=_divided(total.outward, found.num_compared))


AddPart: TypeAlias = Callable[[slice, npt.NDArray[Any], npt.NDArray[np.int64]], None]


# Inner histograms that are empty again: a new one, of memory that no cache knows, takes longer than to fill it.
_empty_histograms: list[npt.NDArray[np.int64]] = []


def _empty_histogram() -> npt.NDArray[np.int64]:
    return _empty_histograms.pop() if _empty_histograms else np.zeros(kernels.NUM_BINS, np.int64)


def _add_up(size: int, nothing: npt.NDArray[Any], add: AddPart) -> tuple[Any, npt.NDArray[np.int64]]:
    """The totals, which before the first element are `nothing`, and the inner histogram."""

    def add_part(part: slice) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        totals, histogram = nothing.copy(), _empty_histogram()
        add(part, totals, histogram)
        return totals, histogram

    parts = by_part(size, add_part)
    histograms = [histogram for _, histogram in parts]
    return merged([totals for totals, _ in parts]), histograms[0] if len(parts) == 1 else np.sum(histograms, axis=0)


AnyStatistics = TypeVar("AnyStatistics", bound=Statistics)


def _statistics(
    kind: type[AnyStatistics],
    r: npt.NDArray[Any],
    x: npt.NDArray[Any],
    flushed: bool,
    total: Any,
    histogram: npt.NDArray[np.int64],
) -> AnyStatistics:
    classes = ClassCounts(*total[-len(CLASS_NAMES) :])
    num_compared = x.size - classes.num_without_distance
    num_nonzero_reference = num_compared - total.zero_reference
    worst = index_of(total.first_mismatch if total.first_mismatch >= 0 else total.worst, x.shape)
    histogram[0] -= classes.num_without_distance  # they went through as equal zeros
    octaves, p50, p99 = _distribution(histogram, num_compared, (total.min_bin, total.max_bin))
    return kind(
        dtype=encoding(x.dtype).name,
        size=x.size,
        num_unequal=total.unequal,
        num_zero_sign=total.zero_sign,
        num_compared=num_compared,
        max=total.max if num_compared else math.nan,
        mean=_divided(total.sum_abs, num_compared),
        rms=math.sqrt(_divided(total.sum_squares, num_compared)),
        p50=p50,
        p99=p99,
        bias=_divided(total.sum, num_compared),
        histogram=octaves,
        worst_index=worst,
        worst_values=None if worst is None else (float(r[worst]), float(x[worst])),
        normwise_relative_error=_normwise_relative_error(total, num_nonzero_reference, r, x, flushed),
        max_relative_error=total.relative_max,
        mean_relative_error=total.relative_sum / max(num_nonzero_reference, 1),
        num_zero_reference=total.zero_reference,
        max_absolute_difference=total.max_difference,
        classes=classes,
    )


def _divided(total: float, count: int) -> float:
    return total / count if count else math.nan


def _distribution(
    histogram: npt.NDArray[np.int64], count: int, bins: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], float, float]:
    """An inner histogram by octaves; of the bins that hold the ceil(percent * count / 100)-th smallest the lower edges.

    bins: the first and the last that is not empty.  The histogram is given back.
    """
    octaves = np.zeros(HISTOGRAM_EDGES.size, np.int64)
    found = kernels.condense(histogram, octaves, bins, (-(-50 * count // 100), -(-99 * count // 100)))
    _empty_histograms.append(histogram)
    p50, p99 = (float(kernels.LOWER_EDGES[bin]) for bin in found)
    return octaves, *((p50, p99) if count else (math.nan, math.nan))


def _normwise_relative_error(
    total: Any, num_nonzero_reference: int, r: npt.NDArray[Any], x: npt.NDArray[Any], flushed: bool
) -> float:
    if num_nonzero_reference == 0:
        return math.inf if total.max_difference else 0.0
    if total.max_difference == 0.0:
        return 0.0
    squares = (total.difference_squares, total.reference_squares)
    if all(SMALLEST_SAFE_SQUARE < each < math.inf for each in squares):
        return math.sqrt(squares[0]) / math.sqrt(squares[1])
    # float64 whose squares overflow or underflow: again, in units of the largest.  Rare: plain NumPy.
    finite = np.isfinite(r) & np.isfinite(x)
    r, x = (v[finite].astype(np.float64) for v in (r, x))
    if flushed:
        r, x = flush_subnormals(r, format_of(x.dtype)), flush_subnormals(x, format_of(x.dtype))
    with np.errstate(over="ignore"):
        difference, factor = (x - r, 1.0) if np.isfinite(x - r).all() else (x / 2 - r / 2, 2.0)
        (norm, unit), (reference_norm, reference_unit) = _norm_and_unit(difference), _norm_and_unit(r)
        return float(factor * (norm / reference_norm) * np.divide(unit, reference_unit))


def _norm_and_unit(v: npt.NDArray[np.float64]) -> tuple[float, float]:
    """||v||_2 as a multiple of a power of two near the largest element."""
    unit = float(np.ldexp(0.5, np.frexp(np.abs(v).max())[1]))
    return float(np.linalg.norm(v / unit)), unit


def _compare_integers(reference: npt.NDArray[Any], candidate: npt.NDArray[Any]) -> PairStatistics:
    """Only what integers have: no ULP, no classes, no relative error but that of the norm."""
    unequal = np.flatnonzero(reference != candidate)
    differences = np.abs(_exact_differences(reference.reshape(-1)[unequal], candidate.reshape(-1)[unequal]))
    worst = index_of(int(unequal[np.argmax(differences)]) if unequal.size else -1, reference.shape)
    norm = float(np.linalg.norm(reference.astype(np.float64))) if unequal.size else 1.0
    return PairStatistics(
        dtype=reference.dtype.name,
        size=reference.size,
        num_unequal=unequal.size,
        num_zero_sign=0,
        num_compared=0,
        **dict.fromkeys(("max", "mean", "rms", "p50", "p99", "bias"), math.nan),
        histogram=np.zeros(HISTOGRAM_EDGES.size, np.int64),
        worst_index=worst,
        worst_values=None if worst is None else (float(reference[worst]), float(candidate[worst])),
        normwise_relative_error=float(np.linalg.norm(differences)) / norm if norm else math.inf,
        max_relative_error=math.nan,
        mean_relative_error=math.nan,
        num_zero_reference=0,
        max_absolute_difference=float(differences.max(initial=0.0)),
        classes=ClassCounts(),
    )


def _exact_differences(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """b - a, rounded once: 64-bit integers by halves, which float64 holds."""
    if a.dtype.itemsize < 8:
        return b.astype(np.float64) - a.astype(np.float64)
    half = a.dtype.type(1 << 32)
    high, low = ((f(b, half).astype(np.float64) - f(a, half)) for f in (np.floor_divide, np.remainder))
    return np.asarray(high * 2.0**32 + low)
