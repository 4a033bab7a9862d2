"""Compare two traces of the same model and batches, made on two machines or by two versions.

The first is the reference, the second the candidate. Nothing is trained: what was recorded is judged against
float64 truth computed here. Tensors are paired by their exact names. Exit code 0: no divergence, 1:
divergence, 2: the question could not be asked, 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from diag.common.child import add_limit_flags, in_child, limits_of
from diag.common.command import OneLineParser, add_trust_flag, add_verbose_flag, command_parser, file_path, run_command
from diag.common.files import refuse_unwritable, write_json, write_report
from diag.common.jsonable import to_text
from diag.common.terminal import ReportConsole
from diag.common.text import as_text
from diag.common.wording import counted
from diag.errors import UserError
from diag.machine.tensorflow_import import import_tensorflow
from traces.reader import TraceReader

DIVERGENCE = 1
LANES = ("reference", "candidate")


def parser() -> OneLineParser:
    parser = command_parser("diag.compare", __doc__)
    parser.add_argument("reference", metavar="A.h5", type=file_path, help="the trace to compare with")
    parser.add_argument("candidate", metavar="B.h5", type=file_path, help="the trace in question")
    parser.add_argument(
        "--lane-a", choices=LANES, default="reference", help="of the first trace (default: %(default)s)"
    )
    parser.add_argument("--lane-b", choices=LANES, default="candidate", help="of the second (default: %(default)s)")
    parser.add_argument("--out", metavar="FILE.json", type=file_path, help="write report.json under this name")
    parser.add_argument("--html", metavar="FILE.html", type=file_path, help="write report.html under this name")
    add_trust_flag(parser)
    add_limit_flags(parser)
    parser.add_argument("--json", action="store_true", help="print report.json and nothing else")
    add_verbose_flag(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("compare", parser(), run, arguments, left="nothing was written")


def run(options: argparse.Namespace) -> int:
    check_out("--out", options.out)
    check_out("--html", options.html)
    for path in (options.reference, options.candidate):
        TraceReader(path).close()  # what is no trace is refused before TensorFlow is loaded
    import_tensorflow()
    from diag.engine.recordings.comparison import RunComparison
    from diag.engine.recordings.recorded_run import RecordedRun
    from diag.engine.recordings.recorded_side import RecordedSide
    from diag.report import json_report, terminal
    from diag.report.html import page_of

    same = options.reference.resolve() == options.candidate.resolve()
    with RecordedRun(options.reference, options.trust) as a:
        b = a if same else RecordedRun(options.candidate, options.trust)
        try:
            comparison = RunComparison(RecordedSide(a, options.lane_a), RecordedSide(b, options.lane_b))
            result = comparison.run()
        finally:
            b.close()
    contents = json_report.report(result)
    if options.out is not None:
        write_json(options.out, contents, is_new=True)
    if options.html is not None:
        write_report(options.html, page_of(result), is_new=True)
    if options.json:
        print(to_text(contents), end="")
    elif result.verdict == "identical":
        console = ReportConsole()
        console.print(same_bits(comparison.num_compared, result.steps), style="bold green")
        for each in (*(f"{lane.name}: {lane.place}" for lane in result.lanes), *(note.text for note in result.notes)):
            console.print(f"  {as_text(each)}")
    else:
        further = next_commands(options.reference, options.candidate)
        terminal.render(result, ReportConsole(), further, options.verbose)
    return DIVERGENCE if result.verdict == "divergence" else 0


def check_out(flag: str, out: Path | None) -> None:
    """Refuse a report that could not be written, before anything is loaded."""
    if out is None:
        return
    if out.exists():
        raise UserError(f"{flag} {out} exists already; name a new file")
    refuse_unwritable(flag, out)


def same_bits(num_tensors: int, num_steps: int) -> str:
    compared = f"{counted(num_tensors, 'tensor')} in {counted(num_steps, 'step')}"
    return f"The traces agree bit for bit: {compared}, by their checksums."


def next_commands(reference: Path, candidate: Path) -> list[str]:
    """A live candidate can be looked into; a recording can only be compared."""
    return [
        f"python -m traces diff {shlex.quote(str(reference))} --other {shlex.quote(str(candidate))}",
        f"python -m diag.lockstep --reference {shlex.quote(f'trace:{reference}')}  # where the second trace was made",
    ]


def main_in_child(arguments: Sequence[str]) -> int:
    """The command, its stored steps in a process of its own."""
    options = parser().parse_args(arguments)
    return in_child("compare", "diag.compare", arguments, limits_of(options, options.seconds))


if __name__ == "__main__":
    sys.exit(main_in_child(sys.argv[1:]))
