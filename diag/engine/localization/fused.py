"""Compiled units that are wrong although each of their ops is right: in which ops together, of which layer, and how.

A layer is named first.  Where every layer is right by itself and layers compiled together are not, or only the whole
step is wrong, the ops are searched for across layers: among units with a tensor between them that one op alone reads
(diag/engine/step/fusion_groups.py), and, if that is not enough, in the whole step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from diag.engine.graphs.graph import Node, Port
from diag.engine.lanes.step_results import StepRun, UnitRun
from diag.engine.localization.bisection import Region, smallest_failing_region, watched_away
from diag.engine.localization.explainers import UnitExplainer
from diag.engine.localization.repeated import chance_of
from diag.engine.localization.tf32_cure import cures_of_unit
from diag.engine.lockstep.telescope import Telescope
from diag.engine.step.fusion_groups import all_fusion_groups
from diag.engine.step.units import STEP
from diag.verdict.findings import Cause, Divergence, FusedOps, Observation, Verdict, Where
from diag.verdict.ladder import blame_of_layer, blame_of_op, implicated, unexplained_layers

# How long ops are searched for across layers, and how long in the whole step: a choice, since each try compiles a
# graph.  What is found by then is reported.
SEARCH_SECONDS = 60.0
MOST_WATCHED = 8  # ops of a region whose tensors are watched one by one, each a graph to compile


@dataclass(frozen=True)
class _Suspect:
    """An output out of its bound, of a unit that was compiled by itself."""

    observation: Observation
    unit_run: UnitRun


class FusedFaults:
    """Looks into the units of one step that are wrong."""

    def __init__(self, telescope: Telescope, run: StepRun, wrong_units: Sequence[UnitRun]) -> None:
        self.telescope, self.run, self.wrong_units = telescope, run, wrong_units
        self.program = telescope.program
        self.explained: set[Any] = set()  # sites of what was flagged and is named now

    def divergences(
        self, flagged: Sequence[Observation], guilty: Sequence[Observation], ops: Sequence[Observation],
        with_region: bool,
    ) -> list[Divergence]:  # fmt: skip
        """What no guilty op explains of what is out of bound; with_region: whether to narrow the first of them.

        ops: all that the microscope saw of the step.
        """

        def ops_of(observation: Observation) -> frozenset[int]:
            unit_run = self._run_of(observation)
            return unit_run.unit.op_indices if unit_run is not None else frozenset()

        result: list[Divergence] = []
        for observation in self._without_fusion_groups_of_the_named(unexplained_layers(flagged, guilty, ops_of)):
            self.explained |= {o.where.location for o in flagged if o.where.layer == observation.where.layer}
            unit_run = self._run_of(observation)
            if unit_run is None:
                result.append(self._divergence(observation, observation.where, Cause(), None))
                continue
            if (alone := implicated(observation, ops, unit_run.unit.op_indices)) is not None:
                result.append(self._of_an_op(_Suspect(observation, unit_run), alone))
                continue
            suspects = [_Suspect(observation, unit_run)]
            if observation.where.unit == STEP:
                suspects = self._across_layers(unit_run) or suspects
            for suspect in suspects:
                result.append(self._named(suspect, with_region and not result))
        return result

    @staticmethod
    def _without_fusion_groups_of_the_named(layers: Sequence[Observation]) -> list[Observation]:
        """A fusion group is named only where none of its layers is wrong by itself."""
        named = {o.where.layer for o in layers}
        return [o for o in layers if not named.intersection((o.where.layer or "").split("+")) - {o.where.layer}]

    def _run_of(self, observation: Observation) -> UnitRun | None:
        if observation.where.unit == STEP:
            return self.telescope.whole_step_run(self.run)
        key = (observation.where.layer, observation.where.variable)
        return next((run for run in self.wrong_units if (run.unit.layer, run.unit.variable) == key), None)

    # -- one suspect -------------------------------------------------------------------------------

    def _named(self, suspect: _Suspect, with_region: bool) -> Divergence:
        observation, unit_run = suspect.observation, suspect.unit_run
        is_step = unit_run.unit.layer == STEP
        chance = None if is_step else chance_of(self.telescope, unit_run, observation.where.output)
        if chance is not None:
            where = self._where_across(suspect, None) if unit_run.unit.joined else observation.where
            found = Divergence.of(where, chance, "kernel", observation.excess)
            return found.with_evidence(ops_innocent=True, output_name=observation.where.name)
        is_across = bool(unit_run.unit.joined) or (is_step and unit_run.run.with_boundaries)  # else it is only watched
        region = self._region(unit_run) if is_across or (with_region and not is_step) else None
        if is_step and region is not None:
            suspect = self._inside(region, unit_run) or suspect
        cause = self._cause(suspect)
        fused = None if region is None else self._fused_ops(region)
        where = observation.where
        if is_across:
            where = self._where_across(suspect, region)
            fused = replace(fused or FusedOps(), layers=_layers(region, unit_run))
        found = self._divergence(suspect.observation, where, cause, fused)
        is_unit = not is_step and unit_run is suspect.unit_run
        cures = cures_of_unit(self.telescope, unit_run, observation.where.output) if is_unit else ()
        return replace(found, blame="kernel", cured_by=cures) if cures else found

    def _of_an_op(self, suspect: _Suspect, op: Observation) -> Divergence:
        """What only the layer's truth could judge, and one op that has none did by itself."""
        observation, cause = suspect.observation, self._cause(suspect)
        divergence = Divergence.of(op.where, cause, blame_of_op(cause, op), observation.excess)
        return divergence.with_evidence(judged_by=observation.where.describe(), difference=op.produced)

    def _cause(self, suspect: _Suspect) -> Cause:
        """Unknown of the whole step, and of what has no bound."""
        observation, unit_run = suspect.observation, suspect.unit_run
        if observation.bound is None or unit_run.unit is self.telescope.whole_unit:
            return Cause()
        explainer = UnitExplainer(self.telescope.judge.truth_of(unit_run.unit))
        return explainer.explain(unit_run, observation.where.output, observation.bound)

    def _divergence(self, wrong: Observation, where: Where, cause: Cause, fused: FusedOps | None) -> Divergence:
        execution = self.telescope.candidate.place.execution
        cures = ("execution=eager",) if execution != "eager" else ()
        divergence = Divergence.of(where, cause, blame_of_layer(cause.name, execution), wrong.excess, cures, fused)
        return divergence.with_evidence(ops_innocent=True, output_name=where.name)

    def _region(self, unit_run: UnitRun) -> Region | None:
        """The fewest ops of the unit that are wrong when they are compiled together."""
        candidate = self.telescope.candidate
        if not candidate.place.is_compiled:
            return None
        before = unit_run.state
        return smallest_failing_region(
            unit_run.unit, unit_run.boundary, before, candidate, seconds=SEARCH_SECONDS
        )  # fmt: skip

    def _fused_ops(self, region: Region) -> FusedOps:
        """Which ops they are, and which of their tensors may not be watched."""
        ops = FusedOps(region.name, region.op_indices)
        if len(region.ops) > MOST_WATCHED:
            return ops
        graph = region.unit.executable.graph
        away = (graph.by_name[port.node].op for port in watched_away(region, self.telescope.candidate))
        return replace(ops, vanishes_when_watched=tuple(away))

    def _inside(self, region: Region, whole: UnitRun) -> _Suspect | None:
        """The region as a unit of its own, judged: what is known of a whole step explains little."""
        unit = replace(region.unit, layer=region.name, joined=(region.name,))
        ran = region.ran
        unit_run = UnitRun(unit, whole.run, ran.boundary, ran.outputs, ran.expected)
        return self._first_wrong(unit_run)

    def _first_wrong(self, unit_run: UnitRun) -> _Suspect | None:
        found = self.telescope.judge.judge(unit_run, False, {})
        wrong = [o for o in found if o.verdict is Verdict.DIVERGENCE]
        return _Suspect(min(wrong, key=lambda o: o.where.sort_key), unit_run) if wrong else None

    # -- across layers -----------------------------------------------------------------------------

    def _across_layers(self, whole: UnitRun) -> list[_Suspect]:
        """Units that are wrong when they are compiled together, in the order of the step."""
        if not whole.run.with_boundaries:
            return []
        begun, found = time.monotonic(), []
        for unit in all_fusion_groups(self.program):
            (unit_run,) = self.telescope.run_units(whole.run, [unit])
            suspect = self._first_wrong(unit_run)
            if suspect is not None:
                found.append(suspect)
            if time.monotonic() - begun > SEARCH_SECONDS:
                break
        return sorted(found, key=lambda suspect: suspect.observation.where.sort_key)

    def _where_across(self, suspect: _Suspect, region: Region | None) -> Where:
        """A fault between layers is said of the layer that hands on the first wrong value."""
        where = suspect.observation.where
        node = region.ops[-1] if region is not None else self._maker(suspect)
        if node is None or node.location.layer is None:
            return where
        outputs = self.program.layer_outputs.get(node.location.layer, ())
        name = "output" if any(Port(node.name, i) in outputs for i in range(len(node.dtypes))) else node.op
        return replace(
            where,
            unit="layer",
            layer=node.location.layer,
            variable=node.location.variable,
            phase=node.location.phase,
            output=0,
            name=name,
            order=self.telescope.judge.order[node.name],
        )

    def _maker(self, suspect: _Suspect) -> Node | None:
        """The op that made a wrong output; None for a variable that was written."""
        unit, index = suspect.unit_run.unit, suspect.observation.where.output
        if unit.layer == STEP or index >= len(unit.outputs):
            return None
        return self.program.graph.by_name[unit.outputs[index].node]


def _layers(region: Region | None, unit_run: UnitRun) -> tuple[str, ...]:
    """Whose ops are wrong together."""
    if region is None:
        return unit_run.unit.joined
    names = (node.location.variable or node.location.layer for node in region.ops)
    return tuple(dict.fromkeys(name for name in names if name))
