"""What one run of a study is asked to do, as JSON values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from diag.machine.places import Place, parse_place

METRICS = ("loss", "accuracy", "validation_loss", "validation_accuracy")
"""Of an epoch; `seconds` is kept beside them."""


@dataclass(frozen=True)
class Trainable:
    """Model and data of a study, alike for all of its runs.

    model: a preset's name, or as `--model` takes it.  data, validation: as `--data` takes them; None: generated
    images, and a share `validation_split` of the data.  image_size, num_samples: of the generated images.
    """

    model: str
    data: str | None
    validation: str | None
    validation_split: float
    image_size: int
    num_samples: int
    batch_size: int
    is_trusted: bool


@dataclass(frozen=True)
class RunRequest:
    """One training: where, in which policy, from which seed.

    place: as it is written, without a policy.  twin: 0, or the number of the run whose first weights are moved by one
    rounding.  folder: what it keeps of itself.  state_bytes: what the states of its earlier epochs may take there.
    """

    trainable: Trainable
    place: str
    policy: str
    seed: int
    twin: int
    epochs: int
    folder: str
    state_bytes: int
    tf32: bool | None
    deterministic: bool

    @classmethod
    def of(cls, arguments: dict[str, Any]) -> RunRequest:
        return cls(**{**arguments, "trainable": Trainable(**arguments["trainable"])})

    @property
    def arguments(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @property
    def path(self) -> Path:
        return Path(self.folder)


def place_in(text: str, policy: str) -> Place:
    """A place as it is written, in a policy."""
    return replace(parse_place(text), policy=policy)
