"""Attribution at the end of a run: whether it is worth its time, and what it changes in the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from diag.engine.attribution.attributing import Subject, attribute, plan, refined, told
from diag.engine.attribution.bench import Site
from diag.engine.attribution.matrix import num_workers
from diag.engine.attribution.switches import process_of
from diag.errors import UserError
from diag.verdict.result import RunResult

# What a person is kept waiting for without having asked: a choice, not a measurement.
AUTOMATIC_SECONDS = 60.0
# Loading TensorFlow, the trace and the reference's step, on two cores, small model: 5 to 10 s.
STARTING = 8.0
LONGEST_UNASKED, LONGEST = 2 * AUTOMATIC_SECONDS, 300.0  # what is not tried by then is left out, and said to be


def attributed(
    result: RunResult, subject: Subject, wanted: bool | None, step_seconds: float, say: Callable[[str], None]
) -> RunResult:
    """The result with its first divergence attributed; with a note where that was not done.

    wanted: None to do it where it is expected to take less than `AUTOMATIC_SECONDS`.  step_seconds: what a
    step of the run took, judging it included, which a trial repeats.
    """
    first = result.first_divergence
    if first is None or wanted is False:
        return result
    try:
        site = Site.of(first.where).to_dict()
        expected = _expected_seconds(subject, site, step_seconds)
        if wanted is None and expected > AUTOMATIC_SECONDS:
            return _noted(
                result,
                f"not attributed: trying every switch would take about {expected:.0f} s; ask for it with "
                f"python -m diag.attribute {subject.trace}",
            )
        say(f"trying what cures it: {len(plan(subject, site).trials)} trials, about {expected:.0f} s")
        seconds = LONGEST_UNASKED if wanted is None else LONGEST
        found, _ = attribute(subject, site, lambda trial: say(told(trial)), seconds=seconds)
    except UserError as error:
        return _noted(result, f"not attributed: {error}")
    changed = refined(first, found)
    others = tuple(changed if divergence is first else divergence for divergence in result.divergences)
    return replace(result, first_divergence=changed, divergences=others, attribution=found)


def _expected_seconds(subject: Subject, site: dict[str, Any], step_seconds: float) -> float:
    trials = plan(subject, site).trials
    processes = len({process_of(names) for names in trials})
    return (STARTING * processes + step_seconds * len(trials)) / min(num_workers(subject.place), len(trials))


def _noted(result: RunResult, text: str) -> RunResult:
    return replace(result, notes=(*result.notes, text))
