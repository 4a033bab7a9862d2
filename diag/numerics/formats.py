"""Binary floating-point formats, and rounding to one of them.

A format is what IEEE 754-2019, section 3.3, calls it: a radix (2 here), a precision and an
exponent range.  Formats that no array can hold, such as NVIDIA's TF32, are formats as well: their
numbers are stored in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Rounding: TypeAlias = Literal["nearest-even", "nearest-away", "toward-zero"]


@dataclass(frozen=True)
class Format:
    """A binary floating-point format with subnormals, infinities and NaN.

    Attributes:
        name: the name used in reports.
        precision: bits of the significand, the hidden one included.
        min_exponent: exponent of the smallest normal number, 2^min_exponent.
        max_exponent: exponent of the largest finite number, just below 2^(max_exponent + 1).
    """

    name: str
    precision: int
    min_exponent: int
    max_exponent: int

    @property
    def unit_roundoff(self) -> float:
        """u = 2^-precision: the largest relative error of one rounding to nearest."""
        return math.ldexp(1.0, -self.precision)

    @property
    def smallest_normal(self) -> float:
        return math.ldexp(1.0, self.min_exponent)

    @property
    def smallest_subnormal(self) -> float:
        return math.ldexp(1.0, self.min_exponent - self.precision + 1)

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return math.ldexp(2.0 - math.ldexp(1.0, 1 - self.precision), self.max_exponent)

    @property
    def is_flushed(self) -> bool:
        """Whether TensorFlow's own kernels may return zero for a subnormal of this format.

        It sets the processor's flush-to-zero and denormals-are-zero, which act on float32; CUDA kernels are
        built to do the same.  bfloat16 has float32's exponents.  float16's subnormals are normal numbers of
        float32, in which they are computed, and stay: 1e-6 * 1 is 1e-6 on the CPU (measured).
        """
        return self.min_exponent == -126

    @property
    def underflow(self) -> float:
        """The absolute error that one operation makes where its result is subnormal."""
        return self.smallest_normal if self.is_flushed else self.smallest_subnormal

    @property
    def overflow_threshold(self) -> float:
        """The smallest magnitude that rounds (to nearest) to infinity: `largest` + half its ULP.

        Infinity for FLOAT64, whose threshold no Python float can hold.
        """
        return self.largest + math.ldexp(1.0, self.max_exponent - self.precision)


FLOAT64 = Format("float64", precision=53, min_exponent=-1022, max_exponent=1023)
FLOAT32 = Format("float32", precision=24, min_exponent=-126, max_exponent=127)
# NVIDIA A100 white paper (2020): "8-bit exponent, 10-bit mantissa, 1 sign bit".
TF32 = Format("tf32", precision=11, min_exponent=-126, max_exponent=127)
FLOAT16 = Format("float16", precision=11, min_exponent=-14, max_exponent=15)
BFLOAT16 = Format("bfloat16", precision=8, min_exponent=-126, max_exponent=127)
# OCP, 8-bit Floating Point Specification (2023).  The largest E4M3 is 448: the number that would be 480 is its NaN.
E4M3 = Format("e4m3", precision=4, min_exponent=-6, max_exponent=8)
E5M2 = Format("e5m2", precision=3, min_exponent=-14, max_exponent=15)

_BY_DTYPE_NAME = {each.name: each for each in (FLOAT64, FLOAT32, FLOAT16, BFLOAT16)}


def float32_with_precision(bits: int) -> Format:
    """The format of `bits` significand bits, hidden one included, with float32's exponent range."""
    if not 1 <= bits <= FLOAT32.precision:
        raise ValueError(f"A significand within float32 has 1 to {FLOAT32.precision} bits. Received: bits={bits}")
    return Format(f"float32:{bits}bit", bits, FLOAT32.min_exponent, FLOAT32.max_exponent)


@lru_cache
def format_of(dtype: np.dtype[Any] | type[Any]) -> Format:
    """The format of a NumPy dtype: float64, float32, float16, or bfloat16 of `ml_dtypes`.

    Raises:
        TypeError: for every other dtype.
    """
    name = np.dtype(dtype).name
    if name not in _BY_DTYPE_NAME:
        raise TypeError(f"Expected a dtype among {', '.join(_BY_DTYPE_NAME)}. Received: dtype={name}")
    return _BY_DTYPE_NAME[name]


