"""What a run is asked to do, and who keeps what it saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from diag.machine.places import Place
from diag.engine.lanes.step_results import StepRun
from diag.engine.lockstep.telescope import Telescope
from diag.engine.runs.updates import AdamSettings
from diag.verdict.findings import Observation


@dataclass(frozen=True)
class Settings:
    """What a run is asked to do.  `units` is step, layer or op; `follow` reference, candidate or free."""

    reference: Place
    candidate: Place
    steps: int
    seed: int
    follow: str = "reference"
    units: str = "layer"
    check_every: int | None = None
    first_step: int = 0
    twins: int = 0
    adam: AdamSettings | None = None

    @property
    def numbers(self) -> range:
        """The numbers of the steps."""
        return range(self.first_step, self.first_step + self.steps)

    @property
    def checks(self) -> int:
        """Every how many steps the layer units run; each step of a short run, every 50th of a long one."""
        return self.check_every or (1 if self.steps <= 100 else 50)


class Recorder(Protocol):
    """Who keeps what the run saw; the trace is one."""

    def step(self, run: StepRun, telescope: Telescope, flagged: bool, observations: Sequence[Observation]) -> None: ...

    def observations(self, found: Sequence[Observation]) -> None: ...
