"""A run between two of its steps as plain data, and a run that goes on from there in another process."""

from __future__ import annotations

from typing import Any

from diag.common.plain import PlainData
from diag.engine.graphs.graph import Port
from diag.engine.runs.random_draws import Stream
from diag.engine.runs.run import LockstepRun, key_of
from diag.engine.truth.agreement import Calibration, KnownWrong
from diag.numerics.adam import AdamFigures
from diag.numerics.envelope import Envelope
from diag.numerics.figures import Bound, ClassCounts, PairStatistics, TruthStatistics
from diag.numerics.op_classes import ErrorClass
from diag.numerics.repeats import Repeats, Seen
from diag.numerics.stream_tests import PooledDraws
from diag.verdict.advisories import Advisories
from diag.verdict.chaos import Curve
from diag.verdict.drift import DriftTally, OpErrors
from diag.verdict.findings import Cause, Divergence, FusedOps, Observation, Verdict, Where
from diag.verdict.result import Amplifier
from diag.verdict.weights import LayerDifference, PredictionDifference, WeightComparison, WeightDifference

RUN_DATA = PlainData(
    (
        AdamFigures, Advisories, Amplifier, Bound, Calibration, Cause, ClassCounts, Curve, Divergence, DriftTally,
        Envelope, ErrorClass, FusedOps, KnownWrong, LayerDifference, Observation, OpErrors, PairStatistics, PooledDraws,
        Port, PredictionDifference, Repeats, Seen, Stream, TruthStatistics, Verdict, WeightComparison, WeightDifference,
        Where,
    )
)  # fmt: skip
"""What a run remembers is made of these."""


def carried(run: LockstepRun) -> dict[str, Any]:
    """Where a run has got to, for `RUN_DATA` to encode before the next step changes it."""
    return {
        "next_step": run.next_step,
        "lanes": [lane.carried() for lane in run.lanes],
        "findings": run.findings.carried(),
        "attention": run.attention.carried(),
        "streams": run.streams.carried(),
        "history": run.history.carried(),
        "twins": None if run.twins is None else run.twins.carried(),
        "telescopes": [
            {"began": run.began[key], "steps": each.steps.carried(), "agreement": each.judge.agreement.carried()}
            for key, each in run.telescopes.items()
        ],
    }


def take_up(run: LockstepRun, state: dict[str, Any]) -> None:
    """Go on from what `carried` gave of a run of the same request."""
    run.next_step = state["next_step"]
    run.streams.take_up(state["streams"])
    for known in state["telescopes"]:
        telescope = run.telescope_for(run.batches[known["began"]], known["began"])
        if run.streams.are_shared:
            telescope.steps.share_random_outputs()
        telescope.steps.take_up(known["steps"])
        telescope.judge.agreement.take_up(known["agreement"])
    for lane, of_lane in zip(run.lanes, state["lanes"], strict=True):
        lane.take_up(of_lane)
    run.findings.take_up(state["findings"])
    run.attention.take_up(state["attention"])
    run.history.take_up(state["history"], lambda batch: run.telescopes[key_of(batch)].program)
    if run.twins is not None:
        run.twins.take_up(state["twins"], run.program)


def draws_from_lost_state(run: LockstepRun) -> bool:
    """Whether the step draws random numbers by ops whose generator lives in the kernel: no variable holds its state."""
    program = run.program
    return any(not program.graph.by_name[port.node].op.startswith("Stateless") for port in program.random_ports)
