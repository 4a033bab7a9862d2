"""A bar that shows how far a command is, on a terminal; elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from diag.common.terminal import ReportConsole

if TYPE_CHECKING:
    from typing_extensions import Self


SECONDS_BETWEEN_LINES = 10.0  # where stderr is a file, a line is kept for ever


class Bar:
    """A bar on a terminal; elsewhere a plain line now and then; nothing if quiet.  stdout stays untouched."""

    def __init__(
        self,
        total: int,
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or ReportConsole(stderr=True)
        self._clock = clock
        self._spoke_at = clock()
        self._prints_lines = not quiet and not self._console.is_terminal
        self._bar: Progress | None = None
        if not quiet and self._console.is_terminal:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True, redirect_stdout=False)
            self._task = self._bar.add_task("starting", total=total)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, completed: int, text: str) -> None:
        if self._bar:
            self._bar.update(self._task, completed=completed, description=text)
        elif self._prints_lines and self._clock() - self._spoke_at >= SECONDS_BETWEEN_LINES:
            self._spoke_at = self._clock()
            self._console.print(text, soft_wrap=True)
