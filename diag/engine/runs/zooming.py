"""One step under the microscope: what is found of its ops, and what cures those that are wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from diag.engine.lanes.lane import Lane
from diag.engine.lanes.step_results import StepRun
from diag.engine.localization.explainers import OpExplainer
from diag.engine.localization.tf32_cure import cures_of_op
from diag.engine.lockstep.history import History, num_rows_of
from diag.engine.lockstep.microscope import Microscope, OpRecord, snapshot_lanes
from diag.engine.runs.findings import Findings
from diag.engine.runs.random_draws import RandomStreams
from diag.engine.runs.settings import Settings
from diag.engine.step.program import Program
from diag.engine.truth.not_unique import DECISION_FLIP
from diag.verdict.findings import NORMWISE, Cause, Divergence, Observation, Verdict
from diag.verdict.ladder import blame_of_op

# What explains a layer that is out of its bound although no op of it is at fault.
INNOCENT = (DECISION_FLIP, NORMWISE)


class Zoom:
    """Looks at single steps of a run, and adds to what was found."""

    def __init__(
        self, settings: Settings, lanes: tuple[Lane, Lane], findings: Findings, streams: RandomStreams, history: History
    ) -> None:
        self.settings, self.lanes, self.findings = settings, lanes, findings
        self.streams, self.history = streams, history

    def __call__(self, program: Program, run: StepRun) -> tuple[list[Observation], list[Observation]]:
        """All op outputs, and those among them that explain a layer's error with no fault of their own."""
        findings, num_rows = self.findings, num_rows_of(run.batch)
        findings.zoomed.append(run.step)
        cures: dict[Any, tuple[str, ...]] = {}

        def explain(record: OpRecord) -> Observation:
            index = record.evidence.node.location.index
            if index is not None:
                record = replace(record, earlier=partial(self.history.of, index, record.output, num_rows))
            explained = explainer(record)
            if explained.where.location not in cures:  # at once: the inputs of all ops together are too much to keep
                cures[explained.where.location] = cures_of_op(record, microscope)
            return explained

        microscope = Microscope(
            program,
            snapshot_lanes(self.lanes, run.reference.before),
            run.step,
            truth_everywhere=self.settings.units != "op" or run.step == self.settings.first_step,
            share_random=self.streams.are_shared,
            explain=explain,
        )
        explainer = OpExplainer(microscope.judge)
        ops = microscope.run(run.batch)
        findings.see_ops(ops, microscope.fallbacks)
        for observation in ops:
            if observation.verdict is Verdict.DIVERGENCE:
                findings.add(_divergence(observation, cures.get(observation.where.location, ())))
        return ops, [o for o in ops if o.note in INNOCENT and o.differs]


def _divergence(observation: Observation, cures: tuple[str, ...]) -> Divergence:
    cause = observation.cause or Cause()
    return Divergence.of(observation.where, cause, blame_of_op(cause, observation), observation.excess, cures)
