"""The telescope against the same program, compiled and untapped, in two lanes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import tensorflow as tf

from benchmarks.timing import Row, TimedTask, interleaved, ratio
from benchmarks.workload import Workload
from diag.engine.lanes.lane import CompiledSteps
from diag.engine.lanes.step_results import StepRun
from diag.engine.lockstep.telescope import Telescope

NAME = "telescope"
CHECK_EVERY = 50
TARGET, TARGET_CHECKED = 1.15, 3.0
PLAIN = "two plain compiled steps"


class Watching:
    """Two lanes, plain or watched, from a state each."""

    def __init__(self, workload: Workload) -> None:
        self.batch = workload.batch
        self.reference, self.candidate = (workload.lane(name, "graph") for name in ("reference", "candidate"))
        self.plain = [CompiledSteps(lane, workload.program) for lane in (self.reference, self.candidate)]
        self.telescope = Telescope(workload.program, self.reference, self.candidate)

    def plain_steps(self) -> None:
        for steps in self.plain:
            steps.run(self.batch, ())

    def watched_step(self, candidate: Sequence[tf.Tensor]) -> None:
        """Only whole-step statistics; the candidate is aligned before the step, as in a run."""
        self._align(candidate)
        assert self.telescope.steps.propagated(self._step(with_boundaries=False)).glances

    def checked_step(self, candidate: Sequence[tf.Tensor]) -> None:
        """A step of which every layer unit is run and judged as well."""
        self._align(candidate)
        run = self._step(with_boundaries=True)
        propagated = self.telescope.steps.propagated(run)
        for unit_run in self.telescope.run_units(run):
            self.telescope.judge.judge(unit_run, truth_wanted=False, propagated=propagated)

    def _align(self, state: Sequence[tf.Tensor]) -> None:
        self.candidate.state()
        self.candidate.load(state)

    def _step(self, with_boundaries: bool) -> StepRun:
        return self.telescope.steps.run(0, self.batch, with_boundaries)


def measure(workload: Workload, rounds: int) -> Iterator[Row]:
    """Rows for lanes that agree in every bit, and for lanes that differ nearly everywhere.

    Layer units run at the candidate on the reference's values: on one device their bits agree in both.
    """
    watching = Watching(workload)
    rewind = partial(watching.reference.load, workload.start)
    for bits, state in (("all bits equal", workload.start), ("values differ", workload.moved)):
        subjects = {
            "plain": TimedTask(watching.plain_steps, rewind),
            "watched": TimedTask(partial(watching.watched_step, state), rewind),
            "checked": TimedTask(partial(watching.checked_step, state), rewind),
        }
        found = interleaved(rounds, subjects)
        watched = found["watched"] * (1 - 1 / CHECK_EVERY) + found["checked"] * (1 / CHECK_EVERY)
        what = f"telescope, layer units every {CHECK_EVERY}th step, {bits} / {PLAIN}"
        yield ratio(NAME, what, watched, found["plain"], TARGET)
        what = f"telescope, layer units every step, {bits} / {PLAIN}"
        yield ratio(NAME, what, found["checked"], found["plain"], TARGET_CHECKED)
