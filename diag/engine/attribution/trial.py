"""One recorded step in this fresh process, under given switches: a JSON line for each trial.

    python -m diag.engine.attribution.trial TRACE --step K --place P --location JSON --switches JSON --known JSON

`--switches` is a list of trials, each a list of names; all of them must agree on what TensorFlow reads when it
is loaded.  A line `{"begun": I}` stands before the result of trial I, so that whoever waits knows which one
ended the process, if one did.  `--known` are trials of other processes, so that none is run that they answer.
`--brief`: no trial goes on once it is known to be no cure.  Where standard input is a pipe, the process ends with it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from diag.common.command import OneLineParser, command_parser
from diag.common.jsonable import json_number
from diag.common.lifeline import end_with_starter
from diag.common.wording import one_line
from diag.errors import UserError
from diag.machine.places import parse_place
from diag.machine.switches import REWRITING, SWITCHES, merged_environment
from diag.verdict.attribution import Trial, implied
from traces.reader import TraceReader


def parser() -> OneLineParser:
    parser = command_parser("diag.engine.attribution.trial", __doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--step", type=int, required=True)
    parser.add_argument("--lane", default="reference")
    parser.add_argument("--place", required=True)
    parser.add_argument("--trust", action="store_true")
    parser.add_argument("--location", type=json.loads, default=None)
    parser.add_argument("--switches", type=json.loads, required=True)
    parser.add_argument("--known", type=json.loads, default=[])
    parser.add_argument("--brief", action="store_true")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    end_with_starter()
    try:
        for line in run(options):
            print(json.dumps(line), flush=True)
    except UserError as error:
        print(json.dumps({"refused": one_line(error)}), flush=True)
        return error.exit_code
    return 0


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from diag.machine.hardware import restore_variables

    known = [name for names in options.switches for name in names if name in SWITCHES]
    os.environ.update(merged_environment(known))
    with TraceReader(options.trace) as reader:
        environment = reader.environment("candidate")
    restore_variables(environment)  # as recorded, but for what was just set
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from diag.engine.attribution.trial_runner import FlaggedUnit, TrialRunner
    from diag.engine.recordings.recorded_run import RecordedRun
    from diag.machine.settings import as_recorded

    with as_recorded(environment), RecordedRun(options.trace, options.trust) as recorded:
        place = parse_place(options.place)
        runner = TrialRunner(recorded, options.step, options.lane, place, is_brief=options.brief)
        location = FlaggedUnit(**options.location) if options.location else runner.first_location()
        yield {"location": None if location is None else location.to_dict()}
        done = [trial_in(tuple(line["switches"]), line) for line in options.known]
        for index, names in enumerate(options.switches if location is not None else []):
            yield {"begun": index}
            reason = what_is_implied(names, done)
            line = {"reason": reason, "skipped": True} if reason else _tried(runner, names, location, done)
            done.append(trial_in(tuple(names), line))
            yield {"trial": index, **line}


def what_is_implied(names: Sequence[str], done: Sequence[Trial]) -> str:
    """Why the trials before this one answer it already; empty where they do not."""
    baseline = baseline_of(done)
    return "" if baseline is None or len(names) != 1 else implied(names[0], REWRITING, done, baseline)


def baseline_of(done: Sequence[Trial]) -> Trial | None:
    return next((trial for trial in done if not trial.switches), None)


def trial_in(names: tuple[str, ...], line: dict[str, Any]) -> Trial:
    """The trial that a line tells of."""
    figures = {key: line.get(key) for key in ("op", "unit", "step", "step_seconds")}
    numbers = {key: None if value is None else float(value) for key, value in figures.items()}
    return Trial(names, reason=line.get("reason", ""), skipped=bool(line.get("skipped")), **numbers)


def _tried(runner: Any, names: Sequence[str], location: Any, done: Sequence[Trial]) -> dict[str, Any]:
    import tensorflow as tf

    from diag.engine.graphs.tf_errors import reason_of

    try:
        trial = runner.trial(names, location, baseline_of(done))
    except (UserError, tf.errors.OpError, NotImplementedError, ValueError) as error:
        reason = reason_of(error)
        if "execution=xla" in names and not isinstance(error, UserError):
            reason = f"XLA cannot compile this step: {reason}"
        return {"reason": reason}
    return {
        name: None if value is None else json_number(value)
        for name in ("op", "unit", "step", "step_seconds")
        for value in (getattr(trial, name),)
    }


if __name__ == "__main__":
    sys.exit(main())
