"""A lockstep run that begins where a run of a study stood after some of its epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diag.engine.step.batch import Batch
from diag.engine.training.batches import ArrayBatches
from diag.engine.training.setup import Trained, described, model_config
from diag.study.kept_epochs import epochs_in, read_epoch
from diag.study.run_request import RunRequest
from diag.study.trainables import ready


@dataclass(frozen=True)
class From:
    """The batches of a run from some step on."""

    batches: ArrayBatches
    first: int

    def __getitem__(self, step: int) -> Batch:
        return self.batches[self.first + step]


def starting_at(run: RunRequest, epoch: int) -> tuple[Trained, int]:
    """(what is trained, epochs before it): from the last state that was kept at or before `epoch`, else the start."""
    made = ready(run.trainable, run.policy, run.seed)
    after = max((each for each in epochs_in(run.path) if each <= epoch), default=0)
    if after:
        _, state = read_epoch(run.path, after)
        for variable, value in zip(made.program.keras_variables, state["variables"], strict=True):
            variable.value.assign(value)
    model: Any = made.model
    source = f"{made.training.description.source}: {made.training.description.num_samples} samples"
    batches = From(made.training, after * made.steps_per_epoch)
    about = described(model, type(model.optimizer).__name__)
    return Trained(model, made.programs, batches, model_config(model), about, source, ()), after
