"""Chaos or not: the candidate's own path against those of the twins.

| the candidate's distance from the reference | outcome | what it says |
|---|---|---|
| is 0 at every step | identical | nothing has to be explained |
| stays within the twins' envelope | like-chaos | rounding, and what training makes of it, explain the growth |
| leaves the envelope | outside | a hint: the step where it does is looked at closely |
| cannot be held against the twins | unknown | the twins never moved, or the reference is not finite |

Leaving the envelope is no divergence by itself: a rare decision (a ReLU, a max-pool winner) that no
twin met can do it.  A divergence needs a unit that is out of its bound.  Where the close look finds
none, the outcome is inconclusive, and is called so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum


class GrowthOutcome(str, Enum):
    """Of the comparison of one candidate with its twins."""

    IDENTICAL = "identical"
    LIKE_CHAOS = "like-chaos"
    OUTSIDE = "outside"
    UNKNOWN = "unknown"


@dataclass
class Curve:
    """One lane's way from the reference, a figure a step.

    start: relative distance of all weights before the first step; distance: after each step.
    loss_difference: of the losses of each step, relative to the reference's.
    disagreement: share of the batch's samples that are put into another class; empty where the model
    has no classes.
    """

    name: str
    start: float
    distance: list[float] = field(default_factory=list)
    loss_difference: list[float] = field(default_factory=list)
    disagreement: list[float] = field(default_factory=list)

    def add(self, distance: float, loss_difference: float, disagreement: float | None) -> None:
        self.distance.append(distance)
        self.loss_difference.append(loss_difference)
        if disagreement is not None:
            self.disagreement.append(disagreement)

    @property
    def mean_disagreement(self) -> float | None:
        return sum(self.disagreement) / len(self.disagreement) if self.disagreement else None


@dataclass(frozen=True)
class Exit:
    """Where a curve leaves the envelope: how many times further out than the envelope, then and at most."""

    step: int
    factor: float
    largest: float
    largest_at: int


def exit_of(distances: Sequence[float], limits: Sequence[float]) -> Exit | None:
    """The first step whose distance is beyond its limit; steps whose limit is 0 or NaN say nothing."""
    factors = [d / e if e > 0 and not math.isnan(d) else 0.0 for d, e in zip(distances, limits, strict=True)]
    first = next((step for step, factor in enumerate(factors) if factor > 1), None)
    if first is None:
        return None
    largest_at = max(range(len(factors)), key=factors.__getitem__)
    return Exit(first, factors[first], factors[largest_at], largest_at)


@dataclass(frozen=True)
class Trajectories:
    """The candidate and the twins, as far as a run has got, and what they say.

    envelope: one limit a step.  first_step: the number of the first.  looked_closer: the step that was
    looked at since the candidate left the envelope there with nothing known to be wrong, None where there
    was no need.  is_explained: a divergence was found in the run.
    """

    candidate: Curve
    twins: tuple[Curve, ...]
    envelope: tuple[float, ...]
    first_step: int = 0
    looked_closer: int | None = None
    is_explained: bool = False

    @property
    def exit(self) -> Exit | None:
        found = exit_of(self.candidate.distance, self.envelope)
        if found is None:
            return None
        return replace(found, step=found.step + self.first_step, largest_at=found.largest_at + self.first_step)

    @property
    def outcome(self) -> GrowthOutcome:
        if self.exit is not None:
            return GrowthOutcome.OUTSIDE
        if any(math.isnan(d) for d in self.candidate.distance):
            return GrowthOutcome.UNKNOWN
        if not any(self.candidate.distance):
            return GrowthOutcome.IDENTICAL
        return GrowthOutcome.LIKE_CHAOS if any(self.envelope) else GrowthOutcome.UNKNOWN

    @property
    def is_inconclusive(self) -> bool:
        """The candidate is further out than rounding explains, and no unit was found that is to blame."""
        return self.outcome is GrowthOutcome.OUTSIDE and not self.is_explained
