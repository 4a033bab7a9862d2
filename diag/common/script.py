"""Running a person's script as Python itself would: as `__main__`, with its own arguments and import path."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from diag.errors import UserError


class Ended(BaseException):
    """Raised inside a script so that nothing more of it happens; no `except Exception` of its catches it."""


@dataclass(frozen=True)
class Script:
    """SCRIPT.py or, where `is_module`, package.module, with its arguments."""

    name: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """As they stand on the command line."""
        return (*(("-m",) if self.is_module else ()), self.name, *self.arguments)

    def check(self) -> None:
        """Raises UserError where there is no such script."""
        if self.is_module or Path(self.name).is_file():
            return
        hint = "a module is named with -m" if not self.name.endswith(".py") else f"the folder here is {Path.cwd()}"
        raise UserError(f"{self.name}: there is no such file; expected a Python script ({hint})")

    def run(self) -> None:
        """Run it to its end, or to what it raises."""
        folder = os.getcwd() if self.is_module else str(Path(self.name).resolve().parent)
        with _as_started(folder, [self.name, *self.arguments]):
            if self.is_module:
                runpy.run_module(self.name, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(self.name, run_name="__main__")


@contextmanager
def _as_started(folder: str, argv: Sequence[str]) -> Iterator[None]:
    """The command line, and the first place of the import path, as if Python had been started on the script."""
    was_argv, was_path = sys.argv, sys.path[:]
    sys.argv = list(argv)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.argv, sys.path[:] = was_argv, was_path
