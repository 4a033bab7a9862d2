"""The microscope against the traced program executed op by op, and that against Keras's eager step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from benchmarks.timing import Row, TimedTask, interleaved, ratio
from benchmarks.workload import Workload
from diag.engine.lanes.lane import Lane
from diag.engine.lockstep.microscope import Microscope

NAME = "microscope"
TARGET_STATISTICS, TARGET_TRUTH = 2.0, 4.0
PLAIN = "two plain eager steps (the traced ops one by one)"


class Looking:
    """Two eager lanes: run plainly, or under the microscope from a state each."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.lanes: list[Lane] = [workload.lane(name, "eager") for name in ("reference", "candidate")]
        step = workload.program.step((workload.program.loss,))
        self._steps: list[Callable[..., list[Any]]] = [lane.build(step) for lane in self.lanes]

    def load(self, candidate: Sequence[tf.Tensor]) -> None:
        for lane, state in zip(self.lanes, (self.workload.start, candidate), strict=True):
            lane.load(state)

    def plain_steps(self) -> None:
        """Both lanes through the traced step, op by op, by `SingleLane`."""
        for step in self._steps:
            step(*self.workload.batch)

    def plain_step(self) -> None:
        self._steps[0](*self.workload.batch)

    def look(self, truth_everywhere: bool) -> None:
        reference, candidate = self.lanes
        Microscope(self.workload.program, (reference, candidate), 0, truth_everywhere).run(self.workload.batch)


def keras_steps(workload: Workload, num_steps: int) -> None:
    """What `fit` runs with run_eagerly=True, less its loop."""
    with tf.device("CPU:0"):
        for _ in range(num_steps):
            workload.model.train_step(tuple(workload.batch))


def measure(workload: Workload, rounds: int) -> Iterator[Row]:
    """Rows for lanes that agree in every bit, and for lanes that differ nearly everywhere."""
    looking = Looking(workload)
    for bits, state in (("all bits equal", workload.start), ("values differ", workload.moved)):
        rewind = partial(looking.load, state)
        subjects = {
            "plain": TimedTask(looking.plain_steps, rewind),
            "statistics": TimedTask(partial(looking.look, truth_everywhere=False), rewind),
            "truth": TimedTask(partial(looking.look, truth_everywhere=True), rewind),
        }
        found = interleaved(rounds, subjects)
        what = f"microscope, statistics, {bits} / {PLAIN}"
        yield ratio(NAME, what, found["statistics"], found["plain"], TARGET_STATISTICS)
        what = f"microscope, float64 truth and bounds, {bits} / {PLAIN}"
        yield ratio(NAME, what, found["truth"], found["plain"], TARGET_TRUTH)
    keras = TimedTask(partial(keras_steps, workload, len(looking.lanes)))
    found = interleaved(rounds, {"plain": TimedTask(looking.plain_steps), "keras": keras})
    yield ratio(NAME, f"two steps of Keras with run_eagerly / {PLAIN}", found["keras"], found["plain"], None)
