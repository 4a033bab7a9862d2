"""Look into a trace: what it holds, one tensor, what differs, files for other programs, and whether it is sound.

The trace may be one that a run still writes, or one whose run was killed: every whole step is there.
TensorFlow is not needed.  Exit code 0: done, and for diff the same bits; 1: diff found a difference, or
verify something wrong; 2: the question could not be asked; 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from diag.common.command import OneLineParser
from diag.errors import UserError
from traces.commands.diff import DiffCommand
from traces.commands.export import ExportCommand
from traces.commands.flags import Command
from traces.commands.ls import LsCommand
from traces.commands.show import ShowCommand
from traces.commands.verify import VerifyCommand

COMMANDS: dict[str, Command] = {
    "ls": LsCommand(),
    "show": ShowCommand(),
    "diff": DiffCommand(),
    "export": ExportCommand(),
    "verify": VerifyCommand(),
}
BUG, BROKEN_PIPE = 3, 141


def parser() -> argparse.ArgumentParser:
    made = OneLineParser(
        prog="python -m traces", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.__doc__, description=command.__doc__)
        command.prepare_parser(subparser)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return COMMANDS[options.command].run(options)
    except UserError as error:
        print(f"traces: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("traces: interrupted", file=sys.stderr)
        return UserError.exit_code
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception:
        traceback.print_exc()
        return BUG


if __name__ == "__main__":
    sys.exit(main())
