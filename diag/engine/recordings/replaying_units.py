"""One op or one layer of a recorded step, on the inputs it had, at a place and against float64 truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from diag.engine.graphs.graph import Node, Port
from diag.engine.lanes.lane import Lane
from diag.engine.lanes.step_results import StepRun, UnitRun
from diag.engine.lockstep.microscope import Microscope, Pair, snapshot_lanes
from diag.engine.lockstep.steps import reference_step
from diag.engine.lockstep.unit_runs import UnitRunner, units_of
from diag.engine.recordings.recorded_run import RecordedRun
from diag.engine.recordings.replaying import Replayer
from diag.engine.step.fusion_groups import forward_fusion_groups
from diag.engine.step.program import Program
from diag.engine.step.units import Unit
from diag.engine.truth.op_judge import OpEvidence
from diag.engine.truth.unit_judge import UnitJudge
from diag.errors import UserError
from diag.machine.places import Place
from diag.verdict.findings import Observation

CPU = Place("CPU:0")


@dataclass(frozen=True)
class OpReplay:
    """An op's outputs judged, and the evidence of each of its executions (several in a loop)."""

    node: Node
    observations: tuple[Observation, ...]
    evidence: tuple[OpEvidence, ...]


@dataclass(frozen=True)
class LayerReplay:
    """A layer's units judged, with what each was given and gave, and who judged them."""

    units: tuple[Unit, ...]
    observations: tuple[Observation, ...]
    unit_runs: tuple[UnitRun, ...]
    judge: UnitJudge


class _OneOp(Microscope):
    """A microscope that looks at one op; the others only the reference executes."""

    def __init__(
        self, program: Program, lanes: tuple[Lane, Lane], step: int, index: int, draws: Mapping[Port, Any]
    ) -> None:
        super().__init__(program, lanes, step)
        self.index = index
        self.draws = draws
        self.executions: list[OpEvidence] = []

    def _observe(self, node: Node, inputs: Sequence[Any]) -> list[Any]:
        if node.location.index == self.index:
            return super()._observe(node, inputs)
        if Port(node.name, 0) in self.draws:
            return [Pair(self.draws[Port(node.name, 0)])]
        values = [x.reference if isinstance(x, Pair) else x for x in inputs]
        return [Pair(output) for output in self.reference.run(node, values, self.lanes[0].variables)]

    def _write(self, node: Node, inputs: Sequence[Any]) -> None:
        if node.location.index == self.index:
            super()._write(node, inputs)
            return
        values = [inputs[0], *(x.reference for x in inputs[1:])]
        for lane in self.lanes:  # both start and stay on the reference's path
            self.reference.write(node, values, lane.variables[inputs[0].index])

    def _record(self, evidence: OpEvidence, own: list[Any] | None) -> Any:
        self.executions.append(evidence)
        return super()._record(evidence, own)


def replay_op(run: RecordedRun, step: int, index: int, lane: str, place: Place, replayer: Replayer) -> OpReplay:
    """Run op `index` of a step at a place, on the inputs that the CPU's own step gives it.

    Raises:
      UserError: the step has no such op, or the step cannot be replayed.
    """
    program = run.program(step)
    nodes = [node for node in program.ops if node.location.index == index]
    if not nodes:
        raise UserError(f"--op {index}: the step has the ops 0 to {len(program.ops) - 1}")
    reached, _ = replayer.reach(step, lane, place)
    reference = Lane("reference", CPU, None, reached.state())
    lanes = snapshot_lanes((reference, reached), reached.state())
    microscope = _OneOp(program, lanes, step, index, replayer.given(step, program))
    microscope.run([tf.constant(value) for value in run[step].inputs])
    if not microscope.executions:
        raise UserError(f"--op {index}: {nodes[0].op} was not executed in step {step}, or has no output to look at")
    return OpReplay(nodes[0], tuple(microscope.observations.values()), tuple(microscope.executions))


def replay_layer(run: RecordedRun, step: int, layer: str, lane: str, place: Place, replayer: Replayer) -> LayerReplay:
    """Run a layer's units compiled by themselves at a place, on what the CPU's own step gives them.

    Also with the layer that hands it something, or takes something from it, that no one else reads
    (diag/engine/step/fusion_groups.py).

    `layer` may also name one unit: a variable, for its update.

    Raises:
      UserError: no such layer, with those there are; or the step cannot be replayed.
    """
    program = run.program(step)
    cut = units_of(program)
    units = (*cut.units, *forward_fusion_groups(program))
    chosen = [unit for unit in units if layer in (unit.layer, unit.variable, unit.name, *unit.joined)]
    if not chosen:
        names = ", ".join(dict.fromkeys(unit.layer for unit in units if not unit.joined))
        raise UserError(f"--layer {layer}: the step has no such layer; it has {names}")
    reached, _ = replayer.reach(step, lane, place)
    reference = Lane("reference", CPU, None, reached.state())
    batch = [tf.constant(value) for value in run[step].inputs]
    on_cpu = reference_step(reference, program, cut.boundary_ports, batch, replayer.given(step, program))
    candidate = Lane("candidate", place, reached.simulation, reached.state())
    candidate.enter_step(step)
    unit_runs = [*UnitRunner(candidate).run(chosen, StepRun(step, batch, on_cpu, on_cpu, with_boundaries=True))]
    judge = UnitJudge(program)
    observations = [o for unit_run in unit_runs for o in judge.judge(unit_run, True, {})]
    return LayerReplay(tuple(chosen), tuple(observations), tuple(unit_runs), judge)
