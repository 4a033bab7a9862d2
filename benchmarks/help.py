"""How long `python -m diag.lockstep --help` takes: a person waits for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.timing import Row, TimedTask, interleaved

NAME = "help"
TARGET = 0.5


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def measure(rounds: int) -> Iterator[Row]:
    found = interleaved(
        rounds,
        {
            "help": TimedTask(lambda: _run("-m", "diag.lockstep", "--help")),
            "nothing": TimedTask(lambda: _run("-c", "pass")),
        },
    )
    help, nothing = found["help"], found["nothing"]
    detail = f"{nothing.shortest:.3g} s of it Python's own start, {help.rounds} rounds"
    yield Row(NAME, "python -m diag.lockstep --help", help.shortest, help.median, help.cpu, "s", TARGET, detail)
