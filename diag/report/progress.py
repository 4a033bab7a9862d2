"""Progress on stderr while a run goes on: which step, the losses, what is being done."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 10.0  # where stderr is a file, a line is kept for ever


class StepProgress:
    """A bar on a terminal; elsewhere a plain line now and then; nothing if quiet.

    with StepProgress(num_steps) as progress:
        progress.update(step, "watching", reference_loss, candidate_loss)
    """

    def __init__(
        self,
        num_steps: int,
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.num_steps = num_steps
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._spoke_at = clock()
        self._losses = ""
        self._furthest = 0
        self._prints_lines = not quiet and not self._console.is_terminal
        self._bar: Progress | None = None
        if not quiet and self._console.is_terminal:
            self._bar = _bar(self._console)
            self._task = self._bar.add_task("starting", total=num_steps)

    def __enter__(self) -> StepProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(
        self, step: int, doing: str, reference_loss: float | None = None, candidate_loss: float | None = None
    ) -> None:
        """Step `step`, counted from 0, is being watched, zoomed into, ...; the last losses stay shown."""
        if reference_loss is not None and candidate_loss is not None:
            self._losses = f"loss {reference_loss:.4g} / {candidate_loss:.4g}  "
        self._furthest = max(self._furthest, step)  # a zoom goes back in the run; the bar does not
        text = f"step {step}/{self.num_steps}  {self._losses}{doing}"
        if self._bar:
            self._bar.update(self._task, completed=self._furthest, description=text)
        elif self._prints_lines and self._clock() - self._spoke_at >= SECONDS_BETWEEN_LINES:
            self._spoke_at = self._clock()
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _bar(console: Console) -> Progress:
    """stdout stays untouched: it may be carrying report.json."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, redirect_stdout=False)
