"""Both lanes through the same steps, compiled whole.

A step runs untouched but for the tensors that can be watched without breaking a fusion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import tensorflow as tf

from diag.common.carried import Carried
from diag.common.parallel import both
from diag.engine.graphs.graph import Port
from diag.engine.graphs.tf_runtime import PYTHON_FUNCTIONS, to_numpy
from diag.engine.graphs.variables import arrays_of
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.lanes.step_results import LaneStep, StepRun
from diag.engine.lockstep.propagated import Key, Propagated
from diag.engine.step.program import Program
from diag.engine.step.units import Cut
from diag.numerics.bits import same_bits


def reference_step(
    lane: Lane, program: Program, boundaries: Sequence[Port], batch: Sequence[Any], random: Mapping[Port, Any]
) -> LaneStep:
    """A lane alone through one step, in place, with the values at the boundaries of the units.

    random: random outputs that are given instead of drawn.
    """
    before = lane.state()
    values = CompiledSteps(lane, program).run(batch, (*program.watched.ports, *boundaries), random)
    return LaneStep(before, {**values, **random, **batch_values(program, batch)}, lane.state())


def batch_values(program: Program, batch: Sequence[Any]) -> dict[Port, Any]:
    """The arrays of a batch, by the ports at which the step reads them."""
    return {Port(name, 0): value for name, value in zip(program.batch_inputs, batch, strict=True)}


class LockstepSteps(Carried):
    """Runs whole steps of one program in two lanes, and compares what they leave."""

    CARRIED = ("is_watched", "_showing_changes")

    def __init__(self, program: Program, cut: Cut, reference: Lane, candidate: Lane) -> None:
        self.program, self.cut = program, cut
        self.reference, self.candidate = reference, candidate
        self.compiled = {lane.name: CompiledSteps(lane, program) for lane in (reference, candidate)}
        self.shared: tuple[Port, ...] = ()  # random outputs that the candidate takes from the reference
        self.is_watched = True  # else nothing but the loss and the state is fetched from the candidate's step
        self._showing_changes: bool | None = None  # the reference's bits, to show what passes between units
        graphs = (program.graph, *program.functions.values())
        self._calls_python = any(node.op in PYTHON_FUNCTIONS for graph in graphs for node in graph)

    @property
    def watched_ports(self) -> tuple[Port, ...]:
        """What is watched of the candidate's step."""
        return self.program.watched.ports if self.is_watched else self.program.random_ports

    def share_random_outputs(self) -> None:
        """From now on the candidate takes all random outputs from the reference."""
        self.shared = self.program.random_ports

    def watch(self, is_watched: bool) -> None:
        """Whether more of the candidate's step is fetched than the loss, its random outputs and the state."""
        self.is_watched = is_watched

    # -- running -------------------------------------------------------------------------------

    def run(self, step: int, batch: Sequence[Any], with_boundaries: bool, with_unwatched: bool = False) -> StepRun:
        """Both lanes through one step, in place.

        At once, unless the candidate takes what the reference drew, or the step calls Python functions: what
        `tf.py_function` hands on to its gradient TensorFlow keeps by function, not by call.

        with_unwatched: both lanes also run the step with nothing watched, before they are left in the state after it.
        """
        for lane in (self.reference, self.candidate):
            lane.enter_step(step)
        taken = self._taken(step)
        reference_step = partial(self._reference_step, step, batch, with_boundaries, with_unwatched)
        candidate_step = partial(self._candidate_step, step, batch, with_unwatched)
        if taken or self._calls_python:
            reference, at_boundaries = reference_step()
            candidate = candidate_step({port: reference.values[port] for port in taken})
        else:
            (reference, at_boundaries), candidate = both(reference_step, partial(candidate_step, {}))
        recorded = self.reference.recorded(step, self.program)
        return StepRun(step, batch, reference, candidate, with_boundaries, recorded, at_boundaries)

    def run_again(self, run: StepRun, with_boundaries: bool, with_unwatched: bool = False) -> StepRun:
        """The same step once more, both lanes rewound to where they began it."""
        return self.run_from(run.reference.before, run.candidate.before, run, with_boundaries, with_unwatched)

    def run_from(
        self,
        reference: Sequence[Any],
        candidate: Sequence[Any],
        run: StepRun,
        with_boundaries: bool,
        with_unwatched: bool = False,
    ) -> StepRun:
        """The same step once more, the lanes from these states."""
        self.reference.load(reference)
        self.candidate.load(candidate)
        return self.run(run.step, run.batch, with_boundaries, with_unwatched)

    def fails_unwatched(self, batch: Sequence[Any]) -> bool:
        """Whether TensorFlow gives up on the reference's step, too, compiled as `fit` compiles it and not watched."""
        try:
            self.compiled["reference"].run(batch, (), is_kept=False)
        except tf.errors.OpError:
            return True
        return False

    def _reference_step(
        self, step: int, batch: Sequence[Any], with_boundaries: bool, with_unwatched: bool
    ) -> tuple[LaneStep, LaneStep | None]:
        """The reference's step as it is watched; with what passes between its units, in a run of its own if need be."""
        lane, program = self.reference, self.program
        before, random, given = lane.state(), lane.draws(step, program), batch_values(program, batch)

        def run(ports: Sequence[Port], random: Mapping[Port, Any]) -> LaneStep:
            values = self.compiled["reference"].run(batch, ports, random, is_kept=bool(ports))
            return LaneStep(before, {**values, **random, **given}, lane.state())

        def again(ports: Sequence[Port], random: Mapping[Port, Any]) -> LaneStep:
            self._rewind(lane, step, before)
            return run(ports, random)

        watched, is_new = program.watched.ports, with_boundaries and self._showing_changes is None
        shown: LaneStep | None = None
        showing = tuple(dict.fromkeys((*watched, *self.cut.boundary_ports)))
        result = run(showing if with_boundaries and not self._showing_changes else watched, random)
        unwatched = again((), random) if with_unwatched or is_new else None
        if is_new and unwatched is not None:
            self._showing_changes = bool(self.unequal(unwatched, result))
            if self._showing_changes:
                result = again(watched, random)
        if with_boundaries and self._showing_changes:
            drawn = {port: result.values[port] for port in program.random_ports}
            shown = again([port for port in showing if port not in drawn], drawn)
            if not self.unequal(result, shown):  # to watch, or to draw once more, had made the difference
                self._showing_changes = False
            result = replace(result, values={**shown.values, **result.values})
        if unwatched is not None or shown is not None:
            lane.load(result.after)
        return replace(result, unwatched=unwatched), shown

    def _candidate_step(
        self, step: int, batch: Sequence[Any], with_unwatched: bool, shared: Mapping[Port, Any]
    ) -> LaneStep:
        lane, steps, unwatched = self.candidate, self.compiled["candidate"], None
        before = lane.state()
        values, after = steps.run(batch, self.watched_ports, shared), lane.state()
        if with_unwatched:
            self._rewind(lane, step, before)
            unwatched = LaneStep(before, steps.run(batch, (), shared, is_kept=False), lane.state())
            lane.load(after)
        return LaneStep(before, values, after, unwatched)

    def shown(self, lane: Lane, run: StepRun, ports: Sequence[Port], state: Sequence[Any]) -> dict[Port, Any]:
        """What a lane's step has at some ports when it is run again from a state, given what the reference drew.

        Leaves the lane in the state after the step.
        """
        random = {port: run.reference.values[port] for port in self.program.random_ports}
        self._rewind(lane, run.step, state)
        try:
            return self.compiled[lane.name].run(run.batch, ports, random, is_kept=False)
        finally:
            lane.load((run.reference if lane is self.reference else run.candidate).after)

    @staticmethod
    def _rewind(lane: Lane, step: int, before: Sequence[Any]) -> None:
        lane.load(before)
        lane.enter_step(step)

    def _taken(self, step: int) -> tuple[Port, ...]:
        """Random outputs that the candidate takes from the reference."""
        return tuple(dict.fromkeys([*self.shared, *self.reference.draws(step, self.program)]))

    # -- comparing -----------------------------------------------------------------------------

    def drawn(self, run: StepRun) -> list[tuple[Port, Any, Any]]:
        """What each random op drew in the reference and in the candidate, whether or not it went on with that.

        Not what was recorded, of which no state says how the candidate would have drawn it.
        """
        recorded = self.reference.draws(run.step, self.program)
        reference, candidate = run.reference.values, run.candidate.values
        ports = [port for port in self.program.random_ports if port not in recorded and port in candidate]
        return [(port, to_numpy(reference[port]), to_numpy(candidate[port])) for port in ports]

    def differs_again(self, lane: Lane, run: StepRun) -> list[str]:
        """What ends with other bits (`unequal`) when a lane's step is run again from the same state, watched as before.

        Leaves the lane in the state of that second run.
        """
        is_reference = lane is self.reference
        first = run.reference if is_reference else run.candidate
        self._rewind(lane, run.step, first.before)
        taken = self.reference.draws(run.step, self.program) if is_reference else self._taken(run.step)
        shared = {port: run.reference.values[port] for port in taken}
        values = self.compiled[lane.name].run(run.batch, self.watched_ports, shared)
        return self.unequal(LaneStep(first.before, values, lane.state()), first)

    def not_reproduced(self, run: StepRun, again: StepRun) -> list[str]:
        """Variables that the candidate's step, run again from the same state, leaves with other bits.

        Empty where the step drew other random numbers the second time.
        """
        first, second = run.candidate, again.candidate
        random = [port for port in self.program.random_ports if port in first.values]
        if any(not same_bits(to_numpy(first.values[p]), to_numpy(second.values[p])) for p in random):
            return []
        return self.unequal(first, second)

    def unequal(self, a: LaneStep, b: LaneStep) -> list[str]:
        """Names of what two runs of a step leave with other bits: variables, and in prediction the predictions."""
        triples = zip(self.program.variables, arrays_of(a.after), arrays_of(b.after), strict=True)
        names = [spec.name for spec, x, y in triples if not same_bits(x, y)]
        others = (
            port for port in self.program.predictions if not same_bits(*(to_numpy(s.values[port]) for s in (a, b)))
        )
        return [*names, *(self.program.layers_of[port][0] for port in others)]

    def propagated(self, run: StepRun) -> Propagated:
        """The candidate's whole step against the reference's."""
        compared, candidate = run.compared, run.candidate
        pairs = {
            key: (to_numpy(compared.values[port]), to_numpy(candidate.values[port]))
            for key, port in self._outputs.items()
            if port in candidate.values
        }
        states = zip(arrays_of(compared.after), arrays_of(candidate.after), strict=True)
        pairs.update(zip(self._variables, states, strict=True))
        return Propagated(pairs)

    @cached_property
    def _outputs(self) -> dict[Key, Port]:
        """Layer outputs, gradients and the loss, as far as there are."""
        activations = {
            ("activations", layer if index == 0 else f"{layer}:{index}"): port
            for layer, outputs in self.program.layer_outputs.items()
            for index, port in enumerate(outputs)
        }
        gradients = {("gradients", name): port for name, port in self.program.gradients.items()}
        losses = {} if self.program.loss is None else {("loss", "loss"): self.program.loss}
        return {**activations, **gradients, **losses}

    @cached_property
    def _variables(self) -> list[Key]:
        return [(spec.kind, spec.of or spec.name) for spec in self.program.variables]
