"""A command in a process of its own, which must say that it is done: what a stored step does to it ends there.

    python -m diag.common.child PIPE MODULE ARGUMENTS    # what the child is; nobody types it

The process that was started waits, and loads no TensorFlow.  It ends the child past a limit of time or memory, and
some seconds after Ctrl-C or SIGTERM, whatever the child computes; the child ends by itself when it is gone.  A child
that dies, or ends well without its word, is an error: something in the step ended it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diag
from diag.common.command import positive
from diag.common.lifeline import end_with_starter
from diag.common.memory import family_of, resident_bytes, total_bytes
from diag.common.stopping import CHILD, GRACE, Stopping, ignore
from diag.common.streams import prepare_streams, say
from diag.errors import UserError

WORD = "done"
LONGER = 2.0
"""Seconds more than a child has to end by itself, until it is ended."""
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


def in_child(name: str, module: str, arguments: Sequence[str], limits: ChildLimits) -> int:
    """Run a command's `main` in a child; its exit code, or that of a line on stderr that says why it has none."""
    prepare_streams()
    reading, writing = os.pipe()
    command = [sys.executable, "-m", CHILD, str(writing), module, *arguments]
    with Stopping(name, raises=False) as stopping:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[writing], env=environment_of_children())
        os.close(writing)
        try:
            code, problem = _watched(child, reading, limits, stopping)
        finally:
            child.kill()
            child.__exit__(None, None, None)
            os.close(reading)
    if problem:
        say(f"{name}: {problem}")
    return code


def environment_of_children() -> dict[str, str]:
    """The environment, with our packages to be found, and nothing of the folder that a child is started in."""
    root = str(Path(diag.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _watched(child: subprocess.Popen[bytes], reading: int, limits: ChildLimits, stopping: Stopping) -> tuple[int, str]:
    """(exit code, what to say) of a child, once it is done, or has to be ended."""
    begun, ending = time.monotonic(), math.inf
    family, looked = [child.pid], begun
    while True:
        told = _told(reading)
        if told is not None:
            return _ended(child, told, stopping)
        now = time.monotonic()
        if stopping.number is not None and ending == math.inf:
            ending = now + GRACE + LONGER
            child.send_signal(stopping.number)  # a terminal sends Ctrl-C to both; the child takes the first
        if now > ending:
            return stopping.code, stopping.word
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


def _ended(child: subprocess.Popen[bytes], told: str, stopping: Stopping) -> tuple[int, str]:
    word, _, code = told.strip().partition(" ")
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(ENDING)
    if word == WORD and code.isdecimal():
        return int(code), ""
    if stopping.number is not None:
        return stopping.code, stopping.word
    how = how_ended(child.returncode)
    return UserError.exit_code, f"the stored step ended its process ({how}) before it was done: it has no result"


def how_ended(code: int | None) -> str:
    """The name of the signal that ended a process, or its exit code."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


# -- the child -------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    pipe, module, *given = arguments
    end_with_starter()
    try:
        code: Any = importlib.import_module(module).main(given)
    except SystemExit as error:
        code = error.code
    code = code if isinstance(code, int) else 0 if code is None else 1
    ignore()  # the starter may be sending one on
    with os.fdopen(int(pipe), "w") as file:
        print(WORD, code, file=file)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
