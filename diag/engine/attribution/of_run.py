"""Attribution at the end of a run: whether it is worth its time, and what it changes in the result."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from diag.engine.attribution.attributing import FlaggedStep, attribute, line_of, plan, refined
from diag.engine.attribution.matrix import num_workers
from diag.engine.attribution.trial_runner import FlaggedUnit
from diag.errors import UserError
from diag.machine.switches import process_of
from diag.verdict.attribution import Attribution
from diag.verdict.findings import Divergence
from diag.verdict.result import NOTE, Notice, RunResult

# What a person is kept waiting for without having asked: a choice, not a measurement.
AUTOMATIC_SECONDS = 60.0
# Loading TensorFlow, the trace and the reference's step, on two cores, small model: 5 to 10 s.
STARTING = 8.0
BLAMES = ("kernel", "graph-rewriter", "xla")
FEW = ("execution=eager", "grappler=off", "remapping=off", "tf32=off", "deterministic=on")  # one process, each a blame
LONGEST_UNASKED, LONGEST = 2 * AUTOMATIC_SECONDS, 300.0  # what is not tried by then is left out, and said to be


def attributed(
    result: RunResult, flagged: FlaggedStep, wanted: bool | None, step_seconds: float, say: Callable[[str], None]
) -> RunResult:
    """The result with its first divergence attributed; with a note where that was not done.

    A divergence that blames another part of the stack is tried too, if briefly.

    wanted: None to do it where it is expected to take less than `AUTOMATIC_SECONDS`.  step_seconds: what a
    step of the run took, judging it included, which a trial repeats.
    """
    first = result.first_divergence
    if first is None or wanted is False:
        return result
    try:
        location = FlaggedUnit.of(first.where).to_dict()
        expected = _expected_seconds(flagged, location, step_seconds)
        if wanted is None and expected > AUTOMATIC_SECONDS:
            return _noted(
                result,
                f"not attributed: trying every switch would take about {expected:.0f} s; ask for it with "
                f"python -m diag.attribute {shlex.quote(str(flagged.trace))}",
            )
        say(f"trying what cures it: {len(plan(flagged, location).trials)} trials, about {expected:.0f} s")
        seconds = LONGEST_UNASKED if wanted is None else LONGEST
        found, _ = attribute(flagged, location, lambda trial: say(line_of(trial)), seconds=seconds)
    except UserError as error:
        return _noted(result, f"not attributed: {error}")
    changed = {0: refined(first, found)}
    for index, other in enumerate(result.divergences[1:], start=1):
        if other.where.step == first.where.step and other.blame == first.blame and (cures := cures_of_step(found)):
            changed[index] = replace(other, cured_by=cures)
    left = seconds - found.seconds
    for index in _of_other_blames(result) if found.seconds < AUTOMATIC_SECONDS or wanted else ():
        if left <= 0:
            break
        changed[index], took = _briefly(result.divergences[index], flagged, say, left)
        left -= took
    divergences = tuple(changed.get(index, known) for index, known in enumerate(result.divergences))
    return replace(result, first_divergence=divergences[0], divergences=divergences, attribution=found)


def cures_of_step(found: Attribution) -> tuple[str, ...]:
    """The cures under which the whole step, and so all that was wrong in it, is within its bounds."""
    if "step" not in found.baseline.wrong:  # then the step tells nothing of what was wrong in it
        return ()
    right = {trial.name for trial in found.trials if trial.step is not None and not trial.wrong}
    return tuple(name for name in found.cures if name in right)


def _of_other_blames(result: RunResult) -> list[int]:
    """One divergence of each part of the stack that the first one does not blame."""
    seen, found = {result.divergences[0].blame}, []
    for index, divergence in enumerate(result.divergences):
        if divergence.blame in BLAMES and divergence.blame not in seen:
            seen.add(divergence.blame)
            found.append(index)
    return found


def _briefly(
    divergence: Divergence, flagged: FlaggedStep, say: Callable[[str], None], seconds: float
) -> tuple[Divergence, float]:
    """The divergence after the few switches that tell the parts of the stack apart, and the seconds that took."""
    where = divergence.where
    there = replace(flagged, step=where.step, layers=(), chain=())
    say(f"then {where.describe()}")
    try:
        found, _ = attribute(there, FlaggedUnit.of(where).to_dict(), lambda trial: say(line_of(trial)), FEW, seconds)
    except UserError as error:
        say(str(error))
        return divergence, 0.0
    return refined(divergence, found), found.seconds


def _expected_seconds(flagged: FlaggedStep, location: dict[str, Any], step_seconds: float) -> float:
    trials = plan(flagged, location).trials
    processes = len({process_of(names) for names in trials})
    return (STARTING * processes + step_seconds * len(trials)) / min(num_workers(flagged.place), len(trials))


def _noted(result: RunResult, text: str) -> RunResult:
    return replace(result, notes=(*result.notes, Notice(NOTE, text)))
