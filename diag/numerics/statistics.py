"""Figures about two tensors: a candidate against a reference, or a tensor against float64 truth.

All of them come from one pass over both tensors (`kernels`), and are added up in float64.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from diag.numerics import kernels
from diag.numerics.figures import (
    CLASS_NAMES,
    HISTOGRAM_EDGES,
    ClassCounts,
    Index,
    PairStatistics,
    ScaledError,
    Statistics,
    TruthStatistics,
)
from diag.numerics.formats import Format, format_of
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
    "scaled_error",
]

# Below this many elements a second thread costs more to start (0.1 ms) than it saves.
_MIN_ELEMENTS_PER_THREAD = 1 << 18
# Squares of float64 numbers leave float64's range; from here on down they lose bits.
_SMALLEST_SAFE_SQUARE = 2.0**-900


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
    _require_same_shape(reference=reference, candidate=candidate)
    if reference.dtype.kind in "biu":
        return _compare_integers(reference, candidate)
    format = format_of(candidate.dtype)
    (a, table), (b, _) = _widenable(reference), _widenable(candidate)
    a_bits, b_bits = a.view(f"i{a.itemsize}"), b.view(f"i{b.itemsize}")
    width = 8 * a.itemsize
    hidden = 1 << (format.precision - 1)
    infinity = ((1 << (width - format.precision)) - 1) << (format.precision - 1)

    def add(part: slice, totals: npt.NDArray[Any], histogram: npt.NDArray[np.int64]) -> None:
        kernels.add_pair(
            a[part], b[part], a_bits[part], b_bits[part], table, format.smallest_normal,
            (1 << (width - 1)) - 1, infinity, hidden, flushed, part.start, totals, histogram,
        )  # fmt: skip

    return _statistics(PairStatistics, reference, candidate, flushed, *_add_up(a.size, kernels.TOTALS, add))


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
    x, truth = np.asarray(x), _float64_truth(truth)
    _require_same_shape(x=x, truth=truth)
    values, table = _widenable(x)
    format = format or format_of(x.dtype)
    r = np.ascontiguousarray(truth).reshape(-1)
    gap = format.smallest_normal - format.smallest_subnormal if flushed else 0.0

    def add(part: slice, totals: npt.NDArray[Any], histogram: npt.NDArray[np.int64]) -> None:
        kernels.add_truth(
            r[part], values[part], table, format.smallest_normal, format.overflow_threshold, format.precision,
            format.min_exponent, gap, part.start, totals, histogram,
        )  # fmt: skip

    return _statistics(TruthStatistics, truth, x, flushed, *_add_up(r.size, kernels.TOTALS, add))


def scaled_error(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], scale: npt.ArrayLike, unit_roundoff: float, underflow: float
) -> ScaledError:
    """Error of `x` in units of unit_roundoff * scale + underflow, element by element.

    For a product, scale is |A||B| and underflow is n times the smallest subnormal (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., section 3.5 and problem 2.19).

    Args:
        x: float16, bfloat16, float32 or float64, any shape and strides.
        truth: float64 of the same shape.  Where both are NaN, or both the same infinity (as truth is that
            overflows in x's format), the error is 0.
        scale: not negative, of the same shape or one that broadcasts to it.
        unit_roundoff: `Format.unit_roundoff` of the arithmetic.
        underflow: absolute error to be granted to every element.

    Raises:
        TypeError: if x has no format of ours or truth is not float64.
        ValueError: if the shapes differ.
    """
    x, truth = np.asarray(x), _float64_truth(truth)
    _require_same_shape(x=x, truth=truth)
    values, table = _widenable(x)
    r = np.ascontiguousarray(truth).reshape(-1)
    unit = np.ascontiguousarray(np.broadcast_to(np.asarray(scale, np.float64), x.shape)).reshape(-1)
    overflow = format_of(x.dtype).overflow_threshold

    def add(part: slice, totals: npt.NDArray[Any], _: npt.NDArray[np.int64]) -> None:
        kernels.add_scaled(
            r[part], values[part], unit[part], table, unit_roundoff, underflow, overflow, part.start, totals
        )

    total, _ = _add_up(r.size, kernels.SCALED_TOTALS, add)
    return ScaledError(
        rms=math.sqrt(total.sum_squares / max(r.size, 1)),
        max=total.max,
        worst_index=_index(total.worst, x.shape),
        num_outside_scale=total.outside,
    )


def _float64_truth(truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    truth = np.asarray(truth)
    if truth.dtype != np.float64:
        raise TypeError(f"Truth is float64. Received: truth.dtype={truth.dtype}")
    return truth


def _require_same_shape(**arrays: npt.NDArray[Any]) -> None:
    if len({array.shape for array in arrays.values()}) > 1:
        received = ", ".join(f"{name}.shape={array.shape}" for name, array in arrays.items())
        raise ValueError(f"Statistics are element by element. Received: {received}")


@lru_cache
def _widening_table(dtype: np.dtype[Any]) -> npt.NDArray[np.float32]:
    """The value of each of the 65536 encodings of a 16-bit format."""
    with np.errstate(invalid="ignore"):  # widening a signalling NaN raises the flag
        return np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(np.float32)


_NO_TABLE: npt.NDArray[np.float32] = np.empty(0, np.float32)


def _widenable(x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """x in one dimension, as its values, or as its encodings and the table of their values."""
    flat = np.ascontiguousarray(x).reshape(-1)
    format_of(flat.dtype)
    return (flat.view(np.int16), _widening_table(flat.dtype)) if flat.itemsize == 2 else (flat, _NO_TABLE)


AddPart: TypeAlias = Callable[[slice, npt.NDArray[Any], npt.NDArray[np.int64]], None]


def _add_up(size: int, dtype: np.dtype[Any], add: AddPart) -> tuple[SimpleNamespace, npt.NDArray[np.int64]]:
    """The totals named in `dtype`, and the histogram; large tensors in one part a thread.

    Threads of our own rather than numba's, whose default layer must not be entered by two threads at once
    (numba documentation, "The Threading Layers").
    """
    num_parts = max(1, min(_num_cores(), size // _MIN_ELEMENTS_PER_THREAD))
    ends = [size * part // num_parts for part in range(num_parts + 1)]
    totals = np.zeros(num_parts, dtype)
    for name in kernels.INDEX_TOTALS.intersection(dtype.names or ()):
        totals[name] = -1
    histograms = np.zeros((num_parts, kernels.NUM_BINS), np.int64)

    def add_part(part: int) -> None:
        add(slice(ends[part], ends[part + 1]), totals[part : part + 1], histograms[part])

    if num_parts == 1:
        add_part(0)
        return _merged(totals), histograms[0]
    with ThreadPoolExecutor(num_parts) as pool:
        list(pool.map(add_part, range(num_parts)))
    return _merged(totals), histograms.sum(axis=0)


def _merged(totals: npt.NDArray[Any]) -> SimpleNamespace:
    """Totals of all parts, which are in the order of the elements."""
    names = totals.dtype.names or ()
    columns = dict(zip(names, zip(*totals.tolist(), strict=True), strict=True))
    merged = {name: max(column) if "max" in name else sum(column) for name, column in columns.items()}
    merged["worst"] = columns["worst"][columns["max"].index(merged["max"])]
    if "first_mismatch" in columns:
        merged["first_mismatch"] = next((index for index in columns["first_mismatch"] if index >= 0), -1)
    return SimpleNamespace(**merged)


@lru_cache
def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


AnyStatistics = TypeVar("AnyStatistics", bound=Statistics)


def _statistics(
    kind: type[AnyStatistics],
    r: npt.NDArray[Any],
    x: npt.NDArray[Any],
    flushed: bool,
    total: SimpleNamespace,
    histogram: npt.NDArray[np.int64],
) -> AnyStatistics:
    classes = ClassCounts(**{name: getattr(total, name) for name in CLASS_NAMES})
    num_compared = x.size - classes.num_without_distance
    num_nonzero_reference = num_compared - total.zero_reference
    histogram[0] -= classes.num_without_distance  # they went through as equal zeros
    worst = _index(total.first_mismatch if total.first_mismatch >= 0 else total.worst, x.shape)
    octaves = histogram[2:].reshape(-1, kernels.BINS_PER_OCTAVE)
    p50, p99 = _percentiles(histogram, num_compared, (50, 99))
    return kind(
        dtype=x.dtype.name,
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
        histogram=np.concatenate((histogram[:2], octaves.sum(axis=1))),
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


def _index(flat: int, shape: Index) -> Index | None:
    if flat < 0:
        return None
    index: list[int] = []
    for length in reversed(shape):
        flat, i = divmod(flat, length)
        index.insert(0, i)
    return tuple(index)


def _percentiles(histogram: npt.NDArray[np.int64], count: int, percents: tuple[int, ...]) -> list[float]:
    """The lower edge of the bin that holds the ceil(percent * count / 100)-th smallest."""
    if count == 0:
        return [math.nan for _ in percents]
    ranks = [-(-percent * count // 100) for percent in percents]
    bins = np.searchsorted(np.cumsum(histogram), ranks)
    return [kernels.lower_edge(int(bin)) for bin in bins]


def _normwise_relative_error(
    total: SimpleNamespace, num_nonzero_reference: int, r: npt.NDArray[Any], x: npt.NDArray[Any], flushed: bool
) -> float:
    if num_nonzero_reference == 0:
        return math.inf if total.max_difference else 0.0
    if total.max_difference == 0.0:
        return 0.0
    squares = (total.difference_squares, total.reference_squares)
    if all(_SMALLEST_SAFE_SQUARE < each < math.inf for each in squares):
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
    worst = _index(int(unequal[np.argmax(differences)]) if unequal.size else -1, reference.shape)
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
