"""The result of a run, from what was found in it."""

from __future__ import annotations

from collections.abc import Sequence

from diag.engine.lanes.lane import Lane
from diag.engine.runs.findings import WORST_KEPT, Findings, worst_of
from diag.engine.runs.settings import Settings
from diag.engine.runs.twins import Twins
from diag.verdict.ladder import amplifiers_in, overall
from diag.verdict.result import Judged, LaneInfo, RunResult, as_notes


def result_of(findings: Findings, settings: Settings, lanes: Sequence[Lane], twins: Twins | None) -> RunResult:
    """lanes: the reference's and the candidate's."""
    first = findings.divergences[0] if findings.divergences else None
    judged = Judged(
        findings.num_layer_outputs,
        findings.num_op_outputs,
        findings.num_unjudged,
        tuple(findings.zoomed),
        tuple(sorted(findings.fallbacks)),
        tuple(sorted(findings.unjudged)),
        **findings.advisories.as_judged(),
    )
    return RunResult(
        verdict=overall(findings.divergences, findings.any_bit_differs or findings.first_bit is not None),
        first_divergence=first,
        divergences=tuple(findings.divergences),
        first_bit_difference=findings.first_bit,
        first_nonfinite=findings.first_nonfinite,
        amplifiers=(
            *(amplifiers_in(findings.path) if findings.weights is None else ()),
            *findings.amplifying[:WORST_KEPT],
        ),
        steps=settings.steps,
        first_step=settings.first_step,
        mode=settings.mode,
        lanes=tuple(LaneInfo(lane.name, lane.label, lane.place.is_simulated, lane.environment()) for lane in lanes),
        losses=findings.losses,
        path=tuple(findings.path),
        microscope=tuple(findings.ops),
        worst=tuple(worst_of([*findings.layers, *findings.ops])[:WORST_KEPT]),
        judged=judged,
        notes=as_notes([*findings.notes, *findings.advisories.notes]),
        updates=tuple(findings.updates),
        **findings.advisories.errors(),
        drift=findings.drift.found(),
        random_streams=tuple(findings.random_streams),
        weights=findings.weights,
        twins=None if twins is None else twins.trajectories(bool(findings.divergences)),
    )
