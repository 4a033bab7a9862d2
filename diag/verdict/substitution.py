"""Training once more with one unit computed by the reference: does the loss come back?

Every lane trains on its own path, so rounding alone drives the losses apart.  How far it does, twins of the
reference say (diag/numerics/envelope.py); a loss is restored where it stays that close to the reference's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

from diag.numerics.envelope import OWN_ROUNDING
from diag.verdict.chaos import Exit, exit_of

OP = "op:"  # an op by its index, where a layer could be named

LOSS_ROUNDING = OWN_ROUNDING * 2.0**-23  # no two lanes can be told apart below the last bit of a float32 loss


class SubstitutionOutcome(str, Enum):
    RESTORED = "restored"
    NOT_RESTORED = "not restored"
    NOTHING_TO_RESTORE = "nothing to restore"  # the candidate's own loss is where rounding may take it


@dataclass(frozen=True)
class Substitution:
    """Loss curves, one value a step, of lanes that all started from one state.

    name: the unit that was substituted; num_ops: how many ops that are.  twins: the reference with its weights
    moved by one rounding.
    """

    name: str
    num_ops: int
    first_step: int
    reference: tuple[float, ...]
    candidate: tuple[float, ...]
    substituted: tuple[float, ...]
    twins: tuple[tuple[float, ...], ...]

    @property
    def limits(self) -> tuple[float, ...]:
        """The relative distance from the reference's loss that rounding explains, a step.

        Of each twin its largest so far: the difference of two losses passes through zero, which says nothing of how
        far twins are apart.
        """
        by_step = zip(*(accumulate(distances(twin, self.reference), _larger) for twin in self.twins), strict=True)
        return tuple(max(_explained(step), LOSS_ROUNDING) for step in by_step)

    @property
    def candidate_left(self) -> Exit | None:
        return exit_of(distances(self.candidate, self.reference), self.limits)

    @property
    def substituted_left(self) -> Exit | None:
        return exit_of(distances(self.substituted, self.reference), self.limits)

    @property
    def outcome(self) -> SubstitutionOutcome:
        if self.candidate_left is None:
            return SubstitutionOutcome.NOTHING_TO_RESTORE
        return SubstitutionOutcome.RESTORED if self.substituted_left is None else SubstitutionOutcome.NOT_RESTORED


def distances(losses: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Of each loss from the reference's, relative to it; infinity where only the loss is not finite."""
    return [_distance(loss, expected) for loss, expected in zip(losses, reference, strict=True)]


def _explained(largest_so_far: Sequence[float]) -> float:
    """The largest of the twins times their spread, or what a coarser rounding does (diag/numerics/envelope.py)."""
    moved = [distance for distance in largest_so_far if distance > 0]
    if not moved or not all(map(math.isfinite, moved)):
        return math.inf if moved else 0.0
    return max(moved) * max(max(moved) / min(moved), OWN_ROUNDING)


def _larger(one: float, other: float) -> float:
    return one if math.isnan(other) else max(one, other)


def _distance(loss: float, expected: float) -> float:
    if not math.isfinite(expected):
        return math.nan
    if not math.isfinite(loss):
        return math.inf
    difference = abs(loss - expected)
    return difference / abs(expected) if expected else math.inf if difference else 0.0
