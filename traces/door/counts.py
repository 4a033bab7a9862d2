"""The fourth check of a file: as many rows and documents are stored as it says are whole."""

from __future__ import annotations

import math
from collections.abc import Mapping

import h5py

from traces.door.plain import Stored
from traces.hdf5.chunks import Unsound
from traces.schema import TraceLayout


def refuse_uncounted(file: h5py.File, found: Mapping[str, Stored], layout: TraceLayout) -> None:
    """That every column has the rows that its table claims, and something is stored of each piece of them.

    Of a file that a run may still write only that no count is negative: what is stored grows while it is looked at,
    and is held against the count when it is read.

    Raises:
      Unsound: there are fewer.
    """
    is_growing = file.driver != "sec2"
    for name, table in layout.tables.items():
        marks = ("extent", "checksum") if table.tensors else ()
        count = _count(file, name)
        for column in () if is_growing else (*(column.name for column in table.columns), *marks):
            _refuse_fewer(file, found, f"{name}/{column}", count)
    for name in ("programs", "reports"):
        count = _count(file, name)
        if not is_growing:
            _refuse_fewer(file, found, f"{name}/stop", count)


def _count(file: h5py.File, name: str) -> int:
    count = int(file[f"{name}/complete"][()])
    if count < 0:
        raise Unsound(f"{name}/complete is {count:,}")
    return count


def _refuse_fewer(file: h5py.File, found: Mapping[str, Stored], path: str, count: int) -> None:
    stored = found[path]
    assert stored.chunks is not None  # it is known to grow
    if stored.shape[0] < count:
        raise Unsound(f"{path} has {stored.shape[0]:,} rows, and {count:,} are claimed")
    axes = zip((count, *stored.shape[1:]), stored.chunks, strict=True)
    num_pieces = math.prod(-(-length // chunk) for length, chunk in axes)
    num_stored = file[path].id.get_num_chunks() if num_pieces else 0
    if num_stored < num_pieces:
        raise Unsound(f"{path} stores {num_stored:,} pieces, of {num_pieces:,} that it claims")
