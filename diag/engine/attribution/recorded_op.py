"""One op of a recorded step, on the inputs that the CPU's own step gives it, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from diag.engine.faults.catalogue import simulation_of
from diag.engine.graphs.tf_runtime import takes_handle
from diag.engine.lanes.eager import EagerPlace
from diag.engine.recordings.recorded_run import RecordedRun
from diag.engine.recordings.replaying import Replayer
from diag.engine.recordings.replaying_units import OpReplay, replay_op
from diag.engine.truth.op_judge import OpJudge, output_arrays
from diag.machine.places import Place
from diag.verdict.findings import Observation


class RecordedOp:
    """The op `index` of a step: to find its inputs the whole step is walked, but once."""

    def __init__(self, recorded: RecordedRun, step: int, index: int, lane: str) -> None:
        self.recorded, self.step, self.index, self.lane = recorded, step, index, lane
        self._found: OpReplay | None = None

    def at(self, place: Place) -> Sequence[Observation]:
        """Its outputs at a place, judged against truth."""
        if self._found is None or takes_handle(self._found.node.op) or place.is_simulated:
            replayer = Replayer(self.recorded, place)  # a simulated fault may look at more than an op's inputs
            self._found = replay_op(self.recorded, self.step, self.index, self.lane, place, replayer)
            return self._found.observations
        return self._again(self._found, place)

    @staticmethod
    def _again(found: OpReplay, place: Place) -> list[Observation]:
        executed, judge = EagerPlace(place.eagerly(), simulation_of(place)), OpJudge(candidate=place)
        observations: list[Observation] = []
        for evidence in found.evidence:
            outputs = executed.run(found.node, list(evidence.inputs), [])
            judged = judge.judge(replace(evidence, candidate=output_arrays(evidence.node, outputs)))
            pairs = zip(found.observations, judged, strict=False)
            observations += [replace(seen, bound=again.bound) for seen, again in pairs]
        return observations
