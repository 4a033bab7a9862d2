"""Attribution at the end of a run: whether it is worth its time, and what it changes in the result."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from diag.engine.attribution.attributing import FlaggedStep, attribute, line_of, plan, refined
from diag.engine.attribution.matrix import Names, num_workers
from diag.engine.attribution.trial_runner import FlaggedUnit
from diag.errors import UserError
from diag.machine.switches import process_of
from diag.verdict.attribution import Attribution, Trial
from diag.verdict.findings import Divergence
from diag.verdict.result import NOTE, Notice, RunResult

# What a person is kept waiting for without having asked: a choice, not a measurement.
AUTOMATIC_SECONDS = 60.0
# Before the first trial: loading TensorFlow, the trace and the reference's step, on two cores, small model: 5 to 10 s.
STARTING = 8.0
RUNS = 2  # of the step, a trial: three where it may be cured, compiling it included, and none where it is not
BLAMES = ("kernel", "graph-rewriter", "xla")
FEW = ("execution=eager", "grappler=off", "remapping=off", "tf32=off", "deterministic=on")  # one process, each a blame
LONGEST = 300.0  # what is not tried by then is left out, and said to be


def attributed(
    result: RunResult, flagged: FlaggedStep, wanted: bool | None, step_seconds: float, say: Callable[[str], None]
) -> RunResult:
    """The result with its first divergence attributed; with a note where that was not done.

    A divergence that blames another part of the stack is tried too, if briefly.

    wanted: None to do as much of it as `AUTOMATIC_SECONDS` allow, with no figure that decides nothing.
    step_seconds: what a step of the run took, judging it included, which the first trial repeats.
    """
    first = result.first_divergence
    if first is None or wanted is False:
        return result
    seconds = LONGEST if wanted else AUTOMATIC_SECONDS
    try:
        if wanted is None and (expected := STARTING + step_seconds) > AUTOMATIC_SECONDS / 2:
            return _noted(result, f"not attributed: a first trial would take about {expected:.0f} s; {_ask(flagged)}")
        location = FlaggedUnit.of(first.where).to_dict()
        told = _Told(plan(flagged, location).trials, flagged, seconds, say)
        found, _ = attribute(flagged, location, told, seconds=seconds, is_brief=wanted is None and _is_alone(result))
    except UserError as error:
        return _noted(result, f"not attributed: {error}")
    if found.baseline.skipped:
        return _noted(result, f"not attributed: a first trial takes more than {seconds:.0f} s; {_ask(flagged)}")
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


def expected_seconds(flagged: FlaggedStep, divergence: Divergence, step_seconds: float) -> float:
    """About how long `diag.attribute` will take; step_seconds: as in `attributed`.  0 where nothing can be tried.

    Every process starts as the first trial does; a trial in one that runs takes its two steps.
    """
    try:
        trials = plan(flagged, FlaggedUnit.of(divergence.where).to_dict()).trials
    except UserError:
        return 0.0
    processes = len({process_of(names) for names in trials})
    at_once = min(num_workers(flagged.place), processes)
    first = STARTING + step_seconds
    return first + _of_others(len(trials) - 1, step_seconds, first * processes) / at_once


def _of_others(num_trials: int, step_seconds: float, starting: float) -> float:
    """Processor time of the trials behind the first: truth of the step is taken once in each process."""
    return RUNS * num_trials * step_seconds + starting


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
        location = FlaggedUnit.of(where).to_dict()
        found, _ = attribute(there, location, lambda trial: say(line_of(trial)), FEW, seconds, is_brief=True)
    except UserError as error:
        say(str(error))
        return divergence, 0.0
    return refined(divergence, found), found.seconds


def _ask(flagged: FlaggedStep) -> str:
    return f"ask for it with python -m diag.attribute {shlex.quote(str(flagged.trace))}"


def _is_alone(result: RunResult) -> bool:
    """Whether no other divergence could be cured with the first, which takes a baseline whose whole step is judged."""
    first = result.divergences[0]
    return not any(d.where.step == first.where.step and d.blame == first.blame for d in result.divergences[1:])


class _Told:
    """Each trial as a line, and how long the others will take, as soon as the first one shows it."""

    def __init__(
        self, trials: Sequence[Names], flagged: FlaggedStep, seconds: float, say: Callable[[str], None]
    ) -> None:
        self.say, self.seconds, self.begun = say, seconds, time.monotonic()
        self.num_trials, self.workers = len(trials), num_workers(flagged.place)
        self.processes = len({process_of(names) for names in trials})
        say(f"trying what cures it: {self.num_trials} trials, at most {seconds:.0f} s")

    def __call__(self, trial: Trial) -> None:
        self.say(line_of(trial))
        if not trial.switches and trial.wrong:
            taken = time.monotonic() - self.begun
            rest = _of_others(self.num_trials - 1, trial.step_seconds or 0.0, taken * self.processes)
            expected = rest / min(self.workers, self.processes)
            left = self.seconds - taken
            cut = f", of which {left:.0f} s are left" if expected > left else ""
            self.say(f"that took {taken:.0f} s; the others take about {expected:.0f} s more{cut}")


def _noted(result: RunResult, text: str) -> RunResult:
    return replace(result, notes=(*result.notes, Notice(NOTE, text)))
