"""One recorded step, tried under given switches: what the process of a trial is asked, one call a trial.

Whoever begins the process (diag/common/task.py) has set what TensorFlow reads when it is loaded; trials of one process
agree on it, and are of one step.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.errors import UserError
from diag.machine.places import parse_place
from diag.machine.switches import REWRITING
from diag.verdict.attribution import Trial, implied
from traces.reader import TraceReader

if TYPE_CHECKING:
    from diag.engine.attribution.trial_runner import FlaggedUnit, TrialRunner

FIGURES = ("op", "unit", "step", "step_seconds")


def tried(
    step: Mapping[str, Any],
    names: Sequence[str],
    location: Mapping[str, Any] | None,
    known: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A trial as JSON, with the `location` that was looked at; only that, None, where nothing is out of its bound.

    Args:
      step: arguments of `_runner_of`.
      names: of the switches and edits.
      location: what was flagged; None to look for it.
      known: trials before this one, of other processes too: none is made that they answer.

    Raises:
      UserError: the trace cannot answer.  After an error the process can try nothing more.
    """
    try:
        runner = _runner_of(**step)
        unit = _flagged(runner, location)
        if unit is None:
            return {"location": None}
        done = [trial_in(tuple(line["switches"]), line) for line in known]
        reason = what_is_implied(names, done)
        figures = {"reason": reason, "skipped": True} if reason else _tried(runner, names, unit, done)
        return {"location": unit.to_dict(), **figures}
    except BaseException:
        _open.__exit__(*sys.exc_info())  # a RecordedRun makes of what its step raises an error for the person
        raise


_open = contextlib.ExitStack()
"""The trace, and the settings that it was recorded under, for as long as the process lives."""


@functools.cache
def _runner_of(trace: str, step: int, lane: str, place: str, is_trusted: bool, is_brief: bool) -> TrialRunner:
    """The runner of the one step that this process tries."""
    from diag.machine.hardware import restore_variables

    with TraceReader(trace) as reader:
        environment = reader.environment("candidate")
    restore_variables(environment)  # as recorded, but for what was set for this process
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from diag.engine.attribution.trial_runner import TrialRunner
    from diag.engine.recordings.recorded_run import RecordedRun
    from diag.machine.settings import as_recorded

    _open.enter_context(as_recorded(environment))
    recorded = _open.enter_context(RecordedRun(Path(trace), is_trusted))
    return TrialRunner(recorded, step, lane, parse_place(place), is_brief=is_brief)


def _flagged(runner: TrialRunner, location: Mapping[str, Any] | None) -> FlaggedUnit | None:
    from diag.engine.attribution.trial_runner import FlaggedUnit

    return FlaggedUnit(**location) if location else _first_location(runner)


@functools.cache
def _first_location(runner: TrialRunner) -> FlaggedUnit | None:
    return runner.first_location()


def what_is_implied(names: Sequence[str], done: Sequence[Trial]) -> str:
    """Why the trials before this one answer it already; empty where they do not."""
    baseline = baseline_of(done)
    return "" if baseline is None or len(names) != 1 else implied(names[0], REWRITING, done, baseline)


def baseline_of(done: Sequence[Trial]) -> Trial | None:
    return next((trial for trial in done if not trial.switches), None)


def trial_in(names: tuple[str, ...], line: Mapping[str, Any]) -> Trial:
    """The trial that JSON tells of, in which infinities are texts."""
    figures = {key: line.get(key) for key in FIGURES}
    numbers = {key: None if value is None else float(value) for key, value in figures.items()}
    return Trial(names, reason=line.get("reason", ""), skipped=bool(line.get("skipped")), **numbers)


def _tried(runner: TrialRunner, names: Sequence[str], unit: FlaggedUnit, done: Sequence[Trial]) -> dict[str, Any]:
    import tensorflow as tf

    from diag.engine.graphs.tf_errors import reason_of

    try:
        trial = runner.trial(names, unit, baseline_of(done))
    except (UserError, tf.errors.OpError, NotImplementedError, ValueError) as error:
        reason = reason_of(error)
        if "execution=xla" in names and not isinstance(error, UserError):
            reason = f"XLA cannot compile this step: {reason}"
        return {"reason": reason}
    return {name: getattr(trial, name) for name in FIGURES}
