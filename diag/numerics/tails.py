"""How likely a value as large as one at hand is, by those seen before: counted, and beyond them extrapolated."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

# What is fitted to hundreds of values says nothing of anything rarer.
LEAST_EXTRAPOLATED = 1e-12


@dataclass(frozen=True)
class ParetoTail:
    """The generalized Pareto distribution of what lies above a threshold (Pickands 1975; Coles 2001, chapter 4).

    share: how much of the sample does.  shape: not negative, so that nothing is too large to be possible.
    """

    threshold: float
    share: float
    shape: float
    scale: float

    def chance(self, x: float) -> float:
        """Of at least x, which is at least the threshold."""
        beyond = (x - self.threshold) / self.scale
        if self.shape < 1e-9:
            return self.share * math.exp(-beyond)
        return self.share * math.pow(1 + self.shape * beyond, -1 / self.shape)


@dataclass(frozen=True)
class TailedSample:
    """Values, sorted, and what their tail was fitted with; None where there are too few, or they have none."""

    values: Sequence[float]
    tail: ParetoTail | None = None

    def num_at_least(self, x: float) -> int:
        return len(self.values) - bisect_left(self.values, x)

    def chance(self, x: float) -> float:
        """Of at least x in another draw, as far as the sample supports it: never below 1 in its size and one more.

        (Phipson and Smyth 2010, Permutation P-values Should Never Be Zero.)
        """
        return (1 + self.num_at_least(x)) / (1 + len(self.values))

    def extrapolated(self, x: float) -> float | None:
        """The same by the fitted tail, of a finite x beyond the sample; None of others, and where there is no tail."""
        if self.tail is None or self.num_at_least(x) or not math.isfinite(x):
            return None
        return max(min(self.tail.chance(x), self.chance(x)), LEAST_EXTRAPOLATED)
