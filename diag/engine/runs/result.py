"""The result of a run, from what was found in it."""

from __future__ import annotations

from collections.abc import Sequence

from diag.engine.lanes.lane import Lane
from diag.engine.rewrites.around import rewrites_around
from diag.engine.runs.findings import WORST_KEPT, Found, worst_of
from diag.engine.runs.settings import Settings
from diag.engine.runs.twins import Twins
from diag.engine.step.program import Program
from diag.verdict.ladder import amplifiers_in, overall
from diag.verdict.result import Judged, LaneInfo, RunResult


def result_of(
    found: Found, settings: Settings, program: Program, lanes: Sequence[Lane], twins: Twins | None
) -> RunResult:
    """lanes: the reference's and the candidate's."""
    first = found.divergences[0] if found.divergences else None
    judged = Judged(
        found.num_layer_outputs,
        found.num_op_outputs,
        found.num_unjudged,
        tuple(found.zoomed),
        tuple(sorted(found.fallbacks)),
        tuple(sorted(found.unjudged)),
        **found.advisories.as_judged(),
    )
    return RunResult(
        verdict=overall(found.divergences, found.any_bit_differs or found.first_bit is not None),
        first_divergence=first,
        divergences=tuple(found.divergences),
        first_bit_difference=found.first_bit,
        first_nonfinite=found.first_nonfinite,
        amplifiers=(*amplifiers_in(found.path), *found.amplifying[:WORST_KEPT]),
        steps=settings.steps,
        first_step=settings.first_step,
        lanes=tuple(LaneInfo(lane.name, lane.label, lane.place.is_simulated, lane.environment()) for lane in lanes),
        losses=found.losses,
        path=tuple(found.path),
        microscope=tuple(found.ops),
        worst=tuple(worst_of([*found.layers, *found.ops])[:WORST_KEPT]),
        judged=judged,
        notes=(*found.notes, *found.advisories.notes),
        updates=tuple(found.updates),
        rewrites=None if first is None else rewrites_around(first, program, lanes[1]),
        twins=None if twins is None else twins.trajectories(bool(found.divergences)),
    )
