"""Look into a trace: what it holds, one tensor, what differs, files for other programs, is it sound; and make it small.

The trace may be one that a run still writes, or one whose run was killed: every whole step is there.
TensorFlow is not needed.  Exit code 0: done, and for diff the same bits; 1: diff found a difference, or
verify something wrong; 2: the question could not be asked; 3: a bug of ours.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from diag.common.command import OneLineParser, command_parser, run_command
from traces.commands.diff import DiffCommand
from traces.commands.export import ExportCommand
from traces.commands.flags import Command
from traces.commands.ls import LsCommand
from traces.commands.pack import PackCommand
from traces.commands.show import ShowCommand
from traces.commands.verify import VerifyCommand

COMMANDS: dict[str, Command] = {
    "ls": LsCommand(),
    "show": ShowCommand(),
    "diff": DiffCommand(),
    "export": ExportCommand(),
    "verify": VerifyCommand(),
    "pack": PackCommand(),
}


def parser() -> OneLineParser:
    parser = command_parser(__package__, __doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.__doc__, description=command.__doc__)
        command.prepare_parser(subparser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("traces", parser(), lambda options: COMMANDS[options.command].run(options), arguments)


if __name__ == "__main__":
    sys.exit(main())
