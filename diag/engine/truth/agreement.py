"""What truth said of each output once, so that lanes which agree as well, or as badly, need no truth again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from diag.common.carried import Carried
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.step_results import UnitRun
from diag.numerics.figures import AbsoluteError, Bound, PairStatistics
from diag.numerics.op_classes import ErrorClass


@dataclass
class Calibration:
    """What one output's error may be, relative to its size, as truth found it at an earlier step."""

    rms: float
    max: float


@dataclass
class KnownWrong:
    """An output that truth found out of its bound, and how far from the reference it was then."""

    step: int
    excess: float
    distance: float
    times_believed: int = 0


# An output once found wrong, and as far off again within this factor, is held against truth only every so often.
AS_WRONG_AS_BEFORE, BELIEVED = 4.0, 10
ELEMENTS_AT_A_TIME = 1 << 15


class Agreement(Carried):
    """By unit and number of the output."""

    CARRIED = ("_calibrations", "_wrong")

    def __init__(self) -> None:
        self._calibrations: dict[tuple[str, int], Calibration] = {}
        self._wrong: dict[tuple[str, int], KnownWrong] = {}

    def forget(self, name: str) -> None:
        """All that is known of a unit."""
        self._calibrations = {key: known for key, known in self._calibrations.items() if key[0] != name}
        self._wrong = {key: known for key, known in self._wrong.items() if key[0] != name}

    def needs_no_truth(self, unit_run: UnitRun, index: int, statistics: PairStatistics) -> bool:
        """Whether `bound` can tell without it."""
        if statistics.num_unequal == 0:
            return True
        if self._as_wrong_as_before(unit_run, index, statistics) is not None:
            return True
        known = self._calibrations.get((unit_run.unit.name, index))
        if known is None or statistics.classes.num_mismatched or not np.isfinite(statistics.max):
            return False
        reference = to_numpy(unit_run.reference[index])
        largest = max(float(reference.max()), -float(reference.min()))
        return (
            statistics.normwise_relative_error <= known.rms
            and statistics.max_absolute_difference <= known.max * largest
        )

    def _as_wrong_as_before(self, unit_run: UnitRun, index: int, statistics: PairStatistics) -> KnownWrong | None:
        wrong = self._wrong.get((unit_run.unit.name, index))
        if wrong is None or wrong.times_believed >= BELIEVED or not wrong.distance:
            return None
        ratio = statistics.normwise_relative_error / wrong.distance
        return wrong if 1 / AS_WRONG_AS_BEFORE <= ratio <= AS_WRONG_AS_BEFORE else None

    def remember_wrong(self, unit_run: UnitRun, index: int, statistics: PairStatistics, bound: Bound) -> None:
        """After truth: is this output wrong, and how far off?"""
        key, distance = (unit_run.unit.name, index), statistics.normwise_relative_error
        self._wrong.pop(key, None)
        if not bound.is_explained and np.isfinite(bound.excess) and np.isfinite(distance):
            self._wrong[key] = KnownWrong(unit_run.run.step, bound.excess, distance)

    def bound(self, unit_run: UnitRun, index: int, statistics: PairStatistics) -> Bound:
        """The bound of an output whose distance from the reference was held against truth before."""
        if statistics.num_unequal == 0:
            return Bound(ErrorClass.COMPOSITE, 0.0, 0.0, 0.0, "the reference's bits")
        distance = statistics.normwise_relative_error
        wrong = self._as_wrong_as_before(unit_run, index, statistics)
        if wrong is not None:
            wrong.times_believed += 1
            excess = max(wrong.excess * distance / wrong.distance, 1 + 2.0**-10)
            rule = f"as far from the reference as at step {wrong.step}, where truth was asked"
        else:
            excess = 0.5 * distance / self._calibrations[unit_run.unit.name, index].rms
            rule = "half of what truth allowed at an earlier step, from the reference"
        size = _rms(to_numpy(unit_run.reference[index]))
        return Bound(ErrorClass.COMPOSITE, excess, distance * size, statistics.max_absolute_difference, rule)

    def calibrate(self, unit_run: UnitRun, index: int, reference_error: AbsoluteError, bound: Bound) -> None:
        """Half of what the bound allowed: two lanes closer than that cannot both be outside it unseen."""
        size, largest = reference_error.truth_rms, reference_error.truth_max
        if bound.is_explained and bound.excess > 0 and size and largest:
            key = (unit_run.unit.name, index)
            known = Calibration(0.5 * bound.rms / bound.excess / size, 0.5 * bound.max / bound.excess / largest)
            self._calibrations[key] = known


def _rms(values: Any) -> float:
    """Of those that are finite; 0 where none is.  By parts, of which a cache holds the float64 numbers."""
    total, count = 0.0, 0
    flat = values.reshape(-1)
    for start in range(0, flat.size, ELEMENTS_AT_A_TIME):
        part = flat[start : start + ELEMENTS_AT_A_TIME].astype(np.float64)
        finite = np.isfinite(part)
        total += float(np.square(part, out=part).sum(where=finite))
        count += int(np.count_nonzero(finite))
    return math.sqrt(total / count) if count else 0.0
