"""Inputs, targets and weights of one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diag.engine.step.arrays import CompositeArray, concatenated


@dataclass(frozen=True)
class Batch:
    """One batch: arrays with the sample first, dense or `CompositeArray`, or nested dicts, lists or tuples of them.

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
        """The dense arrays by flat name: `inputs`, or `inputs/left`, `inputs/0`, `inputs/row_splits` of several."""
        names = ("inputs", "targets", "sample_weight")
        parts = zip(names, self.parts, strict=True)
        found = (leaf for name, part in parts for leaf in leaves(part, name))
        return {path: array for name, leaf in found for path, array in dense_leaves(leaf, name)}

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
        return len(self.arrays[0])

    @property
    def is_composite(self) -> bool:
        return any(isinstance(array, CompositeArray) for array in self.arrays)

    @property
    def arrays(self) -> list[Any]:
        """All of them, without their names."""
        return [array for part in self.parts for _, array in leaves(part, "")]


def longest_of(batches: Iterable[Batch]) -> Batch:
    """A batch of zeros as long along each axis as the longest of some; the first of them where none is longer."""
    first, *others = batches
    arrays = [first.as_dict(), *(batch.as_dict() for batch in others)]
    shapes = {path: np.max([each[path].shape for each in arrays], axis=0) for path in arrays[0]}
    if all(array.shape == tuple(shapes[path]) for path, array in arrays[0].items()):
        return first
    zeros = iter([np.zeros(shapes[path], array.dtype) for path, array in arrays[0].items()])
    return first.mapped(lambda leaf: _filled(leaf, zeros))


def joined(batches: Sequence[Batch]) -> Batch:
    """The samples of some batches, one after the other, as one."""
    arrays = iter([_concatenated(columns) for columns in zip(*(each.arrays for each in batches), strict=True)])
    return batches[0].mapped(lambda _: next(arrays))


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


def dense_leaves(leaf: Any, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """An array itself, or what a `CompositeArray` is held in."""
    if isinstance(leaf, CompositeArray):
        yield from leaves(leaf.components, name)
    else:
        yield name, leaf


def _filled(leaf: Any, arrays: Iterator[np.ndarray]) -> Any:
    """The next of some dense arrays in the place of a leaf's."""
    if isinstance(leaf, CompositeArray):
        return leaf.with_components({name: next(arrays) for name in leaf.components})
    return next(arrays)


def _concatenated(columns: Sequence[Any]) -> Any:
    return concatenated(columns) if isinstance(columns[0], CompositeArray) else np.concatenate(columns)
