"""What an op's errors add up to: over one tensor, or over 2^32 inputs block by block.  No TensorFlow here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.formats import format_of
from diag.numerics.statistics import against_truth
from probes.accuracy.allowed import Limits, excess_error, num_beyond
from probes.accuracy.elementwise import Function


@dataclass(frozen=True)
class Worst:
    """The result furthest off: its arguments, what came, what is right in float64."""

    arguments: tuple[float, ...]
    got: float
    right: float


@dataclass(frozen=True)
class Tally:
    """Errors of one op over all arguments that were tried.

    max_ulp: the largest, in ULP of the right result.  held_ulp: the largest that is held against allowances, less what
    flushed intermediate results explain, in ULP of the formula's largest term where terms cancel.  num_beyond,
    num_beyond_seen: results beyond what is promised, and beyond what was measured elsewhere too.
    """

    num_inputs: int = 0
    num_compared: int = 0
    num_unequal: int = 0
    num_zero_sign: int = 0
    num_infinity_for_number: int = 0
    num_nan_for_number: int = 0
    num_beyond: int = 0
    num_beyond_seen: int = 0
    sum_ulp: float = 0.0
    max_ulp: float = 0.0
    held_ulp: float = -1.0
    worst: Worst | None = None

    def plus(self, other: Tally) -> Tally:
        counts = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
            if field.name.startswith(("num_", "sum_"))
        }
        larger = other if other.held_ulp > self.held_ulp else self
        largest = max(self.max_ulp, other.max_ulp)
        return replace(self, **counts, max_ulp=largest, held_ulp=larger.held_ulp, worst=larger.worst)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(saved: dict[str, Any]) -> Tally:
        worst = saved["worst"]
        found = None if worst is None else Worst(tuple(worst["arguments"]), worst["got"], worst["right"])
        return Tally(**{**saved, "worst": found})


def tally(
    function: Function,
    inputs: Sequence[npt.NDArray[Any]],
    y: npt.NDArray[Any],
    truth: npt.NDArray[np.float64],
    limits: Limits,
) -> Tally:
    """Errors of results `y` of these arguments, all judged: without subnormals where they are flushed."""
    format = format_of(y.dtype)
    found = against_truth(y, truth, flushed=format.is_flushed)
    limit = 0.0 if function.exact else limits.ulp
    largest = found.max if found.num_compared else 0.0
    held, error = largest, np.zeros(0)
    worst = found.worst_index[0] if found.worst_index else None
    if found.classes.num_mismatched or not largest <= limit or limit == math.inf:
        error, chosen = _held(function, inputs, y, truth, limit)
        held = float(np.max(error, initial=0.0))
        worst = int(chosen[np.argmax(error)]) if held else worst
    return Tally(
        num_inputs=found.size,
        num_compared=found.num_compared,
        num_unequal=found.num_unequal,
        num_zero_sign=found.num_zero_sign,
        num_infinity_for_number=found.classes.inf_finite,
        num_nan_for_number=found.classes.nan_number,
        num_beyond=num_beyond(error, limit),
        num_beyond_seen=num_beyond(error, limits.seen.ulp if limits.seen else limit),
        sum_ulp=found.mean * found.num_compared if found.num_compared else 0.0,
        max_ulp=largest,
        held_ulp=held,
        worst=None if worst is None else _worst(inputs, y, truth, worst),
    )


def _held(
    function: Function,
    inputs: Sequence[npt.NDArray[Any]],
    y: npt.NDArray[Any],
    truth: npt.NDArray[np.float64],
    limit: float,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """What is held against allowances, the largest among them, and of which elements.

    Most elements are off by less than half the limit, which is seen at once: an ULP is at least u times the number.
    """
    format = format_of(y.dtype)
    with np.errstate(all="ignore"):
        small = np.abs(y.astype(np.float64) - truth) <= limit / 2 * format.unit_roundoff * np.abs(truth)
        for chosen in (np.flatnonzero(~small), np.arange(y.size)):
            some = [each[chosen].astype(np.float64) for each in inputs]
            scale = function.scale(*some) if function.scale else 0.0
            error = excess_error(y[chosen], truth[chosen], format, scale)
            if np.max(error, initial=0.0) >= limit / 2:
                break
    return error, chosen


def _worst(
    inputs: Sequence[npt.NDArray[Any]], y: npt.NDArray[Any], truth: npt.NDArray[np.float64], index: int
) -> Worst:
    return Worst(tuple(float(each[index]) for each in inputs), float(y[index]), float(truth[index]))


def judged(
    function: Function, arrays: Sequence[npt.NDArray[Any]], wide: Sequence[npt.NDArray[np.float64]]
) -> npt.NDArray[np.bool_]:
    """Which arguments are held against allowances: where there is a right result, and nothing may be flushed."""
    chosen = ~function.undefined(*wide) if function.undefined else np.ones(wide[0].shape, np.bool_)
    format = format_of(arrays[0].dtype)
    if format.is_flushed:
        for array in wide:
            chosen &= (np.abs(array) >= format.smallest_normal) | (array == 0) | np.isnan(array)
    return chosen