def round_to(x: npt.NDArray[Any], format: Format, mode: Rounding = "nearest-even") -> npt.NDArray[Any]:
    """The numbers of `format` nearest to `x`, or nearest towards zero.

    Exact, with gradual underflow.  On overflow the nearest is infinity and "toward-zero" gives
    the largest finite number, as IEEE 754-2019, sections 4.3 and 7.4, has it.  Zeros keep
    their sign, infinities and NaN stay as they are.

    Args:
        x: float32 or float64, any shape.
        format: where to round to; every number of it that lies within x's range must be one of
            x's dtype, or rounding to it changes nothing.
        mode: "nearest-even" (ties to the even significand), "nearest-away" (ties away from zero, as
            NVIDIA's cvt.rna.tf32.f32 rounds: PTX ISA, cvt) or "toward-zero" (truncation).

    Returns:
        A new array of x's shape and dtype.

    Raises:
        TypeError: if x is neither float32 nor float64.
        ValueError: for another mode.
    """
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"Rounding is done on float32 or float64 arrays. Received: dtype={x.dtype}")
    if mode not in get_args(Rounding):
        raise ValueError(f"A rounding mode is one of {', '.join(get_args(Rounding))}. Received: mode={mode!r}")
    own = format_of(x.dtype)
    if _contains(format, own):
        return x.copy()
    has_parity = format.precision > 1 or mode != "nearest-even"  # else the last bit kept is the exponent's
    if has_parity and (format.min_exponent, format.max_exponent) == (own.min_exponent, own.max_exponent):
        return _round_bits(x, own.precision - format.precision, mode)
    return _round_values(x, format, mode)


def _contains(outer: Format, inner: Format) -> bool:
    return (
        outer.precision >= inner.precision
        and outer.max_exponent >= inner.max_exponent
        and outer.min_exponent - outer.precision <= inner.min_exponent - inner.precision
    )


def _round_bits(x: npt.NDArray[Any], num_dropped: int, mode: Rounding) -> npt.NDArray[Any]:
    """Round away the last `num_dropped` bits of the encoding; the exponent range is x's own.

    On the encoding, subnormals need no case of their own, and a carry out of the significand
    raises the exponent, up to infinity: the encodings of magnitudes are ordered as they are.
    """
    word = np.dtype(f"u{x.dtype.itemsize}").type
    bits = x.view(word)
    kept = word(np.iinfo(word).max ^ ((1 << num_dropped) - 1))
    if mode == "toward-zero":
        rounded = np.asarray(bits & kept)
    elif mode == "nearest-away":
        rounded = np.asarray(bits + word(1 << (num_dropped - 1)))
        rounded &= kept
    else:
        rounded = np.asarray(bits >> word(num_dropped))
        rounded &= word(1)
        rounded += word((1 << (num_dropped - 1)) - 1)
        rounded += bits
        rounded &= kept
    # A carry, or a lost payload, would turn NaN into something else.
    np.copyto(rounded, bits, where=np.isnan(x))
    return rounded.view(x.dtype)


def _away(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    whole = np.trunc(values)
    return np.asarray(whole + np.copysign(np.abs(values - whole) >= values.dtype.type(0.5), values))


_TO_WHOLE: dict[Rounding, Callable[[npt.NDArray[Any]], Any]] = {
    "nearest-even": np.rint,
    "nearest-away": _away,
    "toward-zero": np.trunc,
}


def _round_values(x: npt.NDArray[Any], format: Format, mode: Rounding) -> npt.NDArray[Any]:
    """Round to a multiple of the format's spacing at x.

    The spacing is a power of two, so that dividing and multiplying by it are exact.
    """
    own = format_of(x.dtype)
    word = np.dtype(f"u{x.dtype.itemsize}").type
    scalar = x.dtype.type
    exponent_field = word(((1 << (8 * x.dtype.itemsize - own.precision)) - 1) << (own.precision - 1))
    finite = np.isfinite(x)
    values = np.where(finite, x, scalar(0))
    spacing = (values.view(word) & exponent_field).view(x.dtype)  # 2^floor(log2|x|); 0 for subnormals
    spacing = np.maximum(spacing, scalar(format.smallest_normal)) * scalar(2.0 ** (1 - format.precision))
    values /= spacing
    rounded = np.asarray(_TO_WHOLE[mode](values))
    with np.errstate(over="ignore"):  # rounded up to beyond x's own range: infinite below, in any case
        rounded *= spacing
    overflowed = np.abs(rounded) > scalar(format.largest)
    limit = format.largest if mode == "toward-zero" else np.inf
    np.copyto(rounded, np.copysign(scalar(limit), x), where=overflowed)
    np.copyto(rounded, x, where=~finite)
    return rounded
