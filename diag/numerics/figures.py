"""Figures of one tensor: what `statistics` returns, with its form in JSON, and how much of it rounding explains."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from diag.numerics.op_classes import ErrorClass

Index: TypeAlias = tuple[int, ...]

MIN_OCTAVE, MAX_OCTAVE = -32, 63

HISTOGRAM_EDGES: npt.NDArray[np.float64] = np.concatenate(
    ([0.0, np.nextafter(0.0, 1.0)], 2.0 ** np.arange(MIN_OCTAVE, MAX_OCTAVE + 1))
)
"""Lower edge of each bin of `Statistics.histogram`: exactly 0, below 2^-32, then [2^k, 2^(k+1)) for k from
-32 to 63, the last without end."""


@dataclass(frozen=True)
class ClassCounts:
    """How many elements are of each class but the ordinary (`ulp.PairClass` defines them)."""

    nan_nan: int = 0
    nan_number: int = 0
    inf_inf: int = 0
    inf_opposite: int = 0
    inf_finite: int = 0
    both_zero: int = 0
    opposite_signs: int = 0
    subnormals: int = 0

    @property
    def num_without_distance(self) -> int:
        """Elements with a NaN or an infinity."""
        return self.nan_nan + self.nan_number + self.inf_inf + self.inf_opposite + self.inf_finite

    @property
    def num_mismatched(self) -> int:
        """Elements with a NaN or an infinity and nothing equal on the other side."""
        return self.nan_number + self.inf_opposite + self.inf_finite


CLASS_NAMES = tuple(each.name for each in fields(ClassCounts))


@dataclass(frozen=True, eq=False)
class Statistics:
    """Figures about a tensor x against another, r.  "error" is in ULP, as the subclass defines it.

    Errors, and everything else but the counts, are over the `num_compared` elements that are finite on both
    sides; with none, and for integers (which have no ULP), errors are NaN and the histogram is empty.

    Attributes:
        dtype: of x.
        size: number of elements.
        num_unequal: elements that differ.  The sign of zero is counted apart, and NaN equals NaN.
        num_zero_sign: zeros of different signs.
        num_compared: elements finite on both sides.
        max, mean, rms: of |error|.
        p50, p99: percentiles of |error|: so many percent of the elements have no larger one.  Exact for
            whole numbers up to 128; otherwise too small by up to 1/64 of itself, 0 below 2^-32, and at
            most 2^64.
        bias: mean of the signed error.
        histogram: int64, number of elements with |error| in each of the bins of `HISTOGRAM_EDGES`.
        worst_index: the first element that has no distance and is not equal, or else the first of the largest
            error; None where there is neither.
        worst_values: (r, x) there.
        normwise_relative_error: ||x - r||_2 / ||r||_2; infinite where r alone is all zeros.
        max_relative_error, mean_relative_error: of |x - r| / |r| over the elements with r != 0.
        num_zero_reference: the elements with r = 0.
        max_absolute_difference: of |x - r|.
        classes: counts of the classes.
    """

    dtype: str
    size: int
    num_unequal: int
    num_zero_sign: int
    num_compared: int
    max: float
    mean: float
    rms: float
    p50: float
    p99: float
    bias: float
    histogram: npt.NDArray[np.int64]
    worst_index: Index | None
    worst_values: tuple[float, float] | None
    normwise_relative_error: float
    max_relative_error: float
    mean_relative_error: float
    num_zero_reference: int
    max_absolute_difference: float
    classes: ClassCounts

    @property
    def share_unequal(self) -> float:
        return self.num_unequal / self.size if self.size else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The figures by name; the histogram as lower edge -> count of the bins that are not empty.

        An edge is "0", "<2^-32" or "2^k".
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["classes"] = {name: getattr(self.classes, name) for name in CLASS_NAMES}
        names = ["0", f"<2^{MIN_OCTAVE}"]
        names += [f"2^{k}" for k in range(MIN_OCTAVE, MAX_OCTAVE + 1)]
        values["histogram"] = {name: int(n) for name, n in zip(names, self.histogram, strict=True) if n}
        return values


class PairStatistics(Statistics):
    """A candidate x against a reference r of the same dtype.  The error is the signed ULP distance."""


@dataclass(frozen=True, eq=False)
class TruthStatistics(Statistics):
    """A tensor x against float64 truth r.  The error is (x - r) / ulp(r).

    `num_unequal` counts the elements that are not r correctly rounded (to nearest, ties to even).

    Attributes:
        outward_bias: mean of the error, counted as positive where x is further from zero than r: -1/2 of what is
            cut off, while `bias` is 0 for numbers of both signs.
    """

    outward_bias: float = math.nan


@dataclass(frozen=True)
class ScaledError:
    """Error in units of what the arithmetic can lose, |x - r| / (unit_roundoff * scale + underflow).

    Attributes:
        rms, max: over all elements.  Infinite if any element is: one that is not finite where truth is of
            another kind, or one outside the scale.
        worst_index: the first element of the largest error; None if there is no error.
        num_outside_scale: elements with an error where the denominator is zero (or negative, or NaN).
    """

    rms: float
    max: float
    worst_index: Index | None
    num_outside_scale: int


@dataclass(frozen=True)
class AbsoluteError:
    """|x - truth| over a tensor.

    Attributes:
        rms, max: over all elements; infinite if one side alone is not finite somewhere.
        worst_index: the first element of the largest error; None if there is no error.
        truth_rms, truth_max: of the size of truth, where that is finite; 0 where it never is.
    """

    rms: float
    max: float
    worst_index: Index | None
    truth_rms: float = field(default=0.0, compare=False)
    truth_max: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Bound:
    """One tensor held against what rounding explains.

    excess: error over bound, infinite where no rounding could do it.  rms, max: the error in the
    units that `rule` names.  worst_index: the element of the largest error.
    """

    error_class: ErrorClass
    excess: float
    rms: float
    max: float
    rule: str
    worst_index: Index | None = None

    @classmethod
    def of(cls, error_class: ErrorClass, error: ScaledError | AbsoluteError, excess: float, rule: str) -> Bound:
        """Of an error that was measured, how much it exceeds what the rule allows."""
        return cls(error_class, excess, error.rms, error.max, rule, error.worst_index)

    @property
    def is_explained(self) -> bool:
        """Whether rounding explains the error."""
        return self.excess <= 1.0
