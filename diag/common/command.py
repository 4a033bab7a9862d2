"""What all commands share: their parser, exit codes, and how errors and interrupts end them."""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import diag
from diag.common.stopping import Stopping
from diag.common.streams import drop_stdout, prepare_streams, say
from diag.common.text import LONGEST, as_text
from diag.common.wording import did_you_mean, one_line, shortened
from diag.errors import UserError

BUG, BROKEN_PIPE = 3, 141
_INVALID_CHOICE = re.compile(r"invalid choice: '(?P<given>[^']*)' \(choose from (?P<known>.*)\)")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, with exit code 2: what was given and what was expected.

    Flags are written out: what an abbreviation stands for would change with each flag that is added.  Where there is
    `--help` there is `--version`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})
        self._given: Sequence[str] = ()
        if self.add_help:
            version = f"{diag.NAME} {diag.__version__}"
            self.add_argument("--version", action="version", version=version, help="show the version and exit")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Nothing may be unknown: a subcommand's parser refuses by itself what no flag of it is, and knows its like."""
        self._given = sys.argv[1:] if args is None else args
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._given = unknown
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def _print_message(self, message: str, file: IO[str] | None = None) -> None:  # type: ignore[override]
        """A help or a version that nobody could read was no success, as it is to argparse."""
        try:
            print(message, end="", file=file or sys.stderr, flush=True)
        except OSError as error:
            if file in (None, sys.stderr):
                return
            status, reason = _unwritten(error)
            self.exit(status, f"{self.prog}: {reason}\n" if reason else None)

    def error(self, message: str) -> None:  # type: ignore[override]
        line = as_text(one_line(message), longest=LONGEST)
        self.exit(UserError.exit_code, f"{self.prog}: {line}{self.meant(message)}; see --help\n")

    def meant(self, message: str) -> str:
        """`; did you mean --steps?` where what argparse says comes of a flag, or a choice, that there is not."""
        if choice := _INVALID_CHOICE.search(message):
            return did_you_mean(choice["given"], re.findall(r"[^\s',]+", choice["known"]))
        if not message.startswith(("unrecognized arguments", "the following arguments are required")):
            return ""
        words = [word.partition("=")[0] for word in self._given if word.startswith("--")]
        unknown = [word for word in words if word not in self._option_string_actions]
        return did_you_mean(unknown[0], self._option_string_actions) if unknown else ""


def command_parser(module: str, description: str | None) -> OneLineParser:
    """The parser of the command that `python -m` finds under the name `module`.

    It calls itself as it was started, `python -m diag.replay` or `tf-lockstep replay`; its `--help` shows the docstring
    of its file with its own line breaks.
    """
    is_script = os.path.basename(sys.argv[0]) == diag.NAME
    prog = f"{diag.NAME} {module.rpartition('.')[2]}" if is_script else f"python -m {module}"
    return OneLineParser(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def run_command(
    name: str,
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None = None,
    left: str = "",
) -> int:
    """Run a command and return its exit code; None as `arguments` stands for those of this process.

    Its own code, mostly 0 or 1, else one line on stderr and: 2 for a UserError, no room to write to, or too little
    memory; 130 after Ctrl-C and 143 after SIGTERM.  141 without a word where the reader of a pipe, such as head, has
    gone.  Any other exception is a bug, with its traceback and 3.

    left: what the command leaves behind when it is stopped, for the line that says so.
    """
    prepare_streams()
    stopping = Stopping(name, left)
    code, line = 0, ""
    try:
        with stopping:
            code, line = _ended(lambda: run(parser.parse_args(arguments)), stopping)
    except KeyboardInterrupt:
        stopping.number = stopping.number or signal.SIGINT
    if stopping.number is not None:  # whatever became of it on its way
        code, line = stopping.code, stopping.line
    if line:
        say(line)
    return code


def outcome(name: str, call: Callable[[], int]) -> int:
    """The exit code of a call inside a command, after the line on stderr that says why it has no result."""
    code, line = _ended(call, Stopping(name))
    if line:
        say(line)
    return code


def _ended(call: Callable[[], int], stopping: Stopping) -> tuple[int, str]:
    """The exit code of a call, and the line that says why it has no result."""
    name = stopping.name
    try:
        return _flushed(call), ""
    except UserError as error:
        return error.exit_code, f"{name}: {as_text(one_line(error), longest=LONGEST)}"
    except MemoryError as error:
        reason = as_text(one_line(error) or "more than there is", longest=LONGEST)
        return UserError.exit_code, f"{name}: out of memory: {reason}; ask for less, such as a smaller --batch-size"
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (*_NO_ROOM, errno.EPIPE):
            code, reason = _unwritten(error)
            return code, reason and f"{name}: {reason}"
        if stopping.number is None:
            traceback.print_exc()
        return BUG, ""


def _unwritten(error: OSError) -> tuple[int, str]:
    """The exit code, and what to say, where something could not be written; standard output, if no file is named."""
    drop_stdout()
    if error.errno == errno.EPIPE:
        return BROKEN_PIPE, ""
    what = as_text(error.filename or "what it prints")
    return UserError.exit_code, f"cannot write {what}: {error.strerror}; free some room, or choose another place"


def _flushed(call: Callable[[], int]) -> int:
    """What is printed has to get out before the exit code says that it did."""
    try:
        return call()
    finally:
        sys.stdout.flush()


def add_trust_flag(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run what a file brings of its own: a stored training step whatever ops it has, a model's Python code; "
        "data may inflate and link elsewhere (default: only what computes and does nothing else, docs/SECURITY.md)",
    )


def add_verbose_flag(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--verbose", action="store_true", help="print all of the report, not its first 25 lines or so")


def is_on(choice: str | None) -> bool | None:
    """What a flag with the choices on and off asks for; None where it was not given."""
    return None if choice is None else choice == "on"


def whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """What a flag takes: a whole number of this size; the most by default is what an index of TensorFlow's can be."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            size = f"at most {most:,}" if value > most else f"at least {least}"
            raise argparse.ArgumentTypeError(f"expected a whole number of {size}, received {shortened(text, 60)!r}")
        return value

    return number


positive, not_negative = whole(1), whole(0)
seed = whole(0, 2**32 - 1)
"""What NumPy's and Keras's generators take."""


def nameable(text: str) -> str:
    """The name of a file, there or not; raises ArgumentTypeError for one that no file can have."""
    try:
        os.lstat(text or "/")
        reason = "" if text else "it is empty"
    except (ValueError, UnicodeError) as error:
        reason = str(error)
    except OSError as error:
        reason = str(error.strerror) if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else ""
    if reason:
        raise argparse.ArgumentTypeError(f"no file can be called {shortened(text, 60)!r}: {reason}")
    return text


def file_path(text: str) -> Path:
    return Path(nameable(text))
