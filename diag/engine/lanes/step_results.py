"""What one step of both lanes showed: the whole of it, and a unit of it by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diag.engine.graphs.graph import Port
from diag.engine.lanes.lane import Recorded
from diag.engine.step.units import Unit


@dataclass(frozen=True)
class Inner:
    """A step of the reference with what passes between its units, and the state after it."""

    values: Mapping[Port, Any]
    after: Sequence[Any]


@dataclass(frozen=True)
class StepRun:
    """One whole step in both lanes, from one state each.

    before: a lane's state before the step, the reference's and the candidate's.  reference, candidate:
    what was watched.  after: the state after the step.  inner: the reference once more, with the values at every
    unit's boundary, where to show them changes its bits; None where it does not, and `reference` holds them too.
    recorded: what a reference that was recorded elsewhere had, where it was kept; `reference` is then its stand-in
    here.
    """

    step: int
    batch: Sequence[Any]
    before: Sequence[Any]
    before_candidate: Sequence[Any]
    reference: Mapping[Port, Any]
    candidate: Mapping[Port, Any]
    after_reference: Sequence[Any]
    after_candidate: Sequence[Any]
    with_boundaries: bool = False
    recorded: Recorded | None = None
    inner: Inner | None = None

    @property
    def within(self) -> Inner:
        """What units are given and held against."""
        return self.inner or Inner(self.reference, self.after_reference)

    @property
    def compared(self) -> Mapping[Port, Any]:
        """What the candidate is compared with: the reference's values, as recorded where they were."""
        return self.reference if self.recorded is None else {**self.reference, **self.recorded.values}

    @property
    def compared_after(self) -> Sequence[Any]:
        if self.recorded is None:
            return self.after_reference
        pairs = zip(self.recorded.after, self.after_reference, strict=True)
        return [mine if then is None else then for then, mine in pairs]


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

    def is_judged(self, index: int) -> bool:
        return self.judged is None or index in self.judged
