"""What a replay of a step found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from diag.common.modes import TRAIN
from diag.numerics.figures import PairStatistics


class ReplayOutcome(str, Enum):
    SAME = "same"  # the recorded bits
    GIVEN = "given"  # random draws taken from the trace, which no stored state determines
    OTHER = "other"
    UNSTABLE = "unstable"  # other bits, and others again when the step is run a second time from the same state


@dataclass(frozen=True)
class Tensor:
    """One tensor of the step, against what was recorded.

    statistics: recorded against replayed, None where only a checksum was recorded.  own: two replays
    against each other, where they were made.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    outcome: ReplayOutcome
    statistics: PairStatistics | None = None
    own: PairStatistics | None = None


@dataclass(frozen=True)
class Replay:
    """A step replayed in one lane at one place."""

    step: int
    lane: str
    recorded_place: str
    place: str
    start: int  # the step whose snapshot it began from
    tensors: tuple[Tensor, ...]
    loss: tuple[float, float]  # recorded, replayed; in prediction the mean of the outputs
    state_reproduced: bool | None  # the state before the step, where steps had to be run to reach it
    notes: tuple[str, ...] = ()
    mode: str = TRAIN

    @property
    def is_exact(self) -> bool:
        """Whether something was compared, and all of it has the recorded bits."""
        same_loss = np.array_equal(*self.loss, equal_nan=True)
        return bool(self.tensors) and not self.others and same_loss

    @property
    def others(self) -> list[Tensor]:
        """What does not have the recorded bits, in the order in which a step computes it."""
        return [tensor for tensor in self.tensors if tensor.outcome in (ReplayOutcome.OTHER, ReplayOutcome.UNSTABLE)]

    def count(self, outcome: ReplayOutcome) -> int:
        return sum(tensor.outcome is outcome for tensor in self.tensors)
