"""The rows of one trace, up to a number, into another of the same layout: chunk by chunk, as they lie on file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import h5py
import numpy as np

from traces.hdf5.creation import APPENDED, APPENDED_STOP
from traces.hdf5.skeleton import BLOBS
from traces.schema import TraceLayout, tensor_path


@dataclass(frozen=True)
class EarlierRows:
    """So many rows of each table, and documents of each kind, of an open trace that has at least those."""

    file: h5py.File
    num_rows: Mapping[str, int]


def copy_rows(earlier: EarlierRows, new: h5py.File, layout: TraceLayout) -> None:
    """Fill the empty trace `new`, of the same layout."""
    old, num_rows = earlier.file, earlier.num_rows
    for name, table in layout.tables.items():
        paths = [column.name for column in table.columns]
        if table.tensors:
            paths += ["extent", "checksum", *(tensor_path(spec, layout.lanes) for spec in table.tensors)]
        for path in paths:
            _copy(old[name][path], new[name][path], num_rows[name])
        num_appends = int(np.searchsorted(old[name][APPENDED_STOP][()], num_rows[name], side="right"))
        for path in APPENDED:
            _copy(old[name][path], new[name][path], num_appends)
        new[name]["complete"][()] = num_rows[name]
    for name in BLOBS:
        count = num_rows[name]
        for path in ("stop", "checksum"):
            _copy(old[name][path], new[name][path], count)
        _copy(old[name]["bytes"], new[name]["bytes"], int(old[name]["stop"][count - 1]) if count else 0)
        new[name]["complete"][()] = count


def _copy(old: h5py.Dataset, new: h5py.Dataset, num_rows: int) -> None:
    """The first rows, or as many as there are.  A chunk that goes beyond them is copied by its values."""
    num_rows = min(num_rows, old.shape[0])
    new.resize(num_rows, axis=0)
    stored: list[tuple[int, ...]] = []
    old.id.chunk_iter(lambda chunk: stored.append(tuple(chunk.chunk_offset)))
    for offset in stored:
        if offset[0] + old.chunks[0] <= num_rows:
            filters, content = old.id.read_direct_chunk(offset)
            new.id.write_direct_chunk(offset, content, filters)
        elif offset[0] < num_rows:
            ends = [min(o + n, stop) for o, n, stop in zip(offset, old.chunks, (num_rows, *old.shape[1:]), strict=True)]
            part = tuple(map(slice, offset, ends))
            new[part] = old[part]
