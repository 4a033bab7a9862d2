"""Figures about two tensors: a candidate against a reference, or a tensor against float64 truth.

All of them come from one pass over both tensors (`kernels`), and are added up in float64.
"""

from __future__ import annotations

import math
import os
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

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

# Below this many elements a second thread costs more to wake than it saves.
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
    code = _encoding(candidate.dtype)
    a, b = _flat(reference, code.stored), _flat(candidate, code.stored)
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


def _of_equal_bits(
    code: _Encoding, a_bits: npt.NDArray[Any], b_bits: npt.NDArray[Any], flushed: bool
) -> PairStatistics | None:
    """Statistics of two tensors that have the same bits, all of them finite; None of others."""

    def count(part: slice) -> tuple[int, int]:
        return kernels.equal_bits(a_bits[part], b_bits[part], code.magnitude_mask, code.infinity, code.hidden)

    counts = _by_part(a_bits.size, count)
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
    x, truth = np.asarray(x), _float64_truth(truth)
    _require_same_shape(x=x, truth=truth)
    code = _encoding(x.dtype)
    format = format or code.format
    r, values = _flat(truth, truth.dtype), _flat(x, code.stored)
    gap = format.smallest_normal - format.smallest_subnormal if flushed else 0.0

    def add(part: slice, totals: npt.NDArray[Any], histogram: npt.NDArray[np.int64]) -> None:
        kernels.add_truth(
            r[part], values[part], code.table, format.smallest_normal, format.overflow_threshold, format.precision,
            format.min_exponent, gap, part.start, totals, histogram,
        )  # fmt: skip

    return _statistics(TruthStatistics, truth, x, flushed, *_add_up(r.size, kernels.NOTHING, add))


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
    code = _encoding(x.dtype)
    r, values = _flat(truth, truth.dtype), _flat(x, code.stored)
    sizes = np.asarray(scale)
    sizes = sizes if sizes.dtype == np.float32 else sizes.astype(np.float64, copy=False)
    unit = _flat(sizes if sizes.shape == x.shape else np.broadcast_to(sizes, x.shape), sizes.dtype)
    overflow = code.format.overflow_threshold

    def add(part: slice, totals: npt.NDArray[Any], _: npt.NDArray[np.int64]) -> None:
        kernels.add_scaled(
            r[part], values[part], unit[part], code.table, unit_roundoff, underflow, overflow, part.start, totals
        )

    total, unused = _add_up(r.size, kernels.NOTHING_SCALED, add)
    _empty_histograms.append(unused)
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
    first, second = arrays.values()
    if first.shape != second.shape:
        received = ", ".join(f"{name}.shape={array.shape}" for name, array in arrays.items())
        raise ValueError(f"Statistics are element by element. Received: {received}")


class _Encoding(NamedTuple):
    """A dtype as the kernels know it.

    Arrays of it are handed over as `stored`, which is the encodings of a 16-bit format and else the values; `table` has
    the value of each of the 65536 encodings, `bits` is the signed integer of its width.  `infinity` and `hidden`
    are the encodings of infinity and of the smallest normal number.
    """

    name: str
    format: Format
    stored: np.dtype[Any]
    bits: np.dtype[Any]
    table: npt.NDArray[np.float32]
    smallest_normal: float
    magnitude_mask: int
    infinity: int
    hidden: int


@lru_cache
def _encoding(dtype: np.dtype[Any]) -> _Encoding:
    format, width = format_of(dtype), 8 * dtype.itemsize
    bits = np.dtype(f"i{dtype.itemsize}")
    table = np.empty(0, np.float32)
    if width == 16:
        with np.errstate(invalid="ignore"):  # widening a signalling NaN raises the flag
            table = np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(np.float32)
    table.setflags(write=False)
    return _Encoding(
        name=dtype.name,
        format=format,
        stored=bits if width == 16 else dtype,
        bits=bits,
        table=table,
        smallest_normal=format.smallest_normal,
        magnitude_mask=(1 << (width - 1)) - 1,
        infinity=((1 << (width - format.precision)) - 1) << (format.precision - 1),
        hidden=1 << (format.precision - 1),
    )


def _flat(x: npt.NDArray[Any], stored: np.dtype[Any]) -> npt.NDArray[Any]:
    """x in one dimension, read only: numba compiles a kernel anew for arrays that may be written."""
    flat = np.ascontiguousarray(x).reshape(-1).view(stored)
    flat.setflags(write=False)
    return flat


AddPart: TypeAlias = Callable[[slice, npt.NDArray[Any], npt.NDArray[np.int64]], None]


Part = TypeVar("Part")


def _by_part(size: int, run: Callable[[slice], Part]) -> list[Part]:
    """What `run` gives of each part of so many elements; large tensors in one part a thread.

    Threads of our own rather than numba's, whose default layer must not be entered by two threads at once
    (numba documentation, "The Threading Layers").
    """
    num_parts = _num_parts(size)
    if num_parts == 1:
        return [run(slice(0, size))]
    ends = [size * part // num_parts for part in range(num_parts + 1)]
    return list(_threads().map(run, map(slice, ends, ends[1:])))


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

    parts = _by_part(size, add_part)
    totals, histogram = parts[0]
    if len(parts) == 1:
        return _names(nothing.dtype)(*totals[0].item()), histogram
    return _merged(np.concatenate([totals for totals, _ in parts])), np.sum([each for _, each in parts], axis=0)


def _num_parts(size: int) -> int:
    return max(1, min(_num_cores(), size // _MIN_ELEMENTS_PER_THREAD))


@lru_cache
def _names(dtype: np.dtype[Any]) -> Any:
    return namedtuple("Totals", dtype.names or ())


def _merged(totals: npt.NDArray[Any]) -> Any:
    """Totals of all parts, which are in the order of the elements."""
    names = totals.dtype.names or ()
    columns = dict(zip(names, zip(*totals.tolist(), strict=True), strict=True))
    ways = {"max": max, "min": min}
    merged = {name: next((way for word, way in ways.items() if word in name), sum)(c) for name, c in columns.items()}
    merged["worst"] = columns["worst"][columns["max"].index(merged["max"])]
    if "first_mismatch" in columns:
        merged["first_mismatch"] = next((index for index in columns["first_mismatch"] if index >= 0), -1)
    return _names(totals.dtype)(**merged)


@lru_cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_num_cores())


@lru_cache
def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    worst = _index(total.first_mismatch if total.first_mismatch >= 0 else total.worst, x.shape)
    histogram[0] -= classes.num_without_distance  # they went through as equal zeros
    octaves, p50, p99 = _distribution(histogram, num_compared, (total.min_bin, total.max_bin))
    return kind(
        dtype=_encoding(x.dtype).name,
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


def _index(flat: int, shape: Index) -> Index | None:
    if flat < 0:
        return None
    index: list[int] = []
    for length in reversed(shape):
        flat, i = divmod(flat, length)
        index.insert(0, i)
    return tuple(index)


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
