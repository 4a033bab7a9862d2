"""A command in a process of its own, which must say that it is done: what a stored step does to it ends there.

    python -m diag.common.child PIPE MODULE ARGUMENTS    # what the child is; nobody types it

The process that was started waits, and loads no TensorFlow.  It ends the child past a limit of time or memory, and
some seconds after Ctrl-C, whatever the child computes; the child ends by itself when it is gone.  A child that dies,
or ends well without its word, is an error: something in the step ended it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diag
from diag.common.command import INTERRUPTED, positive
from diag.common.lifeline import end_with_starter
from diag.common.memory import family_of, resident_bytes, total_bytes
from diag.errors import UserError

MODULE = "diag.common.child"
WORD = "done"
TERMINATED = 143
GRACE = 5.0
"""Seconds from Ctrl-C until a child is ended that does not end by itself."""
ENDING = 30.0
"""Seconds from its word until a child is ended: what it computed is all said."""
LONGEST = 600  # seconds
PAUSE = 0.1
"""Seconds between two looks at a child's memory."""
BETWEEN_FAMILIES = 2.0
"""Seconds between two looks at what it has started."""


@dataclass(frozen=True)
class ChildLimits:
    """seconds: None for no limit.  num_bytes: resident, of the child and its own children together."""

    seconds: float | None
    num_bytes: float


def add_memory_flag(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--memory",
        type=positive,
        metavar="GIB",
        help="a stored step that takes more is ended (default: three quarters of this machine's)",
    )


def add_limit_flags(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--seconds",
        type=positive,
        default=LONGEST,
        metavar="N",
        help="what is not done by then is ended (default: %(default)s)",
    )
    add_memory_flag(parser)


def limits_of(options: argparse.Namespace, seconds: float | None) -> ChildLimits:
    return ChildLimits(seconds, 0.75 * total_bytes() if options.memory is None else options.memory * 2.0**30)


class _Terminated(BaseException):
    """SIGTERM came."""


def in_child(name: str, module: str, arguments: Sequence[str], limits: ChildLimits) -> int:
    """Run a command's `main` in a child; its exit code, or that of a line on stderr that says why it has none."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", MODULE, str(writing), module, *arguments]
    with _terminable():
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[writing], env=environment_of_children())
        os.close(writing)
        try:
            code, problem = _watched(child, reading, limits)
        except _Terminated:
            code, problem = TERMINATED, "ended from outside"
        finally:
            child.kill()
            child.__exit__(None, None, None)
            os.close(reading)
    if problem:
        print(f"{name}: {problem}", file=sys.stderr)
    return code


def environment_of_children() -> dict[str, str]:
    """The environment, with our packages to be found, and nothing of the folder that a child is started in."""
    root = str(Path(diag.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM as an exception, so that no child outlives it unseen."""

    def terminate(*_: object) -> None:
        raise _Terminated

    was = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, was)


def _watched(child: subprocess.Popen[bytes], reading: int, limits: ChildLimits) -> tuple[int, str]:
    """(exit code, what to say) of a child, once it is done, or has to be ended."""
    begun, ending = time.monotonic(), None
    family, looked = [child.pid], begun
    while True:
        try:
            told = _told(reading)
            if told is not None:
                return _ended(child, told, ending is not None)
            now = time.monotonic()
            if ending is not None and now > ending:
                return INTERRUPTED, "interrupted"
            if limits.seconds is not None and now - begun > limits.seconds:
                return UserError.exit_code, (
                    f"the stored step was not done within {limits.seconds:,.0f} s and was ended; --seconds N gives it "
                    "longer"
                )
            if now > looked + BETWEEN_FAMILIES:
                family, looked = family_of(child.pid), now
            if resident_bytes(family) > limits.num_bytes:
                return UserError.exit_code, (
                    f"the stored step took more than {limits.num_bytes / 2**30:,.1f} GiB of memory and was ended; "
                    "--memory N gives it more"
                )
        except KeyboardInterrupt:
            if ending is not None:
                return INTERRUPTED, "interrupted"
            ending = time.monotonic() + GRACE
            child.send_signal(signal.SIGINT)  # a terminal sends it to both; the child takes the first


def _told(reading: int) -> str | None:
    """What the child says at its end, empty where it only ended; None as long as it goes on."""
    if not select.select([reading], [], [], PAUSE)[0]:
        return None
    told = b""
    while part := os.read(reading, 1 << 10):
        told += part
        if told.endswith(b"\n"):
            break
    return told.decode(errors="replace")


def _ended(child: subprocess.Popen[bytes], told: str, is_interrupted: bool) -> tuple[int, str]:
    word, _, code = told.strip().partition(" ")
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(ENDING)
    if word == WORD and code.isdecimal():
        return int(code), ""
    if is_interrupted:
        return INTERRUPTED, "interrupted"
    how = _how(child.returncode)
    return UserError.exit_code, f"the stored step ended its process ({how}) before it was done: it has no result"


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


# -- the child -------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    pipe, module, *given = arguments
    end_with_starter()
    signal.signal(signal.SIGINT, _interrupt_once)
    try:
        code: Any = importlib.import_module(module).main(given)
    except SystemExit as error:
        code = error.code
    code = code if isinstance(code, int) else 0 if code is None else 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    with os.fdopen(int(pipe), "w") as file:
        print(WORD, code, file=file)
    return code


def _interrupt_once(*_: object) -> None:
    """Whoever started this sends Ctrl-C on, and the terminal has sent it already."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
