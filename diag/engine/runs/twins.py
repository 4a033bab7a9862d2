"""Twins: the reference run again, with every initial weight moved by one rounding.

What a twin does differently from the reference, rounding alone did.  So the twins' curves say how
fast a difference grows in this training by itself, with no fault anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diag.common.carried import Carried
from diag.engine.graphs.tf_runtime import FLOATS, format_of_dtype, to_numpy
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.lanes.step_results import LaneStep, StepRun
from diag.engine.runs.predictions import Predictions
from diag.engine.step.program import Program
from diag.machine.places import Place
from diag.numerics.envelope import Envelope, relative_distance, share_disagreeing
from diag.numerics.formats import Format
from diag.numerics.neighbours import moved_by_one_ulp
from diag.verdict.chaos import Curve, Trajectories, exit_of


class Twins(Carried):
    """The twins of one run, and how far they and the candidate are from the reference, step by step.

    A twin runs at the reference's place, on the same batches, and takes the reference's random draws.
    It keeps its own state from step to step, whatever the other lanes do.
    """

    CARRIED = ("first_step", "candidate", "curves", "envelope", "candidate_has_left", "looked_closer")

    def __init__(self, place: Place, seed: int, count: int) -> None:
        self.place, self.seed, self.count = place, seed, count
        self.first_step = 0
        self.candidate = Curve("candidate", 0.0)
        self.curves: list[Curve] = []
        self.envelope = Envelope()
        self.candidate_has_left = False  # the envelope, at some step so far
        self.looked_closer: int | None = None  # at which step
        self._lanes: list[Lane] = []
        self._steps: dict[int, list[CompiledSteps]] = {}
        self._predictions: dict[int, Predictions] = {}

    def step(self, run: StepRun, program: Program, lanes: tuple[Lane, Lane]) -> None:
        """The step that the lanes have just done, in every twin; the first call makes them.

        lanes: the reference's and the candidate's.
        """
        if not self._lanes:
            self._start(run, program)
        if id(program) not in self._steps:
            self._steps[id(program)] = [CompiledSteps(lane, program) for lane in self._lanes]
        predictions = self._predictions.setdefault(id(program), Predictions(program))
        shared = {port: run.reference.values[port] for port in program.random_ports}
        weights = weights_of(program)
        reference = _arrays(run.reference.after, weights)
        expected = predictions.of(lanes[0], run.reference, run.batch, shared)
        losses = (program.figure(run.reference.values), program.figure(run.candidate.values))
        for lane, steps, curve in zip(self._lanes, self._steps[id(program)], self.curves, strict=True):
            lane.enter_step(run.step)
            before = lane.state()
            values = steps.run(run.batch, predictions.watched, shared)
            twin = LaneStep(before, values, ())
            disagreement = _disagreement(predictions.of(lane, twin, run.batch, shared), expected)
            distance = relative_distance(_arrays(lane.variables, weights), reference)
            _add(curve, distance, losses[0], program.figure(values), disagreement)
        drawn = {port: run.candidate.values.get(port, drawn) for port, drawn in shared.items()}
        predicted = predictions.of(lanes[1], run.candidate, run.batch, drawn)
        distance = relative_distance(_arrays(run.candidate.after, weights), reference)
        _add(self.candidate, distance, *losses, _disagreement(predicted, expected))
        limit = self.envelope.add([curve.distance[-1] for curve in self.curves])
        self.candidate_has_left |= exit_of(self.candidate.distance[-1:], [limit]) is not None

    def carried(self) -> dict[str, Any]:
        """Their curves and states, to go on in another process."""
        return {**super().carried(), "lanes": [lane.carried() for lane in self._lanes]}

    def take_up(self, carried: dict[str, Any], program: Program | None = None) -> None:
        """Go on from what `carried` gave in another process; program: any of the run's, for their variables."""
        super().take_up(carried)
        assert program is not None
        self._lanes = [self._lane(number, program) for number in range(1, len(carried["lanes"]) + 1)]
        for lane, state in zip(self._lanes, carried["lanes"], strict=True):
            lane.take_up(state)

    def _lane(self, number: int, program: Program) -> Lane:
        return Lane.at(f"twin {number}", self.place, program, self.seed)

    def look_closer_at(self, step: int) -> None:
        """A step is looked at for a fault, once in a run."""
        self.looked_closer = step

    def trajectories(self, is_explained: bool) -> Trajectories:
        """The curves so far; is_explained: whether a divergence was named."""
        return Trajectories(
            self.candidate, tuple(self.curves), tuple(self.envelope.limits[1:]), self.first_step, self.looked_closer,
            is_explained,
        )  # fmt: skip

    def _start(self, run: StepRun, program: Program) -> None:
        self.first_step = run.step
        weights = weights_of(program)
        before = _arrays(run.reference.before, weights)
        for number in range(1, self.count + 1):
            lane = self._lane(number, program)
            lane.load(perturbed(program, run.reference.before, np.random.default_rng((abs(self.seed), number))))
            self._lanes.append(lane)
            self.curves.append(Curve(lane.name, relative_distance(_arrays(lane.variables, weights), before)))
        self.envelope.add([curve.start for curve in self.curves])


def perturbed(program: Program, state: Sequence[Any], generator: np.random.Generator) -> list[Any]:
    """A training state with every weight moved by one rounding, up or down; all else as it is."""
    format, moved = coarsest_format(program), list(state)
    for index in weights_of(program):
        moved[index] = moved_by_one_ulp(to_numpy(state[index]), generator, format)
    return moved


def _add(curve: Curve, distance: float, reference: float, loss: float, disagreement: float | None) -> None:
    curve.add(distance, relative_distance([np.array(loss)], [np.array(reference)]), disagreement)


def _disagreement(predicted: Any, expected: Any) -> float | None:
    return None if predicted is None else share_disagreeing(to_numpy(predicted), to_numpy(expected))


def _arrays(state: Sequence[Any], indices: Sequence[int]) -> list[np.ndarray]:
    return [to_numpy(state[index]) for index in indices]


def weights_of(program: Program) -> list[int]:
    """The variables that are trained: neither optimizer slots nor a layer's other state."""
    return [index for index, variable in enumerate(program.variables) if variable.kind == "weight"]


def coarsest_format(program: Program) -> Format:
    """Of all that the step computes in: under mixed_float16 one rounding is float16's."""
    graphs = (program.graph, *program.functions.values())
    dtypes = {dtype for graph in graphs for node in graph for dtype in node.dtypes if dtype in FLOATS}
    return max((format_of_dtype(dtype) for dtype in dtypes), key=lambda format: format.unit_roundoff)
