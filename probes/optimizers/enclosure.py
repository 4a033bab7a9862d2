"""Intervals that hold every result that rounding allows: exact arithmetic, widened by what each operation may lose.

A formula written with these numbers gives, element by element, the exact result and the range in which a device that
does the same operations in a format must end.  That is interval arithmetic (Moore 1966) with the rounding of each
operation taken from its published allowance; no constant is fitted.  Exact results are numbers of mpmath in arrays of
objects; the ends are float64, moved outward by more than float64 itself can lose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import mpmath
import numpy as np
import numpy.typing as npt

from diag.numerics.formats import FLOAT32, Format, round_to
from diag.numerics.op_classes import allowance_ulp

Numbers: TypeAlias = Any  # an array of mpmath.mpf
Ends: TypeAlias = npt.NDArray[np.float64]
PRECISION = (
    400  # bits: sums of numbers of float32, from 2^128 to 2^-149, are exact, roots and powers far beyond float64
)
OF_FLOAT64 = 2.0**-48  # relative: an operation in float64 loses 2^-53, a power of a number near 1 a few times that


def exactly(values: Any) -> Numbers:
    """The numbers themselves, as mpmath has them: at least one axis, since NumPy unpacks arrays of objects without."""
    return np.vectorize(mpmath.mpf, otypes=[object])(_wide(values))


def as_float64(values: Numbers) -> Ends:
    with np.errstate(all="ignore"):  # what is beyond float64 is infinite
        return np.vectorize(float, otypes=[np.float64])(values)


@dataclass(frozen=True)
class Enclosure:
    """exact: what exact arithmetic gives.  low, high: between which a device in `format` ends.

    Ends are infinite where an operation on the way may overflow, or divide by zero: nothing is said there.
    """

    exact: Numbers
    low: Ends
    high: Ends
    format: Format

    def __add__(self, other: Enclosure) -> Enclosure:
        return self._rounded(self.exact + other.exact, [self.low + other.low, self.high + other.high], 0.5)

    def __sub__(self, other: Enclosure) -> Enclosure:
        return self._rounded(self.exact - other.exact, [self.low - other.high, self.high - other.low], 0.5)

    def __mul__(self, other: Enclosure) -> Enclosure:
        return self._rounded(self.exact * other.exact, self._corners(other, np.multiply), 0.5)

    def __truediv__(self, other: Enclosure) -> Enclosure:
        exact = _pairwise(_divided, self.exact, other.exact)
        made = self._rounded(exact, self._corners(other, np.divide), self._allowance("RealDiv"))
        return _free(made, (other.low <= 0) & (other.high >= 0))

    def __neg__(self) -> Enclosure:
        return Enclosure(-self.exact, -self.high, -self.low, self.format)

    def square(self) -> Enclosure:
        size = self.abs()
        return self._rounded(self.exact * self.exact, [size.low * size.low, size.high * size.high], 0.5)

    def sqrt(self) -> Enclosure:
        """Where rounding may have made the number negative nothing is said: the root may be NaN."""
        ends = [np.sqrt(np.maximum(self.low, 0)), np.sqrt(np.maximum(self.high, 0))]
        return _free(self._rounded(_each(_root, self.exact), ends, self._allowance("Sqrt")), self.low < 0)

    def power(self, exponent: Enclosure) -> Enclosure:
        """For a base of at least 0: monotone in both, so its extremes are at the corners.  1 to any power is 1."""
        if np.all((self.low == 1) & (self.high == 1)):
            return self
        exact = _pairwise(_power, self.exact, exponent.exact)
        return self._rounded(exact, self._corners(exponent, np.power), self._allowance("Pow"))

    def abs(self) -> Enclosure:
        low, high = np.abs(self.low), np.abs(self.high)
        crosses = (self.low <= 0) & (self.high >= 0)
        return Enclosure(
            abs(self.exact), np.where(crosses, 0.0, np.minimum(low, high)), np.maximum(low, high), self.format
        )

    def sign(self) -> Enclosure:
        return Enclosure(_each(mpmath.sign, self.exact), np.sign(self.low), np.sign(self.high), self.format)

    def maximum(self, other: Enclosure) -> Enclosure:
        exact = np.maximum(self.exact, other.exact)
        return Enclosure(exact, np.maximum(self.low, other.low), np.maximum(self.high, other.high), self.format)

    def minimum(self, other: Enclosure) -> Enclosure:
        return -(-self).maximum(-other)

    def sum(self) -> Enclosure:
        """Over all elements, in any order: each of n - 1 additions rounds at most the sum of the magnitudes."""
        magnitude = np.sum(np.maximum(np.abs(self.low), np.abs(self.high)))
        lost = (
            self.exact.size * self.format.unit_roundoff * magnitude * (1 + self.exact.size * self.format.unit_roundoff)
        )
        ends = [np.atleast_1d(np.sum(self.low) - lost), np.atleast_1d(np.sum(self.high) + lost)]
        return self._rounded(np.array([np.sum(self.exact)], object), ends, 0.5)

    def _corners(self, other: Enclosure, operation: Callable[[Any, Any], Any]) -> list[Ends]:
        with np.errstate(all="ignore"):
            return [operation(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]

    def _allowance(self, op_type: str) -> float:
        """In ULP.  In a narrow format the op is computed in float32 and rounded, half an ULP; one is allowed."""
        return allowance_ulp(op_type) if self.format.precision >= FLOAT32.precision else 1.0

    def _rounded(self, exact: Numbers, ends: list[Ends], num_ulps: float) -> Enclosure:
        """The hull of `ends`, moved outward by what an operation of `num_ulps` may lose, overflow and flush too."""
        shape = np.broadcast_shapes(*(np.shape(x) for x in (exact, *ends)))
        stacked = np.stack([np.broadcast_to(x, shape) for x in ends])
        unknown = ~np.all(np.isfinite(stacked), axis=0)
        stacked = np.where(unknown, 0.0, stacked)
        low, high = stacked.min(axis=0), stacked.max(axis=0)
        lower, higher = low - self._lost(low, num_ulps), high + self._lost(high, num_ulps)
        # rounding takes nothing across zero, and leaves zero alone
        lower = np.where(low >= 0, np.maximum(0, lower), lower)
        higher = np.where(high <= 0, np.minimum(0, higher), higher)
        unknown |= (higher >= self.format.overflow_threshold) | (lower <= -self.format.overflow_threshold)
        return _free(Enclosure(np.broadcast_to(exact, shape), lower, higher, self.format), unknown)

    def _lost(self, values: Ends, num_ulps: float) -> Ends:
        size = np.abs(values)
        exponent = np.maximum(np.frexp(size)[1] - 1, self.format.min_exponent)
        lost = num_ulps * np.ldexp(1.0, exponent - self.format.precision + 1) + size * OF_FLOAT64
        if self.format.is_flushed:  # subnormals may be taken for zero, going in and coming out
            lost = lost + np.where(size < 2 * self.format.smallest_normal, self.format.smallest_normal, 0.0)
        return lost


def point(values: Any, format: Format) -> Enclosure:
    """Numbers of the format, known exactly; a subnormal that may be taken for zero is somewhere on the way to it."""
    wide = _wide(values)
    tiny = (np.abs(wide) < format.smallest_normal) & format.is_flushed
    low, high = (np.where(tiny, bound(wide, 0), wide) for bound in (np.minimum, np.maximum))
    return _free(Enclosure(exactly(np.nan_to_num(wide)), low, high, format), ~np.isfinite(wide))


def constant(value: float, format: Format) -> Enclosure:
    """A Python number as TensorFlow has it in the format: rounded once, or by way of float32."""
    number = np.array([value], np.float64)
    once, twice = round_to(number, format), round_to(round_to(number, FLOAT32), format)
    return Enclosure(exactly(once), np.minimum(once, twice), np.maximum(once, twice), format)


def unrounded(value: mpmath.mpf, format: Format) -> Enclosure:
    """A number as the formula has it: only `exact` is of use then."""
    near = np.array([float(value)])
    return Enclosure(np.array([value], object), near, near, format)


def _wide(values: Any) -> Ends:
    return np.atleast_1d(np.asarray(values).astype(np.float64))


def _free(made: Enclosure, where: Any) -> Enclosure:
    return Enclosure(made.exact, np.where(where, -np.inf, made.low), np.where(where, np.inf, made.high), made.format)


def _each(function: Callable[[Any], Any], values: Numbers) -> Any:
    return np.vectorize(function, otypes=[object])(values)


def _pairwise(function: Callable[[Any, Any], Any], a: Numbers, b: Numbers) -> Any:
    return np.vectorize(function, otypes=[object])(a, b)


def _divided(a: Any, b: Any) -> Any:
    return a / b if b != 0 else mpmath.nan


def _root(x: Any) -> Any:
    return mpmath.sqrt(x) if x >= 0 else mpmath.nan


def _power(base: Any, exponent: Any) -> Any:
    return mpmath.power(base, exponent) if base > 0 else mpmath.mpf(exponent == 0)
