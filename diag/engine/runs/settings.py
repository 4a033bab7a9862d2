"""What a run is asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diag.common.modes import TRAIN
from diag.engine.runs.updates import AdamSettings
from diag.engine.step.program import Program
from diag.machine.places import Place


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
    mode: str = TRAIN

    @property
    def numbers(self) -> range:
        """The numbers of the steps."""
        return range(self.first_step, self.first_step + self.steps)

    @property
    def checks(self) -> int:
        """Every how many steps the layer units run; each step of a short run, every 50th of a long one."""
        return self.check_every or (1 if self.steps <= 100 else 50)


@dataclass(frozen=True)
class RunPlan:
    """What is known of a run before its first step, for whoever keeps it.

    environments: of each lane, by its name.  first_batch: its arrays.  num_unit_outputs: tensors that a check of all
    units judges.
    """

    program: Program
    settings: Settings
    environments: Mapping[str, Mapping[str, Any]]
    first_batch: Sequence[np.ndarray]
    num_unit_outputs: int
