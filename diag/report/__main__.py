"""The report of a recorded run, again from its trace; of a run that was killed, what its whole steps show.

Without TensorFlow.  Prints the report unless something else is asked for.  Exit code 0: no divergence, 1: divergence,
2: the question could not be asked, 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from diag.common.command import OneLineParser, add_verbose_flag, command_parser, file_path, run_command
from diag.common.files import refuse_unwritable, write_report
from diag.common.jsonable import to_text
from diag.common.terminal import ReportConsole
from diag.report.next_commands import next_commands_of
from diag.report.recorded import recorded_report, recorded_result
from traces.reader import TraceReader

DIVERGENCE = 1


def parser() -> OneLineParser:
    parser = command_parser("diag.report", __doc__)
    parser.add_argument("trace", metavar="TRACE", type=file_path, help="trace.h5 of a run")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--text", action="store_true", help="the report as it was printed (default)")
    what.add_argument(
        "--html", metavar="FILE", type=file_path, help="write report.html, one file that needs no network"
    )
    what.add_argument(
        "--issue", action="store_true", help="Markdown for an issue: sentence, versions, switches, details"
    )
    what.add_argument("--json", action="store_true", help="print report.json and nothing else")
    what.add_argument(
        "--tensorboard", metavar="DIR", type=file_path, help="write a new folder for TensorBoard (needs tensorboardX)"
    )
    add_verbose_flag(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("report", parser(), run, arguments)


def run(options: argparse.Namespace) -> int:
    if options.html is not None:
        refuse_unwritable("--html", options.html)
    if options.tensorboard is not None:
        from diag.report.tensorboard import refuse_tensorboard

        refuse_tensorboard(options.tensorboard)
    with TraceReader(options.trace) as trace:
        result = recorded_result(trace)
        if options.json:
            print(to_text(recorded_report(trace, result)), end="")
        elif options.issue:
            from diag.report.issue import issue_of

            print(issue_of(result), end="")
        elif options.html is not None:
            from diag.report.html import page_of

            write_report(options.html, page_of(result, trace))
            print(options.html)
        elif options.tensorboard is not None:
            from diag.report.tensorboard import write_events

            write_events(trace, options.tensorboard)
            print(f"tensorboard --logdir {shlex.quote(str(options.tensorboard))}")
        else:
            from diag.report import terminal

            terminal.render(result, ReportConsole(), next_commands_of(result, trace.command), options.verbose)
    return DIVERGENCE if result.verdict == "divergence" else 0


if __name__ == "__main__":
    sys.exit(main())
