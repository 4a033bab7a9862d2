"""Inputs, targets and weights of one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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

    def mapped(self, function: Callable[[Any], Any]) -> Batch:
        """The same parts with `function` applied to every array."""
        inputs, targets, sample_weight = (map_leaves(function, part) for part in self.parts)
        return Batch(inputs, targets, sample_weight, self.num_parts)

    def without_targets(self) -> Batch:
        """The inputs alone, as `predict` is given them (keras.utils.pack_x_y_sample_weight)."""
        return Batch(self.inputs, num_parts=1 if isinstance(self.inputs, (tuple, list)) else 0)

    @property
    def num_samples(self) -> int:
        return len(next(iter(self.as_dict().values())))


def longest_of(batches: Iterable[Batch]) -> Batch:
    """A batch of zeros as long along each axis as the longest of some; the first of them where none is longer."""
    first, *others = batches
    arrays = [first.as_dict(), *(batch.as_dict() for batch in others)]
    shapes = {path: np.max([each[path].shape for each in arrays], axis=0) for path in arrays[0]}
    if all(array.shape == tuple(shapes[path]) for path, array in arrays[0].items()):
        return first
    zeros = iter([np.zeros(shapes[path], array.dtype) for path, array in arrays[0].items()])
    return first.mapped(lambda _: next(zeros))


def joined(batches: Sequence[Batch]) -> Batch:
    """The samples of some batches, one after the other, as one."""
    flat = [list(each.as_dict().values()) for each in batches]
    arrays = iter([np.concatenate(columns) for columns in zip(*flat, strict=True)])
    return batches[0].mapped(lambda _: next(arrays))


def texts_as_bytes(array: np.ndarray) -> np.ndarray:
    """Texts, of any of NumPy's dtypes for them, as UTF-8 of one width; other arrays as they are.

    Raises:
        TypeError, ValueError: objects that are neither texts nor bytes.
    """
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8")
    if array.dtype.kind == "O" and all(isinstance(each, (str, bytes)) for each in array.flat):
        encoded = [each.encode() if isinstance(each, str) else each for each in array.flat]
        return np.array(encoded, dtype=bytes).reshape(array.shape)
    return array


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
