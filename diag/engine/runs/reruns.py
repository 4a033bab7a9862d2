"""A step's own run against the same step run again: a lane may compute from more than it is given.

Units and ops are run by themselves.  What is wrong only in the step's own run (a buffer that was not
cleared, a race) they do not show; the step itself, run again from the same state, does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diag.common.wording import first_few
from diag.engine.graphs.graph import Port
from diag.engine.graphs.tf_runtime import FLOATS, to_numpy
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.lanes.step_results import LaneStep, StepRun, UnitRun
from diag.engine.localization.repeated import REPEATS
from diag.engine.lockstep.telescope import Telescope
from diag.numerics.bits import same_bits
from diag.numerics.statistics import relative_difference
from diag.verdict.findings import Cause, Observation, Verdict

# A whole step of a telescope, whether truth is wanted in any case, how whole steps compare -> its observations.
StepJudge = Callable[[Telescope, UnitRun, bool, Mapping[Any, Any]], Sequence[Observation]]

# A second run that is this many times nearer to the reference does not have the first one's error.
NEARER = 8.0


@dataclass(frozen=True)
class Unlike:
    """The first output of a step that another run from the same state gives otherwise, and nearer to the reference."""

    port: Port
    cause: Cause


def unlike_itself(telescope: Telescope, run: StepRun) -> Unlike | None:
    """Run the candidate's step again, as it is and with nothing remembered; None where that gives the same bits.

    Leaves the candidate in the state after the step.
    """
    candidate = telescope.candidate
    try:
        for _ in range(REPEATS):
            again = _again(telescope, candidate, telescope.steps.compiled[candidate.name], run)
            port = _first_unlike(telescope, run, again)
            if port is not None:
                summary = "wrong in the step's own run, right when the step is run again from the same state"
                return Unlike(port, Cause("nondeterminism", summary, _distances(run, again, port)))
        fresh = Lane(candidate.name, candidate.place, _with_nothing_remembered(candidate), run.candidate.before)
        isolated = _again(telescope, fresh, CompiledSteps(fresh, telescope.program), run)
        port = _first_unlike(telescope, run, isolated)
        if port is not None:
            summary = "right when the step is run with nothing remembered"
            return Unlike(port, Cause("stale-data", summary, _distances(run, isolated, port)))
        return None
    finally:
        candidate.load(run.candidate.after)


def _with_nothing_remembered(lane: Lane) -> Any:
    return None if lane.simulation is None else replace(lane.simulation, memory={})


def _again(telescope: Telescope, lane: Lane, steps: CompiledSteps, run: StepRun) -> Mapping[Port, Any]:
    lane.load(run.candidate.before)
    lane.enter_step(run.step)
    reference = run.reference.values
    shared = {port: reference[port] for port in telescope.program.random_ports if port in reference}
    return steps.run(run.batch, telescope.steps.watched_ports, shared)


def _first_unlike(telescope: Telescope, run: StepRun, again: Mapping[Port, Any]) -> Port | None:
    """In execution order; None also where the second run is no nearer to the reference there."""
    ports = [port for port in telescope.steps.watched_ports if telescope.program.graph.dtype(port) in FLOATS]
    for port in sorted(ports, key=lambda port: telescope.judge.order[port.node]):
        first, second, reference = (
            to_numpy(values[port]) for values in (run.candidate.values, again, run.reference.values)
        )
        if not same_bits(first, second):
            is_nearer = relative_difference(reference, first) > NEARER * relative_difference(reference, second)
            return port if is_nearer else None
    return None


def _distances(run: StepRun, again: Mapping[Port, Any], port: Port) -> dict[str, float]:
    reference = to_numpy(run.reference.values[port])
    return {
        "own_difference": relative_difference(reference, to_numpy(run.candidate.values[port])),
        "difference_again": relative_difference(reference, to_numpy(again[port])),
    }


def is_hidden_by_watching(
    telescope: Telescope, run: StepRun, judge_step: StepJudge, note: Callable[[str], None]
) -> bool:
    """Whether what is wrong with a step showed only where nothing of it was fetched; `run` holds both ways.

    judge_step: the observations of a whole step.  note: takes what watching changes.  Leaves both lanes in the state
    after the step as it was watched; if it is hidden, the telescope watches no more.
    """
    is_hidden, steps = False, telescope.steps
    for lane, step in ((telescope.reference, run.reference), (telescope.candidate, run.candidate)):
        assert step.unwatched is not None
        changed = steps.unequal(step.unwatched, step)
        if changed:
            again = set(steps.differs_again(lane, run))
            for text in _changes(
                lane.name, changed, again, "outputs" if telescope.program.predictions else "variables"
            ):
                note(text)
            if lane is telescope.candidate and not set(changed) <= again:
                is_hidden = _stop_watching_if_it_hides(telescope, run, step.unwatched, judge_step)
            lane.load(step.after)
    if is_hidden:
        note(
            "what is wrong with the candidate's step vanishes when its tensors are watched: from here on only its "
            "results and its state are"
        )
    return is_hidden


def _stop_watching_if_it_hides(telescope: Telescope, run: StepRun, unwatched: LaneStep, judge_step: StepJudge) -> bool:
    """Whether the candidate's step is out of its bound only when nothing of it is watched.

    unwatched: what it gave then, from the state before `run`.
    """
    if _is_wrong(judge_step(telescope, telescope.whole_step_run(run), False, {})):
        return False
    telescope.watch(False)
    values = {**run.candidate.values, **unwatched.values}
    alone = telescope.whole_step_run(
        replace(run, candidate=replace(run.candidate, values=values, after=unwatched.after))
    )
    if _is_wrong(telescope.judge.judge(alone, True, {})):
        return True
    telescope.watch(True)
    return False


def _is_wrong(observations: Sequence[Observation]) -> bool:
    return any(o.verdict is Verdict.DIVERGENCE for o in observations)


def _changes(lane: str, changed: Sequence[str], unstable: Collection[str], what: str) -> list[str]:
    """Which bits depend on being watched, and which on nothing that a step is given."""
    watched, result = [name for name in changed if name not in unstable], []
    if unstable:
        result.append(
            f"the {lane} is not deterministic: the same step run again leaves other bits in {len(unstable)} {what} "
            f"({first_few(sorted(unstable))})"
        )
    if watched:
        result.append(
            f"watching changes the {lane}: without taps the step leaves other bits in {len(watched)} {what} "
            f"({first_few(watched)})"
        )
    return result
