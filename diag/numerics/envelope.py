"""How far twins get from their reference by rounding alone: the envelope of their curves.

A curve is one distance a step.  Distances that chaos makes span many powers of ten, so all is done on
their logarithms: the envelope lies above the largest twin by the twins' own spread,

    log E(k) = max_i log d_i(k) + max(spread(k), log OWN_ROUNDING)

where the maximum over the twins and the spread (largest less smallest logarithm) are those of step k
or of any step before it: what the twins have once shown does not become a fault because they came
back.  Only the twins make the envelope; the candidate is held against it.

Why the spread alone is not enough: of N + 1 curves of one kind, the last is the largest with
probability 1 / (N + 1), and with three twins a fourth lies more than their spread above them at some
step of 60 in 20% of all runs (leave one out, docs/CHAOS.md).  Why there is a floor: twins round like
their reference, while a candidate may round more coarsely.  If its rounding errors are a times
those of the reference, two lanes are sqrt(1 + a^2) apart where two twins are sqrt(2) apart; a = 5 is
the most that a benign place was seen to do to a unit (docs/BOUNDS.md), and gives 3.6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

COARSEST_BENIGN = 5.0
OWN_ROUNDING = math.sqrt((1 + COARSEST_BENIGN**2) / 2)
FEWEST_TWINS = 3  # fewer have hardly a spread


@dataclass
class Envelope:
    """The envelope of twins, as their distances come in step by step."""

    limits: list[float] = field(default_factory=list)
    _largest: float = -math.inf  # logarithms
    _spread: float = math.log(OWN_ROUNDING)

    def add(self, distances: Sequence[float]) -> float:
        """The largest distance that the twins' `distances` at this step, and at those before it, explain.

        0 as long as no twin has moved at all, infinity once one is not finite.
        """
        logs = [math.log(d) for d in distances if d > 0 and math.isfinite(d)]
        if logs:
            self._largest = max(self._largest, *logs)
            self._spread = max(self._spread, max(logs) - min(logs))
        if any(d == math.inf for d in distances):
            self._largest = math.inf
        with np.errstate(over="ignore"):
            self.limits.append(float(np.exp(self._largest + self._spread)))
        return self.limits[-1]


def relative_distance(values: Sequence[npt.NDArray[Any]], reference: Sequence[npt.NDArray[Any]]) -> float:
    """Norm of the difference of all tensors together, over the norm of the reference's.

    Infinity where only `values` are not finite, NaN where the reference is not.  With a reference of
    zeros, 0 for equal tensors and infinity for others.
    """
    difference = size = 0.0
    for x, r in zip(values, reference, strict=True):
        wide = r.astype(np.float64).reshape(-1)
        size += float(wide @ wide)
        with np.errstate(invalid="ignore", over="ignore"):
            wide -= x.astype(np.float64).reshape(-1)
            difference += float(wide @ wide)
    if not math.isfinite(size):
        return math.nan
    if not math.isfinite(difference):
        return math.inf
    if size == 0:
        return 0.0 if difference == 0 else math.inf
    return math.sqrt(difference / size)


def share_disagreeing(predictions: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    """Share of samples whose largest score, along the last axis, is another class's."""
    if predictions.size == 0:
        return 0.0
    return float(np.mean(np.argmax(predictions, axis=-1) != np.argmax(reference, axis=-1)))
