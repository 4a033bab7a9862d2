"""The batches of a training run: batch k is the same whenever, and however often, it is asked for."""

from __future__ import annotations

import operator
import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from diag.common.wording import size_text
from diag.engine.step.batch import Batch, joined, longest_of
from diag.engine.training.data_checks import check_labels, naming
from diag.errors import UserError

# Batches of a stream that stay in memory: 1 GiB is the last 124 of the motivating CNN at batch 32.
_KEPT_BYTES = 1 << 30
_MOST_IN_MEMORY = 8 << 30  # bytes of an epoch, where all of it is asked for at once


@dataclass(frozen=True)
class DataDescription:
    """Where the data come from and what they are, for the report."""

    source: str
    num_samples: int | None  # None: a stream whose end has not been seen
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Batches(ABC):
    """`batches[k]` is the batch of step k, k = 0, 1, ...; epochs follow each other without end."""

    description: DataDescription

    @abstractmethod
    def __getitem__(self, step: int) -> Batch: ...

    def longest(self, steps: int) -> Batch:
        """A batch as long along each axis as the longest of the first steps."""
        return self[0]

    @abstractmethod
    def samples(self) -> Batch:
        """All samples of an epoch, in the order of the data; raises UserError where they would not fit in memory."""

    @abstractmethod
    def check_labels(self, num_classes: Sequence[int | None]) -> None:
        """Checks integer labels against the classes of each output, for a model first built on a batch.

        Args:
            num_classes: `Training.num_classes`. All labels in memory are checked now, a stream's as
                they come.

        Raises:
            UserError: a label out of range, with its index.
        """


@dataclass(frozen=True)
class Samples:
    """A whole data set in memory, or on disk behind arrays that read when indexed."""

    batch: Batch
    source: str
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class ArrayBatches(Batches):
    """Batches of a data set; each epoch a permutation of its own; the last batch may be smaller."""

    def __init__(self, samples: Samples, batch_size: int, seed: int) -> None:
        self._data = samples.batch
        self._num_samples = samples.batch.num_samples
        self._batch_size = batch_size
        self._seed = seed
        self._order = lru_cache(maxsize=2)(self._shuffled)
        notes = samples.notes
        if self._num_samples < batch_size:
            few = f"{self._num_samples} samples are fewer than a batch of {batch_size}"
            notes = (*notes, f"{few}: each batch holds them all")
        self.description = DataDescription(samples.source, self._num_samples, samples.class_names, notes)

    def __getitem__(self, step: int) -> Batch:
        indices = self.indices(step)
        return self._data.mapped(lambda array: array[indices])

    @property
    def steps_per_epoch(self) -> int:
        return -(-self._num_samples // self._batch_size)

    def longest(self, steps: int) -> Batch:
        """Of dense arrays the first; the ragged and sparse ones of a batch hold as much as its samples do."""
        return longest_of(self[step] for step in range(steps)) if self._data.is_composite else self[0]

    def samples(self) -> Batch:
        return self._data

    def first(self, most: int) -> Batch:
        """The first samples in the order of the data."""
        indices = np.arange(min(most, self._num_samples))
        return self._data.mapped(lambda array: array[indices])

    def indices(self, step: int) -> np.ndarray:
        """Which samples make up the batch of `step`."""
        epoch, index = divmod(operator.index(step), self.steps_per_epoch)
        return self._order(epoch)[index * self._batch_size : (index + 1) * self._batch_size]

    def check_labels(self, num_classes: Sequence[int | None]) -> None:
        with naming(self.description.source):
            check_labels(self._data.targets, num_classes)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(self._num_samples)


class StreamBatches(Batches):
    """Batches as a tf.data.Dataset or a keras.utils.PyDataset gives them, epoch after epoch.

    An earlier batch that is no longer kept is read again from the start of the data; it must then
    be the same, or the step could not be run again.
    """

    def __init__(
        self,
        epoch: Callable[[], Iterator[Batch]],
        source: str,
        check: Callable[[Batch], None],
        is_regular: bool = False,
    ) -> None:
        """is_regular: all batches are known to be of one shape, but for a smaller last one."""
        self._is_regular = is_regular
        self._epoch = epoch
        self._source = source
        self._check = check
        self._kept: OrderedDict[int, Batch] = OrderedDict()
        self._kept_bytes = 0
        self._checksums: list[int] = []
        self._num_classes: Sequence[int | None] = ()
        self._stream, self._next = self._endless(), 0
        self.description = DataDescription(source, None)
        self[0]  # what cannot be read is refused at once

    def __getitem__(self, step: int) -> Batch:
        step = operator.index(step)
        if step in self._kept:
            return self._kept[step]
        if step < self._next:
            self._stream, self._next = self._endless(), 0
        while self._next <= step:
            batch = next(self._stream)
            self._keep(self._next, batch)
            self._next += 1
        return batch

    def longest(self, steps: int) -> Batch:
        """Of a stream, of the first as far as they stay in memory, which are read for this."""
        return self[0] if self._is_regular else longest_of(self._first(steps))

    def samples(self) -> Batch:
        batches: list[Batch] = []
        size = 0
        for batch in self._epoch():
            self._check(batch)
            size += _num_bytes(batch)
            batches.append(batch)
            if size > _MOST_IN_MEMORY:
                raise UserError(
                    f"--data {self._source}: an epoch takes more than {size_text(_MOST_IN_MEMORY)} of memory; give a "
                    "smaller data set, or a folder of images"
                )
        return joined(batches)

    def _first(self, steps: int) -> Iterator[Batch]:
        for step in range(steps):
            yield self[step]
            if self._kept_bytes > _KEPT_BYTES // 2:
                return

    def check_labels(self, num_classes: Sequence[int | None]) -> None:
        self._num_classes = num_classes
        with naming(self._source):
            check_labels(self[0].targets, num_classes)

    def _endless(self) -> Iterator[Batch]:
        while True:
            empty = True
            for batch in self._epoch():
                empty = False
                yield batch
            if empty:
                raise UserError(f"--data {self._source} gives no batch; expected at least one")

    def _keep(self, step: int, batch: Batch) -> None:
        checksum = 0
        for array in batch.as_dict().values():
            checksum = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, checksum)
        if step == len(self._checksums):
            self._check(batch)
            with naming(self._source):
                check_labels(batch.targets, self._num_classes)
            self._checksums.append(checksum)
        elif checksum != self._checksums[step]:
            raise UserError(
                f"--data {self._source} gave another batch {step} when read again; make it repeat itself "
                "(no shuffle, or one with a seed and reshuffle_each_iteration=False)"
            )
        self._kept[step] = batch
        self._kept_bytes += _num_bytes(batch)
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= _num_bytes(self._kept.popitem(last=False)[1])


def _num_bytes(batch: Batch) -> int:
    return sum(array.nbytes for array in batch.as_dict().values())
