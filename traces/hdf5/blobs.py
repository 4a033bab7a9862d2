"""A group of the file to which whole documents are added: their bytes, one after the other."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from traces.checksums import bytes_checksum
from traces.hdf5.chunks import ChunkCheck, Unsound
from traces.hdf5.unfinished import is_read_as_unfinished

BYTES_PER_CHUNK = 1 << 16
DOCUMENTS_PER_CHUNK = 128


def create_blobs(group: h5py.Group) -> None:
    """Make what documents are added to: `bytes`, where each stops there, its checksum, and how many are whole."""
    group.create_dataset("bytes", shape=(0,), maxshape=(None,), dtype=np.uint8, chunks=(BYTES_PER_CHUNK,))
    group.create_dataset("stop", shape=(0,), maxshape=(None,), dtype="<i8", chunks=(DOCUMENTS_PER_CHUNK,))
    group.create_dataset("checksum", shape=(0,), maxshape=(None,), dtype="<u8", chunks=(DOCUMENTS_PER_CHUNK,))
    group.create_dataset("complete", data=np.int64(0))


class BlobWriter:
    """Adds documents to one group."""

    def __init__(self, group: h5py.Group) -> None:
        self._file = group.file
        self._bytes, self._stop, self._complete = (group[name] for name in ("bytes", "stop", "complete"))
        self._checksum = group["checksum"]

    @property
    def num_documents(self) -> int:
        return int(self._stop.shape[0])

    def append(self, document: bytes) -> None:
        """Write a document, and only then count it."""
        start, number = self._bytes.shape[0], self._stop.shape[0]
        self._bytes.resize(start + len(document), axis=0)
        self._bytes[start:] = np.frombuffer(document, np.uint8)
        self._stop.resize(number + 1, axis=0)
        self._stop[number] = start + len(document)
        self._checksum.resize(number + 1, axis=0)
        self._checksum[number] = bytes_checksum(document)
        self._file.flush()
        self._complete[()] = number + 1
        self._complete.flush()


class BlobReader:
    """Reads the whole documents of one group, also while it grows; each dataset through one handle."""

    def __init__(self, group: h5py.Group, path: Path) -> None:
        self._bytes, self._stop, self._complete = (group[name] for name in ("bytes", "stop", "complete"))
        self._checksum = group.get("checksum")
        datasets = {"bytes": self._bytes, "stop": self._stop, "checksum": self._checksum}
        self._datasets = {name: dataset for name, dataset in datasets.items() if dataset is not None}
        self._checks = {name: ChunkCheck(dataset, path) for name, dataset in self._datasets.items()}
        self._grows, self._num_seen = is_read_as_unfinished(group.file), 0

    def __len__(self) -> int:
        """How many are whole.

        Raises:
          Unsound: there are not so many.
        """
        self._complete.refresh()
        number = int(self._complete[()])
        if self._grows and number > self._num_seen:
            for dataset in self._datasets.values():  # one that was longer already may not have held what is counted now
                dataset.refresh()
            self._num_seen = number
        if not 0 <= number <= self._stop.shape[0]:
            raise Unsound(f"{self._stop.name} has {self._stop.shape[0]:,} documents of {number:,}")
        return number

    def __getitem__(self, number: int) -> bytes:
        """One document, from the last where `number` is negative.

        Raises:
          Unsound: it is not on file.
        """
        number = range(len(self))[number]
        self._checks["stop"].check([(max(0, number - 1), number + 1)])
        start, stop = int(self._stop[number - 1]) if number else 0, int(self._stop[number])
        if not 0 <= start <= stop <= self._bytes.shape[0]:
            raise Unsound(f"{self._bytes.name} has {len(self._bytes):,} bytes; a document has {start:,} to {stop:,}")
        if stop > start:
            self._checks["bytes"].check([(start, stop)])
        return bytes(np.asarray(self._bytes[start:stop]))

    def checksum(self, number: int) -> int | None:
        """The `bytes_checksum` that a document was written with; None in a trace that has none."""
        if self._checksum is None:
            return None
        if self._checksum.shape[0] <= number:
            raise Unsound(f"{self._checksum.name} has {self._checksum.shape[0]:,} rows, and there are more documents")
        self._checks["checksum"].check([(number, number + 1)])
        return int(self._checksum[number])
