"""Units in the last place: spacing, error against truth, and distance between two numbers.

Two measures, never mixed:

- `ulp_error` of x against float64 truth r is (x - r) / ulp(r), a real number;
- `ulp_distance` between two floats of one dtype is the number of steps between them, an integer.

Neither has a value where a NaN or an infinity takes part.  `classify` says which elements those are.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.formats import Format, format_of


class PairClass(IntEnum):
    """What an element is before any distance is measured: the first class that fits, and no other."""

    NAN_NAN = 1
    """NaN on both sides: equal, whatever the payloads."""
    NAN_NUMBER = 2
    """NaN on one side only."""
    INF_INF = 3
    """The same infinity on both sides: equal."""
    INF_OPPOSITE = 4
    """Infinities of opposite signs."""
    INF_FINITE = 5
    """An infinity on one side only."""
    BOTH_ZERO = 6
    """Zeros, of any signs."""
    OPPOSITE_SIGNS = 7
    """Two finite numbers, neither zero, of opposite signs."""
    SUBNORMAL = 8
    """Two finite numbers, at least one of them subnormal; the other may be zero."""
    ORDINARY = 0
    """Everything else.  A zero against a normal number is ordinary, whatever its sign."""


def classify(
    reference: npt.NDArray[Any], candidate: npt.NDArray[Any], format: Format | None = None
) -> npt.NDArray[np.uint8]:
    """The `PairClass` of every element.

    Args:
        reference: float array, a tensor or float64 truth.
        candidate: float array of the same shape.
        format: the format that decides what is subnormal, by default that of candidate's dtype.  A
            finite reference that overflows in this format equals the infinity it rounds to, and is
            the finite number it is against anything else.

    Returns:
        uint8 array of the same shape, values of `PairClass`.
    """
    format = format or format_of(candidate.dtype)
    r, x = _widened(reference), _widened(candidate)
    r = np.where(np.isinf(x) & (np.abs(r) >= format.overflow_threshold), np.copysign(np.inf, r), r)
    r_inf, x_inf = np.isinf(r), np.isinf(x)
    r_subnormal, x_subnormal = ((v != 0) & (np.abs(v) < format.smallest_normal) for v in (r, x))
    cases = (
        (np.isnan(r) & np.isnan(x), PairClass.NAN_NAN),
        (np.isnan(r) | np.isnan(x), PairClass.NAN_NUMBER),
        (r_inf & (r == x), PairClass.INF_INF),
        (r_inf & x_inf, PairClass.INF_OPPOSITE),
        (r_inf | x_inf, PairClass.INF_FINITE),
        ((r == 0) & (x == 0), PairClass.BOTH_ZERO),
        ((np.sign(r) * np.sign(x)) < 0, PairClass.OPPOSITE_SIGNS),
        (r_subnormal | x_subnormal, PairClass.SUBNORMAL),
    )
    conditions, codes = zip(*cases, strict=True)
    return np.select(conditions, [np.uint8(code) for code in codes], np.uint8(PairClass.ORDINARY))


def flush_subnormals(x: npt.NDArray[Any], format: Format) -> npt.NDArray[Any]:
    """A copy of `x` in which numbers below `format`'s smallest normal number are zeros of their sign.

    The magnitude before rounding decides ("tininess before rounding", IEEE 754-2019, section 7.5); processors
    that decide after rounding differ by one flushed step, for values less than half a ULP below it.

    Args:
        x: any float dtype, any shape; float64 truth as well as tensors of the format itself.
        format: whose smallest normal number counts.
    """
    x = np.asarray(x)
    tiny = np.abs(_widened(x)) < format.smallest_normal
    return np.where(tiny, np.copysign(np.zeros_like(x), x), x)


def ulp(r: npt.ArrayLike, format: Format) -> npt.NDArray[np.float64]:
    """Spacing of `format` at the real number `r`: 2^(max(floor(log2|r|), min_exponent) - precision + 1).

    At a power of two, where the spacings on both sides differ, it is the smaller one, as in
    Ulp_Error of the OpenCL conformance tests (test_common/harness/errorHelpers.cpp).

    Args:
        r: float64, any shape.
        format: the format that x, to be held against r, is in.

    Returns:
        float64 array of r's shape, powers of two; NaN where r is not finite.
    """
    r = np.asarray(r, np.float64)
    exponent_field, significand_field = np.uint64(0x7FF << 52), np.uint64((1 << 52) - 1)
    bits = np.abs(r).view(np.uint64)
    power = (bits & exponent_field).view(np.float64)  # 2^floor(log2|r|); 0 for float64 subnormals
    power = np.where((bits & significand_field) == 0, 0.5 * power, power)
    spacing = np.maximum(power, format.smallest_normal) * 2.0 ** (1 - format.precision)
    return np.where(np.isfinite(r), spacing, np.nan)


def ulp_error(x: npt.NDArray[Any], r: npt.ArrayLike, format: Format, flushed: bool = False) -> npt.NDArray[np.float64]:
    """Signed error of `x` against truth `r`, (x - r) / ulp(r).

    Args:
        x: any float dtype, any shape: numbers of `format`.
        r: float64 truth of the same shape.
        format: the format whose ULP is the unit.
        flushed: subnormals count as zero on both sides, and the smallest normal number is one step from
            zero: magnitudes are measured from there where x and r lie on different sides of the gap.

    Returns:
        float64 array.  By class (`PairClass`): 0 for NAN_NAN and INF_INF; NaN for NAN_NUMBER; for
        INF_OPPOSITE and INF_FINITE infinity, of the sign of x - r.  A float64 error beyond float64's
        range is infinite as well.
    """
    x, r = _widened(x), _widened(r)
    overflows_alike = np.isinf(x) & (np.abs(r) >= format.overflow_threshold) & (np.sign(x) == np.sign(r))
    equal = overflows_alike | (np.isnan(x) & np.isnan(r))
    if flushed:
        x, r = flush_subnormals(x, format), flush_subnormals(r, format)
    spacing = ulp(np.where(np.isfinite(r), r, 1.0), format)
    if flushed:
        apart = np.sign(x) != np.sign(r)
        x, r = (np.where(apart, _without_gap(v, format), v) for v in (x, r))
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        # The square root of the spacing on either side of the subtraction keeps huge float64 apart from
        # overflow: ulp(r) spans 2^-1074 to 2^971, and so neither it nor x - r need be invertible.
        exponent = np.frexp(spacing)[1] - 1
        half = exponent >> 1
        error = np.ldexp(np.ldexp(x, -half) - np.ldexp(r, -half), half - exponent)
    return np.where(equal, 0.0, error)


def _widened(x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # widening a signalling NaN raises the flag
        return np.asarray(x).astype(np.float64, copy=False)


def _without_gap(v: npt.NDArray[np.float64], format: Format) -> npt.NDArray[np.float64]:
    """Normal numbers moved towards zero until the smallest is the smallest subnormal."""
    gap = format.smallest_normal - format.smallest_subnormal
    return np.where(v == 0, v, np.copysign(np.abs(v) - gap, v))


def ulp_distance(a: npt.NDArray[Any], b: npt.NDArray[Any], flushed: bool = False) -> npt.NDArray[np.int64]:
    """Steps between `a` and `b` on the line of all their format's numbers, on which +0 and -0 are one.

    Args:
        a, b: arrays of the same shape and dtype: float16, bfloat16, float32 or float64.
        flushed: subnormals are no numbers: they count as zero, and zero and the smallest normal number
            of either sign are one step apart (JAX, docs/accuracy.md).

    Returns:
        int64 array, never negative.  -1 where no distance is defined: where either side is NaN or
        infinite (`classify` says which).  float64 distances of 2^63 and more, only possible between
        opposite signs, are given as 2^63 - 1.

    Raises:
        TypeError: if the dtypes differ or are no format of ours.
        ValueError: if the shapes differ.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype:
        raise TypeError(f"Distances are between numbers of one dtype. Received: a={a.dtype}, b={b.dtype}")
    if a.shape != b.shape:
        raise ValueError(f"Distances are element by element. Received: a.shape={a.shape}, b.shape={b.shape}")
    line_a, line_b = _ordered_integers(a, flushed), _ordered_integers(b, flushed)
    with np.errstate(over="ignore"):
        distance = np.abs(line_a - line_b)
    # Opposite signs add magnitudes: both are below 2^63, their sum below 2^64, so it wraps to negative.
    wrapped = ((line_a ^ line_b) < 0) & ((np.abs(line_a) + np.abs(line_b)) < 0)
    distance = np.where(wrapped, np.iinfo(np.int64).max, distance)
    defined = np.isfinite(_widened(a)) & np.isfinite(_widened(b))
    return np.where(defined, distance, -1)


def _ordered_integers(x: npt.NDArray[Any], flushed: bool) -> npt.NDArray[np.int64]:
    """The place of each number on the line: its encoding read as sign and magnitude."""
    format = format_of(x.dtype)
    width = 8 * x.dtype.itemsize
    bits = np.ascontiguousarray(x).reshape(-1).view(f"i{x.dtype.itemsize}").astype(np.int64).reshape(x.shape)
    magnitude = bits & ((1 << (width - 1)) - 1)
    if flushed:
        smallest_normal = 1 << (format.precision - 1)
        magnitude = np.maximum(magnitude - (smallest_normal - 1), 0)
    return np.where(bits < 0, -magnitude, magnitude)
