"""Run the same batches on two places in lockstep and report where they diverge.

With no arguments: a small convolutional network on generated images, 20 steps, CPU against the
first GPU, or against a simulated one where there is none.  Prints a report and writes
runs/<time>/trace.h5 and report.json.  Exit code 0: no divergence, 1: divergence, 2: the question
could not be asked, 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diag import allowance_file
from diag import options as flags
from diag.common.child import in_child, limits_of
from diag.common.command import OneLineParser, command_parser, run_command
from diag.common.jsonable import to_text
from diag.common.wording import flag_of
from diag.errors import UserError
from diag.request import LockstepRequest, request_of
from diag.resume import resumed_request

if TYPE_CHECKING:
    from diag.verdict.result import RunResult

DIVERGENCE = 1
MORE_TWINS = 9  # of ten curves of one kind each is the largest in one of ten runs


def parser() -> OneLineParser:
    parser = command_parser("python -m diag.lockstep", __doc__)
    flags.add_model_flags(parser)
    flags.add_place_flags(parser)
    flags.add_watch_flags(parser)
    allowance_file.add_allowances_flag(parser)
    flags.add_trace_flags(parser)
    flags.add_output_flags(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_command(
        "lockstep",
        parser(),
        lambda options: run(resumed_request(parser(), given) if options.resume else request_of(options, given)),
        given,
        left="what was whole is in the trace, and --resume FOLDER goes on with it",
    )


def run(request: LockstepRequest) -> int:
    from diag.machine.tensorflow_import import import_tensorflow
    from traces.reader import TraceReader

    if request.trace is not None:
        TraceReader(request.trace).close()  # what is no trace is refused before TensorFlow is loaded
    import_tensorflow()
    from diag.common.terminal import ReportConsole
    from diag.lockstep_run import run_lockstep
    from diag.report import json_report, substitution, terminal

    result = run_lockstep(request)
    if request.json:
        print(to_text(json_report.report(result)), end="")
    else:
        terminal.render(result, ReportConsole(), next_commands(result, request.command))
        if result.substitution is not None:
            substitution.render(result.substitution, ReportConsole())
    return DIVERGENCE if result.verdict == "divergence" else 0


def next_commands(result: RunResult, given: Sequence[str]) -> list[str]:
    """What to try next, from what was found."""
    place = given.index("--out") if "--out" in given else len(given)
    command = shlex.join(["python", "-m", "diag.lockstep", *given[:place], *given[place + 2 :]])
    first = result.first_divergence
    if first is None:
        further = [f"{command} --follow free"]
        if result.twins is not None:
            further = [f"{command} --twins {MORE_TWINS}"] if result.twins.is_inconclusive else []
        return [*further, f"{command} --units op"]
    commands = []
    if result.attribution is None and "trace" in result.files:
        files = [lane.place for lane in result.lanes if lane.name == "candidate" and ".py:" in lane.place]
        named = ["--place", *files] if files else []  # no file is run because a trace names it
        commands.append(shlex.join(["python", "-m", "diag.attribute", result.files["trace"], *named]))
    elif first.where.unit in ("layer", "op") and first.where.layer and "--substitute" not in given:
        name = f"{first.where.variable or first.where.layer}=reference"
        commands.append(f"{command} {flag_of('--substitute', name)}")
    if first.where.unit != "op" and "--units" not in given:
        commands.append(f"{command} --units op")
    if "--execution" not in given and first.blame in ("graph-rewriter", "xla"):
        commands.append(f"{command} --execution eager")
    return [*commands, f"{command} --follow candidate"] if "--follow" not in given else commands


def _is_recorded(options: argparse.Namespace, given: Sequence[str]) -> bool:
    """Whether the training step comes from a trace, in a run that goes on too."""
    if not options.resume:
        return bool(options.reference.startswith(flags.TRACE))
    try:
        return resumed_request(parser(), given).trace is not None
    except UserError:
        return False  # as `main` will say


def main_in_child(arguments: Sequence[str]) -> int:
    """The command; where the training step comes from a trace, in a process of its own, as long as it takes."""
    options = parser().parse_args(arguments)
    if not _is_recorded(options, arguments):
        return main(arguments)
    return in_child("lockstep", "diag.lockstep", arguments, limits_of(options, None))


if __name__ == "__main__":
    sys.exit(main_in_child(sys.argv[1:]))
