"""What all commands share: their parser, exit codes, and how errors and interrupts end them."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from diag.common.text import LONGEST, as_text
from diag.common.wording import one_line
from diag.errors import UserError

BUG, INTERRUPTED, BROKEN_PIPE = 3, 130, 141


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, with exit code 2: what was given and what was expected."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(UserError.exit_code, f"{self.prog}: {message}; see --help\n")


def command_parser(prog: str, description: str | None) -> OneLineParser:
    """The parser of a command, whose `--help` shows the docstring of its file with its own line breaks."""
    return OneLineParser(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def run_command(
    name: str,
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None = None,
    interrupted: str = "interrupted",
    ends_with_reader: bool = False,
) -> int:
    """Run a command and return its exit code; None as `arguments` stands for those of this process.

    A UserError is one line on stderr; any other exception is a bug, with its traceback and exit code 3.

    interrupted: the line for a KeyboardInterrupt, after the command's name.
    ends_with_reader: end without a word once the reader of a pipe, such as head, has gone.
    """
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except KeyboardInterrupt:
        print(f"{name}: {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if ends_with_reader and isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        return told(name, error)


def told(name: str, error: Exception) -> int:
    """Say on stderr what ended a command: a UserError in one line, a bug of ours with its traceback; the exit code."""
    if isinstance(error, UserError):
        print(f"{name}: {as_text(one_line(error), longest=LONGEST)}", file=sys.stderr)
        return error.exit_code
    traceback.print_exception(error)
    return BUG


def add_trust_flag(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run the stored training step whatever ops it has, files and Python functions included "
        "(default: only ops that compute and do nothing else, docs/SECURITY.md)",
    )


def is_on(choice: str | None) -> bool | None:
    """What a flag with the choices on and off asks for; None where it was not given."""
    return None if choice is None else choice == "on"


def positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, received {text!r}")
    return value


def not_negative(text: str) -> int:
    if text == "0":
        return 0
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, received {text!r}") from error
