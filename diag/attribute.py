"""Run one recorded step under a matrix of switches: which one cures it, and which part of the stack is to blame.

The trace is enough by itself.  Every trial starts from the recorded state, in a process that is told the switch
before it loads TensorFlow, and is held against float64 truth.  Exit code 0: a cure was found, or nothing is
wrong, 1: nothing that was tried cures it, 2: the question could not be asked, 3: a bug of ours.

A trace may come from a stranger: its step is run only if all that its ops do is to compute (docs/SECURITY.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diag.common.child import add_memory_flag, in_child, limits_of
from diag.common.command import (
    OneLineParser,
    add_trust_flag,
    command_parser,
    file_path,
    not_negative,
    positive,
    run_command,
)
from diag.common.jsonable import json_safe, to_text
from diag.common.terminal import ReportConsole
from diag.common.text import as_text
from diag.errors import UserError
from diag.machine.hardware import not_restored
from diag.machine.places import parse_place
from diag.machine.switches import SWITCHES
from diag.machine.tensorflow_import import import_tensorflow
from diag.report import attribution as reporting
from diag.verdict.attribution import Trial
from diag.verdict.findings import Divergence
from traces.reader import TraceReader

NO_CURE = 1
LONGEST = 600  # seconds
MORE = 300  # seconds, until what is left out is said, and a trial that hangs is ended


def parser() -> OneLineParser:
    parser = command_parser("diag.attribute", __doc__)
    parser.add_argument("trace", metavar="TRACE", type=file_path, help="a trace.h5 of diag.lockstep")
    parser.add_argument(
        "--step", metavar="K", type=not_negative, help="the step (default: that of the first divergence)"
    )
    parser.add_argument("--place", metavar="PLACE", help="where instead of the candidate's place")
    parser.add_argument("--switches", metavar="NAMES", help=f"only these, with commas between: {', '.join(SWITCHES)}")
    parser.add_argument(
        "--seconds",
        type=positive,
        default=LONGEST,
        metavar="N",
        help="what has not been tried by then is left out (default: %(default)s)",
    )
    add_trust_flag(parser)
    add_memory_flag(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("attribute", parser(), run, arguments)


def run(options: argparse.Namespace) -> int:
    place = None if options.place is None else parse_place(options.place)
    only = switch_names(options.switches)
    TraceReader(options.trace).close()  # what is no trace is refused before TensorFlow is loaded
    import_tensorflow()
    step, location, alike = flagged_in(options.trace, options.step)
    from diag.engine.attribution.attributing import attribute, flagged_step_in, line_of
    from diag.engine.lanes.lane import check_device

    flagged = flagged_step_in(options.trace, step, place, alike, options.trust)
    check_device(flagged.place)  # each trial would only say that it cannot be made
    console = ReportConsole(quiet=options.json)

    def on_trial(trial: Trial) -> None:
        if not options.json:
            print(as_text(line_of(trial)), file=sys.stderr)

    if left_out := not_restored(flagged.environment):
        console.print(f"note: {left_out}")
    attribution, location = attribute(flagged, location, on_trial, only, options.seconds)
    if options.json:
        document = {"trace": str(options.trace), "step": step, "place": str(flagged.place), "site": location}
        print(to_text(json_safe({**document, **reporting.report(attribution)})))
    reporting.render(attribution, console)
    return NO_CURE if attribution.is_reproduced and not attribution.workarounds else 0


def switch_names(given: str | None) -> list[str] | None:
    if given is None:
        return None
    names = [name.strip() for name in given.split(",") if name.strip()]
    unknown = [name for name in names if name not in SWITCHES]
    if unknown or not names:
        raise UserError(f"--switches {given}: expected some of {', '.join(SWITCHES)}")
    return names


Alike = tuple[tuple[str, ...], tuple[str, ...]]


def flagged_in(trace: Path, step: int | None) -> tuple[int, dict[str, Any] | None, Alike]:
    """The step to try and what its run flagged there, as the report in the trace says; None: to be looked for.

    Also the layers that are wrong in the same way, and those whose ops are wrong together.
    """
    from diag.engine.attribution.attributing import wrong_alike
    from diag.engine.attribution.trial_runner import FlaggedUnit

    with TraceReader(trace) as reader:
        report, steps = reader.report(), reader.steps
    divergences = [Divergence.from_dict(each) for each in (report or {}).get("divergences") or []]
    if step is None:
        if not divergences:
            raise UserError(f"{trace}: its run found no divergence; name a step with --step")
        step = divergences[0].where.step
    if step not in steps:
        raise UserError(f"--step {step}: {trace} holds the steps {', '.join(map(str, steps[:10])) or 'of no run'}")
    in_step = [each for each in divergences if each.where.step == step]
    if not in_step:
        return step, None, ((), ())
    return step, FlaggedUnit.of(in_step[0].where).to_dict(), wrong_alike(in_step)


def main_in_child(arguments: Sequence[str]) -> int:
    """The command in a process of its own; its trials are in others."""
    options = parser().parse_args(arguments)
    return in_child("attribute", "diag.attribute", arguments, limits_of(options, options.seconds + MORE))


if __name__ == "__main__":
    sys.exit(main_in_child(sys.argv[1:]))
