"""What three others would say of the same run: a fixed tolerance, CRADLE's layer score, Polygraphy's comparison.

They see what a person has who compares two training runs: each step's layer outputs, gradients and
weights after the update, of both lanes.  None names an op, a cause or whom to blame; here they are asked
for the step and the layer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

from diag.engine.graphs.graph import Port, order_of_ops
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.step_results import StepRun
from diag.engine.lockstep.steps import LockstepSteps
from diag.engine.step.program import Program
from tests.faults.planting import PHASES, Strike

# numpy.allclose as FAULTS asks for it.
RTOL, ATOL = 1e-3, 1e-4
# Polygraphy, SimpleCompareFunc: its documented defaults for every output, and `elemwise`, its default statistic.
POLYGRAPHY_RTOL, POLYGRAPHY_ATOL = 1e-5, 1e-5
# CRADLE (Pham et al., ICSE 2019): epsilon of its layer score.  It ranks layers; the layer with the largest score is
# what it names, if its distance more than doubles there.
CRADLE_EPSILON, MORE_THAN_DOUBLED = 1e-7, 1.0


@dataclass(frozen=True)
class Seen:
    """One tensor of one step in both lanes; `before` are the positions of the layer outputs that it is made from."""

    phase: str
    layer: str | None
    variable: str | None
    reference: np.ndarray
    candidate: np.ndarray
    before: tuple[int, ...] = ()
    order: int = 0  # of the op that makes it, in the step


@dataclass(frozen=True)
class Named:
    """The first place that a method objects to."""

    step: int
    phase: str
    layer: str | None
    variable: str | None = None

    def is_at(self, strikes: Sequence[Strike], steps: Mapping[int, Sequence[Seen]]) -> bool:
        """Whether a fault struck there: the same step, phase and layer, and variable of an update.

        Not every layer's output is watched, since to watch it may change what is computed: the first tensor that
        is made after the fault struck is as good.
        """
        return any(
            self.step == strike.step and (self._is_in(strike) or self == first_after(strike, steps))
            for strike in strikes
        )

    def _is_in(self, strike: Strike) -> bool:
        same = (self.phase, self.layer) == (PHASES[strike.phase_order], strike.layer)
        return same and (self.phase != "optimizer" or self.variable == strike.variable)


def first_after(strike: Strike, steps: Mapping[int, Sequence[Seen]]) -> Named | None:
    """The first tensor of the forward or backward pass that is made by the op that was struck or a later one."""
    for seen in steps.get(strike.step, ()):
        if seen.phase != "optimizer" and (PHASES.index(seen.phase), seen.order) >= (strike.phase_order, strike.index):
            return Named(strike.step, seen.phase, seen.layer)
    return None


@dataclass
class Watched:
    """What was seen, by step; a step that is run again replaces what it showed before."""

    steps: dict[int, list[Seen]] = field(default_factory=dict)


@contextmanager
def watched() -> Iterator[Watched]:
    """While it is open, every whole step leaves what others would compare."""
    found, run = Watched(), LockstepSteps.run

    def watching(steps: LockstepSteps, *arguments: Any, **named: Any) -> StepRun:
        step = run(steps, *arguments, **named)
        found.steps[step.step] = list(_seen(steps.program, step))
        return step

    with mock.patch.object(LockstepSteps, "run", watching):
        yield found


def _seen(program: Program, run: StepRun) -> Iterator[Seen]:
    order = order_of_ops(program.graph, program.functions)
    first = [(layer, ports[0]) for layer, ports in program.layer_outputs.items() if ports]
    first = sorted((pair for pair in first if pair[1] in run.candidate.values), key=lambda p: order[p[1].node])
    first.append(("loss", program.loss))
    positions = {port.node: index for index, (_, port) in enumerate(first)}
    for layer, port in first:
        yield Seen(
            "forward", layer, None, *_both(run, port), _predecessors(program.graph, port, positions), order[port.node]
        )
    layer_of = {spec.name: spec.layer for spec in program.variables}
    for name, port in sorted(program.gradients.items(), key=lambda pair: order[pair[1].node]):
        if port in run.candidate.values:
            yield Seen("backward", layer_of.get(name), name, *_both(run, port), order=order[port.node])
    for spec, mine, theirs in zip(program.variables, run.reference.after, run.candidate.after, strict=True):
        if spec.kind == "weight":
            yield Seen("optimizer", spec.layer, spec.name, to_numpy(mine), to_numpy(theirs))


def _both(run: StepRun, port: Port) -> tuple[np.ndarray, np.ndarray]:
    return to_numpy(run.reference.values[port]), to_numpy(run.candidate.values[port])


def _predecessors(graph: Any, port: Port, positions: Mapping[str, int]) -> tuple[int, ...]:
    """The nearest layer outputs upstream."""
    found, seen, pending = set(), set(), [p.node for p in graph.by_name[port.node].inputs]
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in positions:
            found.add(positions[name])
        else:
            pending.extend(p.node for p in graph.by_name[name].inputs)
    return tuple(sorted(found))


def allclose(steps: Mapping[int, Sequence[Seen]]) -> Named | None:
    """The first tensor that is not."""
    return _first(steps, lambda s: not np.allclose(s.candidate, s.reference, RTOL, ATOL, equal_nan=True))


def polygraphy(steps: Mapping[int, Sequence[Seen]]) -> Named | None:
    """The first tensor with an element beyond both tolerances, absolute and relative."""

    def fails(seen: Seen) -> bool:
        x, y = (np.asarray(each, np.float32) for each in (seen.candidate, seen.reference))
        with np.errstate(all="ignore"):
            absolute = np.abs(x - y)
            relative = absolute / np.abs(y)
        return bool(np.any((absolute > POLYGRAPHY_ATOL) & (relative > POLYGRAPHY_RTOL)))

    return _first(steps, fails)


def cradle(steps: Mapping[int, Sequence[Seen]]) -> Named | None:
    """In the first step where the distance more than doubles in some layer, the layer where it grows most."""
    for step, all_seen in sorted(steps.items()):
        layers = [seen for seen in all_seen if seen.phase == "forward"]
        distances = [_distance(seen) for seen in layers]
        scores = []
        for seen, distance in zip(layers, distances, strict=True):
            inherited = max((distances[index] for index in seen.before), default=0.0)
            scores.append((distance - inherited) / (inherited + CRADLE_EPSILON))
        scores = [0.0 if np.isnan(score) else score for score in scores]
        best = int(np.argmax(scores))
        if scores[best] > MORE_THAN_DOUBLED:
            return Named(step, "forward", layers[best].layer)
    return None


def _distance(seen: Seen) -> float:
    with np.errstate(all="ignore"):
        return float(np.mean(np.abs(seen.candidate.astype(np.float64) - seen.reference.astype(np.float64))))


def _first(steps: Mapping[int, Sequence[Seen]], fails: Callable[[Seen], bool]) -> Named | None:
    for step, all_seen in sorted(steps.items()):
        for seen in all_seen:
            if fails(seen):
                return Named(step, seen.phase, seen.layer, seen.variable if seen.phase == "optimizer" else None)
    return None


METHODS: dict[str, Callable[[Mapping[int, Sequence[Seen]]], Named | None]] = {
    "allclose": allclose, "CRADLE": cradle, "Polygraphy": polygraphy,
}  # fmt: skip
