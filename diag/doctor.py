"""Say what this machine computes with, and which of it is known to go wrong.

Devices, versions, the switches in force, and the combinations of them that are reported to be broken, wrong or
imprecise, each with what to do and where it is reported. Nothing is fetched from the network, and nothing is
changed. Exit code 0: nothing known to be bad, 1: something is, 2: the question could not be asked, 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from diag.common.command import OneLineParser, command_parser, run_command
from diag.common.jsonable import to_text

BAD = 1


def parser() -> OneLineParser:
    parser = command_parser("diag.doctor", __doc__)
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("doctor", parser(), run, arguments)


def run(options: argparse.Namespace) -> int:
    from diag.common.terminal import ReportConsole
    from diag.machine.diagnosis import diagnose
    from diag.report import doctor as reporting

    diagnosis = diagnose()
    if options.json:
        print(to_text(reporting.report(diagnosis)))
    else:
        reporting.render(diagnosis, ReportConsole())
    return BAD if diagnosis.is_bad else 0


if __name__ == "__main__":
    sys.exit(main())
