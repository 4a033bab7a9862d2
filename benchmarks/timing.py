"""Interleaved rounds, and the rows of the table that come of them.

A machine's speed drifts, and others may be using it: what is compared runs in turn, round after round,
the order turned about each time.  The shortest round is the one that others disturbed least; the median
says how far to trust it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any, Literal

Unit = Literal["x", "x faster", "s"]
Met = Literal["met", "not met", "unsure", ""]

# A comparison ends early after this long, but not before MIN_ROUNDS.
LONGEST_SECONDS = 180.0
MIN_ROUNDS = 2


@dataclass(frozen=True)
class TimedTask:
    """What is timed.  `prepare` runs before each round of it, untimed."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None

    def timed(self) -> tuple[float, float]:
        """Seconds of one round: by the clock, and of all processors together."""
        self.prepare()
        start, cpu_start = time.perf_counter(), cpu_seconds()
        self.run()
        return time.perf_counter() - start, cpu_seconds() - cpu_start


def cpu_seconds() -> float:
    """Of all threads of this process, and of its children that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


@dataclass(frozen=True)
class Seconds:
    """How long a thing takes: the shortest of its rounds, their median, and the least processor time."""

    shortest: float
    median: float
    cpu: float
    rounds: int

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(
            self.shortest + other.shortest, self.median + other.median, self.cpu + other.cpu,
            min(self.rounds, other.rounds),
        )  # fmt: skip

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(factor * self.shortest, factor * self.median, factor * self.cpu, self.rounds)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: of the measurement, as `--only` takes it.
        what: what was measured, and against what.
        measured: from the shortest rounds.
        by_median: the same from the medians.
        by_cpu: the same from processor time, which waiting for other processes does not lengthen; None
            where nothing was timed.
        unit: "x" (times the baseline, at most the target), "x faster" (at least the target) or "s".
        target: of DESIGN.md, section 9; None for what is told for comparison.
        detail: the figures behind the ratio, for a person.
    """

    name: str
    what: str
    measured: float
    by_median: float
    by_cpu: float | None
    unit: Unit
    target: float | None
    detail: str

    @property
    def met(self) -> Met:
        """Unsure where the shortest rounds say one thing and the medians another."""
        if self.target is None:
            return ""
        sign = -1 if self.unit == "x faster" else 1
        verdicts = {sign * value <= sign * self.target for value in (self.measured, self.by_median)}
        if len(verdicts) == 2:
            return "unsure"
        return "met" if verdicts.pop() else "not met"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def interleaved(rounds: int, tasks: Mapping[str, TimedTask], warm_up: bool = True) -> dict[str, Seconds]:
    """Time the tasks in turn, after one untimed round that traces and compiles."""
    if warm_up:
        for task in tasks.values():
            task.timed()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    began = time.perf_counter()
    for number in range(rounds):
        for name in sorted(tasks, reverse=number % 2 == 1):
            found[name].append(tasks[name].timed())
        if number + 1 >= MIN_ROUNDS and time.perf_counter() - began > LONGEST_SECONDS:
            break
    return {name: _summary(each) for name, each in found.items()}


def _summary(rounds: list[tuple[float, float]]) -> Seconds:
    clock, cpu = zip(*rounds, strict=True)
    return Seconds(min(clock), median(clock), min(cpu), len(rounds))


def ratio(name: str, what: str, task: Seconds, baseline: Seconds, target: float | None) -> Row:
    """How many times longer the subject takes than its baseline."""
    return Row(
        name, what, task.shortest / baseline.shortest, task.median / baseline.median,
        task.cpu / baseline.cpu if baseline.cpu else None, "x", target,
        f"{task.shortest:.3g} s / {baseline.shortest:.3g} s, {task.rounds} rounds",
    )  # fmt: skip


def speedup(name: str, what: str, task: Seconds, baseline: Seconds, target: float | None) -> Row:
    """How many times faster the subject is than its baseline."""
    inverse = ratio(name, what, baseline, task, target)
    return replace(inverse, unit="x faster")
