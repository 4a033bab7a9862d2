"""The telescope: whole steps compiled on both places, and each layer unit compiled by itself.

Whole steps run untouched but for what may be tapped without breaking a fusion.  On the steps that
are checked, every layer unit runs at the candidate on the values that the reference's step had at
the unit's boundary: a local error with the layer's fusions left in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diag.engine.graphs.graph import Port, order_of_ops
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.lanes.step_results import Inner, StepRun, UnitRun
from diag.engine.step.fusion_groups import forward_fusion_groups
from diag.engine.step.program import Program
from diag.engine.step.units import STEP, Cut, Unit, cut, whole_step
from diag.engine.truth.agreement import Agreement, rms
from diag.engine.truth.naming import port_name, propagated_key, where_of
from diag.engine.truth.truth import Arrays, UnitTruth
from diag.engine.truth.unit_judge import GradientTruth, _nonfinite
from diag.numerics.bounds import (
    Bound,
    RoundingSpread,
    absolute_error,
    composite_bound,
    exact_bound,
    is_suspect,
    where_both_overflow,
)
from diag.numerics.figures import PairStatistics
from diag.numerics.formats import format_of
from diag.numerics.op_classes import is_random
from diag.numerics.statistics import against_truth, compare
from diag.verdict.findings import Observation, Verdict


def units_of(program: Program) -> Cut:
    """The program cut into layer units, random ops apart."""
    return cut(program, frozenset(n.op for n in program.graph if is_random(n.op)))


class Telescope:
    """Watches whole steps and checks layer units for one program and two lanes."""

    def __init__(self, program: Program, reference: Lane, candidate: Lane) -> None:
        self.program = program
        self.reference, self.candidate = reference, candidate
        self.cut: Cut = units_of(program)
        self.steps = {lane.name: CompiledSteps(lane, program) for lane in (reference, candidate)}
        self.order = order_of_ops(program.graph, program.functions)
        self.shared: tuple[Port, ...] = ()
        self.only: Sequence[Unit] = (
            *self.cut.units,
            *forward_fusion_groups(program),
        )  # the units that are run by themselves
        self.is_watched = True  # else nothing but the loss and the state is fetched from the candidate's step
        self._showing_changes: bool | None = None  # the reference's bits, to show what passes between units
        self.gradient_truth: GradientTruth | None = None  # of the last whole step that was judged
        self._whole: Unit | None = None
        self._built: dict[str, Any] = {}
        self._truths: dict[str, UnitTruth] = {}
        self.agreement = Agreement()

    # -- whole steps ---------------------------------------------------------------------------

    @property
    def watched_ports(self) -> tuple[Port, ...]:
        """What is watched of the candidate's step."""
        return self.program.watched.ports if self.is_watched else self.program.random_ports

    def run_step(self, step: int, batch: Sequence[Any], with_boundaries: bool) -> StepRun:
        """Both lanes through one step, in place."""
        for lane in (self.reference, self.candidate):
            lane.enter_step(step)
        before, before_candidate = self.reference.state(), self.candidate.state()
        drawn = self.reference.draws(step, self.program)
        given = {Port(name, 0): x for name, x in zip(self.program.batch_inputs, batch, strict=True)}
        mine, inner = self._reference_step(batch, drawn, before, with_boundaries)
        shared = {port: mine[port] for port in self._taken(step)}
        theirs = self.steps["candidate"].run(batch, self.watched_ports, shared)
        inner = inner and Inner({**inner.values, **given}, inner.after)
        return StepRun(
            step, batch, before, before_candidate, {**mine, **given}, theirs, self.reference.state(),
            self.candidate.state(), with_boundaries, self.reference.recorded(step, self.program), inner,
        )  # fmt: skip

    def _reference_step(
        self, batch: Sequence[Any], drawn: Mapping[Port, Any], before: Sequence[Any], with_boundaries: bool
    ) -> tuple[dict[Port, Any], Inner | None]:
        """The reference's step as it is watched; with what passes between its units, in a run of its own if need be."""
        steps, free = self.steps["reference"], self.program.watched.ports
        if not with_boundaries:
            return {**steps.run(batch, free, drawn), **drawn}, None
        showing = tuple(dict.fromkeys((*free, *self.cut.boundary_ports)))
        if self._showing_changes is False:
            return {**steps.run(batch, showing, drawn), **drawn}, None
        mine = {**steps.run(batch, free, drawn), **drawn}
        after = self.reference.state()
        self.reference.load(before)
        draws = {port: mine[port] for port in self.program.random_ports}
        values = {**steps.run(batch, [port for port in showing if port not in draws], draws), **draws}
        inner = Inner(values, self.reference.state())
        self.reference.load(after)
        if self._showing_changes is None:
            pairs = [*zip(after, inner.after, strict=True), *((mine[port], values[port]) for port in free)]
            self._showing_changes = not all(_same_bits(to_numpy(a), to_numpy(b)) for a, b in pairs)
        return {**values, **mine}, inner

    def _taken(self, step: int) -> tuple[Port, ...]:
        """Random draws that the candidate takes from the reference."""
        return tuple(dict.fromkeys([*self.shared, *self.reference.draws(step, self.program)]))

    def random_differs(self, run: StepRun) -> tuple[Port, ...]:
        """Random draws that are not the same in both lanes."""
        ports = [port for port in self.program.random_ports if port not in self._taken(run.step)]
        return tuple(p for p in ports if not np.array_equal(to_numpy(run.reference[p]), to_numpy(run.candidate[p])))

    def differs_again(
        self, lane: Lane, batch: Sequence[Any], before: Sequence[Any], run: StepRun, is_watched: bool
    ) -> list[str]:
        """Variables that end with other bits when the step is run again from the same state, tapped as it was or not.

        Leaves the lane in the state of that second run.
        """
        watched = self.watched_ports if is_watched else ()
        ended = run.after_reference if lane is self.reference else run.after_candidate
        lane.load(before)
        lane.enter_step(run.step)
        taken = self._taken(run.step) if lane is self.candidate else self.reference.draws(run.step, self.program)
        shared = {port: run.reference[port] for port in taken}
        self.steps[lane.name].run(batch, watched, shared)
        pairs = zip(self.program.variables, lane.variables, ended, strict=True)
        return [spec.name for spec, now, then in pairs if not _same_bits(to_numpy(now), to_numpy(then))]

    def not_reproduced(self, run: StepRun, again: StepRun) -> list[str]:
        """Variables that the candidate's step, run again from the same state, leaves with other bits.

        Empty where the step drew other random numbers the second time.
        """
        if any(not _same_bits(to_numpy(run.candidate[p]), to_numpy(again.candidate[p])) for p in self._own_draws(run)):
            return []
        pairs = zip(self.program.variables, run.after_candidate, again.after_candidate, strict=True)
        return [spec.name for spec, then, now in pairs if not _same_bits(to_numpy(then), to_numpy(now))]

    def _own_draws(self, run: StepRun) -> list[Port]:
        return [port for port in self.program.random_ports if port in run.candidate]

    def propagated(self, run: StepRun) -> dict[tuple[str, str], PairStatistics]:
        """(kind, name) -> the candidate's whole step against the reference's."""
        found: dict[tuple[str, str], PairStatistics] = {}
        compared = run.compared
        for layer, ports in self.program.layer_outputs.items():
            for index, port in enumerate(ports):
                name = layer if index == 0 else f"{layer}:{index}"
                if port in run.candidate:
                    found["activations", name] = _pair(compared[port], run.candidate[port])
        for name, port in self.program.gradients.items():
            if port in run.candidate:
                found["gradients", name] = _pair(compared[port], run.candidate[port])
        for spec, mine, theirs in zip(self.program.variables, run.compared_after, run.after_candidate, strict=True):
            found[spec.kind, spec.of or spec.name] = _pair(mine, theirs)
        found["loss", "loss"] = _pair(compared[self.program.loss], run.candidate[self.program.loss])
        return found

    # -- layer units ---------------------------------------------------------------------------

    def run_units(self, run: StepRun) -> list[UnitRun]:
        """Every layer unit at the candidate, on the reference's inputs and state."""
        return self.run_each(self.only, run)

    def run_each(self, units: Sequence[Unit], run: StepRun) -> list[UnitRun]:
        """These units, as `run_units`."""
        scratch, within = self.candidate.scratch, run.within
        for variable, value in zip(scratch, run.before, strict=True):
            variable.assign(value)
        captured = [index for unit in units for index in set(unit.executable.captures.values())]
        several = {index for index in captured if captured.count(index) > 1}
        found = []
        for unit in units:
            boundary = [within.values[port] for port in unit.boundary]
            outputs = self.outputs_of(unit, boundary)
            written = [scratch[index].read_value() for index in unit.writes]
            for index in several.intersection(unit.writes):
                scratch[index].assign(run.before[index])
            reference = [within.values[port] for port in unit.outputs]
            reference += [within.after[index] for index in unit.writes]
            found.append(UnitRun(unit, run, boundary, [*outputs, *written], reference))
        return found

    def run_afresh(self, unit: Unit, run: StepRun) -> UnitRun:
        """One unit, compiled once more under the switches as they are now, and forgotten again."""
        built = self._built.pop(unit.name, None)
        try:
            (found,) = self.run_each([unit], run)
        finally:
            self._built.pop(unit.name, None)
            if built is not None:
                self._built[unit.name] = built
        return found

    def whole_step_run(self, run: StepRun) -> UnitRun:
        """The step itself as a unit: what was tapped of it, and the state it left."""
        unit = self.whole_unit
        boundary = [run.reference[port] for port in unit.boundary]
        mine = [run.reference[port] for port in unit.outputs] + [run.after_reference[i] for i in unit.writes]
        theirs = [run.candidate[port] for port in unit.outputs] + [run.after_candidate[i] for i in unit.writes]
        return UnitRun(unit, run, boundary, theirs, mine)

    @property
    def whole_unit(self) -> Unit:
        if self._whole is None:
            self._whole = whole_step(self.program, self.watched_ports)
        return self._whole

    def stop_watching(self) -> None:
        """From now on nothing of the candidate's step is fetched but the loss, its random draws and the state."""
        self.is_watched, self._whole = False, None
        self._forget(STEP)

    def _forget(self, name: str) -> None:
        """What truth said of a unit."""
        self._truths.pop(name, None)
        self.agreement.forget(name)

    def stop_watching_if_it_hides(self, run: StepRun, unwatched: Sequence[Any]) -> bool:
        """Whether the candidate's step is out of its bound only when nothing of it is watched.

        unwatched: the state that it ended in then, from the state before `run`.
        """
        watched = self.judge_unit(self.whole_step_run(run), False, {})
        if any(o.verdict is Verdict.DIVERGENCE for o in watched):
            return False
        self.stop_watching()
        alone = self.whole_step_run(replace(run, after_candidate=unwatched))
        if any(o.verdict is Verdict.DIVERGENCE for o in self.judge_unit(alone, True, {})):
            return True
        self.is_watched, self._whole = True, None
        self._forget(STEP)
        return False

    def outputs_of(self, unit: Unit, boundary: Sequence[Any]) -> list[Any]:
        """A unit at the candidate, on its scratch variables."""
        if unit.name not in self._built:
            self._built[unit.name] = self.candidate.build(unit.executable, on_scratch=True)
        outputs: list[Any] = self._built[unit.name](*self.candidate.place_feeds(boundary))
        return outputs

    def truth_of(self, unit: Unit) -> UnitTruth:
        if unit.name not in self._truths:
            self._truths[unit.name] = UnitTruth(unit, self.reference.variables)
        return self._truths[unit.name]

    def judge_unit(self, unit_run: UnitRun, truth_wanted: bool, propagated: Mapping[Any, Any]) -> list[Observation]:
        """One observation an output.

        Without `truth_wanted`, lanes that agree within what truth allowed before need no new truth.
        """
        local = [_pair(a, b) for a, b in zip(unit_run.reference, unit_run.candidate, strict=True)]
        needed = truth_wanted or any(
            not self.agreement.needs_no_truth(unit_run, i, s) for i, s in enumerate(local) if unit_run.is_judged(i)
        )
        bounds = self._bounds(unit_run) if needed else [None] * len(local)
        observations = []
        for index, (statistics, judged) in enumerate(zip(local, bounds, strict=True)):
            if not unit_run.is_judged(index):
                continue
            where = where_of(self.program, self.order, unit_run, index)
            x = unit_run.candidate[index]
            bound, mine, theirs, note = judged or (self.agreement.bound(unit_run, index, statistics), None, None, "")
            if judged:
                self.agreement.remember_wrong(unit_run, index, statistics, bound)
            verdict = Verdict.IDENTICAL if statistics.num_unequal == 0 else Verdict.ROUNDING
            if bound is not None and not bound.is_explained:
                verdict = Verdict.DIVERGENCE
            is_new = not unit_run.unit.joined or verdict is Verdict.DIVERGENCE  # else its layers say the same
            whole = propagated.get(propagated_key(self.program, unit_run, index)) if is_new else None
            observations.append(
                Observation(
                    where,
                    tuple(x.shape),
                    x.dtype.name,
                    verdict,
                    bound,
                    whole,
                    mine,
                    theirs,
                    _nonfinite(unit_run, x),
                    note,
                )
            )
        return observations

    def output_of(self, port: Port, whole: Sequence[Observation]) -> Observation | None:
        """Of a whole step's observations that of one port, said of the layer whose port it is."""
        unit = self.whole_unit
        name = port_name(self.program, unit, port)
        found = next((o for o in whole if o.where.name == name), None)
        if found is None:
            return None
        layer = self.program.graph.by_name[port.node].location.layer
        return replace(found, where=replace(found.where, unit="layer", layer=layer))

    def _bounds(self, unit_run: UnitRun) -> list[Any]:
        """(bound, candidate's statistics, reference's statistics, note) for each output, by truth."""
        truth = self.truth_of(unit_run.unit)
        before = unit_run.run.before
        mine = truth.outputs(unit_run.boundary, before, unit_run.reference)
        theirs = mine
        if any(not _same_bits(to_numpy(unit_run.reference[i]), to_numpy(unit_run.candidate[i])) for i in truth.given):
            theirs = truth.outputs(unit_run.boundary, before, unit_run.candidate)
        spreads = truth.spreads(unit_run.boundary, before, unit_run.reference, mine)
        if unit_run.unit.layer == STEP:
            gradients = set(self.program.gradients.values())
            found = zip(unit_run.unit.outputs, mine, theirs, spreads, strict=False)  # variables follow the outputs
            self.gradient_truth = GradientTruth(
                unit_run.run.step, {port: (m, t, spread) for port, m, t, spread in found if port in gradients}
            )
        return [self._bound(unit_run, index, mine, theirs, spreads[index]) for index in range(len(mine))]

    def _bound(self, unit_run: UnitRun, index: int, mine: Arrays, theirs: Arrays, spread: RoundingSpread) -> Any:
        x, r = to_numpy(unit_run.candidate[index]), to_numpy(unit_run.reference[index])
        if x.dtype.kind in "biu":
            return exact_bound(x, r), None, None, ""
        truth_x = where_both_overflow(x, r, theirs[index])
        truth_r = where_both_overflow(r, x, mine[index])
        reference_error = absolute_error(r, truth_r)
        bound: Bound = composite_bound(x, truth_x, spread, reference_error)
        self.agreement.calibrate(unit_run, index, truth_r, bound)
        unit = format_of(x.dtype).unit_roundoff * rms(truth_r)
        note = "the reference itself is far from truth" if is_suspect(reference_error, spread, unit) else ""
        return bound, against_truth(x, truth_x, flushed=True), against_truth(r, truth_r, flushed=True), note


def _pair(reference: Any, candidate: Any) -> PairStatistics:
    return compare(to_numpy(reference), to_numpy(candidate))


def _same_bits(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8)))
