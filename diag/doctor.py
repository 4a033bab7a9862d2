"""Say what this machine computes with, and which of it is known to go wrong.

Devices, versions, the switches in force, and the combinations of them that are reported to be broken, wrong or
imprecise, each with what to do and where it is reported. Nothing is fetched from the network, and nothing is
changed. Exit code 0: nothing known to be bad, 1: something is, 2: the question could not be asked, 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from diag.common.command import OneLineParser
from diag.common.jsonable import to_text
from diag.errors import UserError

BAD, BUG = 1, 3


def parser() -> argparse.ArgumentParser:
    made = OneLineParser(
        prog="python -m diag.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return run(options)
    except UserError as error:
        print(f"doctor: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("doctor: interrupted", file=sys.stderr)
        return UserError.exit_code
    except Exception:
        traceback.print_exc()
        return BUG


def run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from diag.machine.diagnosis import diagnose
    from diag.report import doctor as written

    found = diagnose()
    if options.json:
        print(to_text(written.report(found)))
    else:
        written.render(found, Console())
    return BAD if found.is_bad else 0


if __name__ == "__main__":
    sys.exit(main())
