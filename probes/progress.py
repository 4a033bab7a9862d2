"""Progress on stderr while probes run: how many of them, and which one."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from probes.plan import Probe

SECONDS_BETWEEN_LINES = 10.0  # where stderr is a file, a line is kept for ever


class ProbeProgress:
    """A bar on a terminal; elsewhere a plain line now and then; nothing if quiet."""

    def __init__(self, num_probes: int, quiet: bool = False, console: Console | None = None) -> None:
        self.num_probes = num_probes
        self._console = console or Console(stderr=True)
        self._begun = 0
        self._spoke_at = time.monotonic()
        self._prints_lines = not quiet and not self._console.is_terminal
        self._bar: Progress | None = None
        if not quiet and self._console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), MofNCompleteColumn(),
                TimeElapsedColumn(),
            )  # fmt: skip
            self._bar = Progress(*columns, console=self._console, transient=True, redirect_stdout=False)
            self._task = self._bar.add_task("starting", total=num_probes)

    def __enter__(self) -> ProbeProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def begins(self, probe: Probe) -> None:
        self._begun += 1
        text = " ".join(part for part in (probe.family, probe.op, probe.dtype, probe.case) if part)
        if self._bar:
            self._bar.update(self._task, completed=self._begun - 1, description=text)
        elif self._prints_lines and time.monotonic() - self._spoke_at >= SECONDS_BETWEEN_LINES:
            self._spoke_at = time.monotonic()
            line = f"probe {self._begun}/{self.num_probes}  {text}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
