"""Progress on stderr while a run goes on: which step, the losses, what is being done."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

from diag.common.progress import Bar
from diag.common.wording import duration


class StepProgress(Bar):
    """How far a run is: which step, the losses (`figure` is what they are), what is being done.

    with StepProgress(num_steps) as progress:
        progress.update(step, "watching", reference_loss, candidate_loss)
    """

    def __init__(
        self,
        num_steps: int,
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        figure: str = "loss",
    ) -> None:
        super().__init__(num_steps, quiet, console, clock)
        self.num_steps, self.figure = num_steps, figure
        self._losses = ""
        self._furthest = 0
        self._first: tuple[int, float] | None = None  # where it stood at the first word, and when

    def update(
        self, step: int, doing: str, reference_loss: float | None = None, candidate_loss: float | None = None
    ) -> None:
        """Step `step`, counted from 0, is being watched, zoomed into, ...; the last losses stay shown."""
        if reference_loss is not None and candidate_loss is not None:
            self._losses = f"{self.figure} {reference_loss:.4g} / {candidate_loss:.4g}  "
        self._furthest = max(self._furthest, step)  # a zoom goes back in the run; the bar does not
        self.show(self._furthest, f"step {step}/{self.num_steps}  {self._losses}{doing}{self._left()}")

    def _left(self) -> str:
        """The time that the rest takes if its steps are as those so far; "" until one is done."""
        now = self._clock()
        if self._first is None:
            self._first = (self._furthest, now)
        done = self._furthest - self._first[0]
        if done <= 0:
            return ""
        seconds = (now - self._first[1]) / done * (self.num_steps - self._furthest)
        return f", about {duration(seconds)} left" if seconds >= 1 else ""
