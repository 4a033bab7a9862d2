"""Inputs, targets and weights of one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Batch:
    """One batch: arrays with the sample first, or nested dicts, lists or tuples of them.

    num_parts: how many of the parts the data are a tuple of, 0 where they are the inputs alone and no tuple; None: two,
    or three with weights.
    """

    inputs: Any
    targets: Any = None
    sample_weight: Any = None
    num_parts: int | None = None

    @property
    def data(self) -> Any:
        """What Keras gives a `train_step`: `(inputs, targets)`, or as many parts as there are."""
        if self.num_parts == 0:
            return self.inputs
        return self.parts[: self.num_parts or (2 if self.sample_weight is None else 3)]

    def as_dict(self) -> dict[str, np.ndarray]:
        """The arrays by flat name: `inputs`, or `inputs/left`, `inputs/0` where there are several."""
        names = ("inputs", "targets", "sample_weight")
        parts = zip(names, self.parts, strict=True)
        return {path: array for name, part in parts for path, array in leaves(part, name)}

    @property
    def parts(self) -> tuple[Any, Any, Any]:
        return self.inputs, self.targets, self.sample_weight

    @property
    def num_samples(self) -> int:
        return len(next(iter(self.as_dict().values())))


def leaves(structure: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The arrays of a nested dict, list or tuple, each with its path: `inputs/0`, `inputs/image`."""
    if isinstance(structure, dict):
        for key, value in structure.items():
            yield from leaves(value, f"{name}/{key}")
    elif isinstance(structure, (list, tuple)):
        for index, value in enumerate(structure):
            yield from leaves(value, f"{name}/{index}")
    elif structure is not None:
        yield name, structure


def map_leaves(function: Callable[[Any], Any], structure: Any) -> Any:
    """The same structure with `function` applied to every array; None stays None."""
    if isinstance(structure, dict):
        return {key: map_leaves(function, value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)([map_leaves(function, value) for value in structure])
    return None if structure is None else function(structure)
