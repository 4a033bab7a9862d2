"""The layer check: whole steps compiled on both places, and each layer unit compiled by itself and judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy

from diag.engine.lanes.lane import Lane
from diag.engine.lanes.step_results import StepRun, UnitRun
from diag.engine.lockstep.steps import LockstepSteps
from diag.engine.lockstep.unit_runs import UnitRunner, units_of, whole_step_run
from diag.engine.step.fusion_groups import forward_fusion_groups
from diag.engine.step.program import Program
from diag.engine.step.units import STEP, Unit, whole_step
from diag.engine.truth.unit_judge import UnitJudge


class Telescope:
    """One program in two lanes: what runs its steps, what runs its units, and what judges both.

    units: those that are run by themselves, layers and fusion groups of layers.
    """

    def __init__(self, program: Program, reference: Lane, candidate: Lane, judge: UnitJudge | None = None) -> None:
        self.program, self.reference, self.candidate = program, reference, candidate
        self.cut = units_of(program)
        self.units: tuple[Unit, ...] = (*self.cut.units, *forward_fusion_groups(program))
        self.steps = LockstepSteps(program, self.cut, reference, candidate)
        self.judge = judge or UnitJudge(program)
        self._runner = UnitRunner(candidate)
        self._whole: dict[bool, Unit] = {}

    def at(self, candidate: Lane) -> Telescope:
        """The same program, units and judge with another candidate, whose steps are watched as at first."""
        other = copy(self)
        other.candidate = candidate
        other.steps = LockstepSteps(self.program, self.cut, self.reference, candidate)
        other._runner = UnitRunner(candidate)
        return other

    @property
    def whole_unit(self) -> Unit:
        """The whole step as a unit, with what is watched of it."""
        if self.steps.is_watched not in self._whole:
            self._whole[self.steps.is_watched] = whole_step(self.program, self.steps.watched_ports)
        return self._whole[self.steps.is_watched]

    def watch(self, is_watched: bool) -> None:
        """Whether the tensors of the candidate's step are watched from now on."""
        self.steps.watch(is_watched)
        self.judge.forget(STEP)

    def run_units(self, run: StepRun, units: Sequence[Unit] | None = None) -> Iterator[UnitRun]:
        """Every unit at the candidate, or some, each when it is its turn, on the reference's inputs and state."""
        return self._runner.run(self.units if units is None else units, run)

    def run_afresh(self, unit: Unit, run: StepRun) -> UnitRun:
        """One unit, compiled once more under the switches as they are now, and forgotten again."""
        (unit_run,) = UnitRunner(self.candidate, is_fresh=True).run([unit], run)
        return unit_run

    def whole_step_run(self, run: StepRun) -> UnitRun:
        """The step itself as a unit: what was watched of it, and the state it left."""
        return whole_step_run(self.whole_unit, run)
