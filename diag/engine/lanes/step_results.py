"""The results of one step in both lanes: of the whole step, and of one unit run by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diag.engine.graphs.graph import Port
from diag.engine.lanes.lane import Recorded
from diag.engine.step.units import Unit


@dataclass(frozen=True)
class LaneStep:
    """One whole step of one lane: the state before it, the values that were watched, the state after it.

    unwatched: the same step with nothing fetched but its results, where that was run.
    """

    before: Sequence[Any]
    values: Mapping[Port, Any]
    after: Sequence[Any]
    unwatched: LaneStep | None = None


@dataclass(frozen=True)
class StepRun:
    """One whole step in both lanes, each from its state before.

    at_boundaries: the reference's step run once more with the values at every unit's boundary, where showing them
    changes its bits; None where it does not, and `reference` holds them too.  recorded: what a reference that was
    recorded elsewhere had, where it was kept; `reference` is then its stand-in here.
    """

    step: int
    batch: Sequence[Any]
    reference: LaneStep
    candidate: LaneStep
    with_boundaries: bool = False
    recorded: Recorded | None = None
    at_boundaries: LaneStep | None = None

    @property
    def unit_source(self) -> LaneStep:
        """The reference's step whose values units are given and compared with."""
        return self.at_boundaries or self.reference

    @property
    def compared(self) -> LaneStep:
        """What the candidate is compared with: the reference, as recorded where it was."""
        if self.recorded is None:
            return self.reference
        pairs = zip(self.recorded.after, self.reference.after, strict=True)
        after = [here if then is None else then for then, here in pairs]
        return LaneStep(self.reference.before, {**self.reference.values, **self.recorded.values}, after)


@dataclass(frozen=True)
class UnitInputs:
    """What truth of a unit is computed from.

    boundary: values of the tensors that it reads.  state: all variables before the step.  outputs: a lane's results,
    whose forward values decide what the backward pass takes as given.
    """

    boundary: Sequence[Any]
    state: Sequence[Any]
    outputs: Sequence[Any]


@dataclass(frozen=True)
class UnitRun:
    """One layer unit at one step: the candidate's and the reference's results on the same inputs.

    `judged` are the outputs that the candidate is known to have computed from these inputs; None: all.
    """

    unit: Unit
    run: StepRun
    boundary: Sequence[Any]
    candidate: Sequence[Any]
    reference: Sequence[Any]
    judged: frozenset[int] | None = None

    @property
    def state(self) -> Sequence[Any]:
        """All variables before the step."""
        return self.run.reference.before

    @property
    def of_reference(self) -> UnitInputs:
        return UnitInputs(self.boundary, self.state, self.reference)

    @property
    def of_candidate(self) -> UnitInputs:
        return UnitInputs(self.boundary, self.state, self.candidate)

    def is_judged(self, index: int) -> bool:
        return self.judged is None or index in self.judged
