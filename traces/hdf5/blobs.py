"""A group of the file to which whole documents are added: their bytes, one after the other."""

from __future__ import annotations

import h5py
import numpy as np

from traces.checksums import bytes_checksum

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

    def __init__(self, group: h5py.Group) -> None:
        self._bytes, self._stop, self._complete = (group[name] for name in ("bytes", "stop", "complete"))

    def __len__(self) -> int:
        self._complete.refresh()
        return int(self._complete[()])

    def __getitem__(self, number: int) -> bytes:
        """One document, from the last where `number` is negative."""
        number = range(len(self))[number]
        if self._stop.shape[0] <= number:
            self._stop.refresh()
        start, stop = int(self._stop[number - 1]) if number else 0, int(self._stop[number])
        if self._bytes.shape[0] < stop:
            self._bytes.refresh()
        return bytes(np.asarray(self._bytes[start:stop]))
