"""How large a trace will be: what is written in any case, counted as if nothing could be compressed."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from diag.errors import UserError
from traces.encoding import STORED_DTYPES
from traces.hdf5.creation import NUMBERS_PER_CHUNK, chunk_of_row
from traces.names import TEXT_BYTES
from traces.schema import Column, TableLayout, TensorSpec, stored_shape

DATASET_BYTES = 4096
"""A dataset's header and the index of its chunks: 2.9 KB each in 60 steps of a small CNN, whose 350 take 1.0 MB."""
DOCUMENT_BYTES = 1 << 20
"""The traced step, the report and the like: 0.2 MB of a small CNN, 0.5 MB of a transformer's block."""


@dataclass(frozen=True)
class Forecast:
    """Bytes on disk.  flagged: what each flagged step adds, and nobody knows how many there will be."""

    tensors: int
    states: int
    batches: int
    rows: int  # of statistics, checksums, and what HDF5 needs itself
    flagged: int

    @property
    def total(self) -> int:
        return self.tensors + self.states + self.batches + self.rows

    def __str__(self) -> str:
        parts = {"tensors": self.tensors, "states": self.states, "batches": self.batches, "statistics": self.rows}
        listed = ", ".join(f"{name} {size(number)}" for name, number in parts.items() if number > 0.01 * self.total)
        text = f"The trace will take at most {size(self.total)}, before compression ({listed})"
        return text + (f", and up to {size(self.flagged)} for each flagged step." if self.flagged else ".")

    def refuse_if_full(self, path: Path) -> None:
        """Raises UserError where the disk has not the room."""
        free = shutil.disk_usage(path.parent).free
        if self.total > free:
            raise UserError(
                f"The trace may take {size(self.total)} and {path.parent} has {size(free)} free; keep less (--dump "
                "flagged, none or LAYER-GLOBS, --dump-steps, a larger --snapshot-every), run fewer steps, or name "
                "another folder with --out"
            )


def bytes_of_file(tables: Iterable[TableLayout]) -> int:
    """Of what has no rows."""
    return DOCUMENT_BYTES + DATASET_BYTES * sum(len(table.columns) + len(table.tensors) for table in tables)


def bytes_of_table(columns: Iterable[Column], num_rows: int) -> int:
    """Of a table's columns, which grow by whole chunks."""
    chunks = -(-num_rows // NUMBERS_PER_CHUNK)
    a_row = sum(TEXT_BYTES if column.dtype == "text" else 8 * (column.width or 1) for column in columns)
    return chunks * NUMBERS_PER_CHUNK * a_row


def bytes_of_marks(table: TableLayout, num_rows: int) -> int:
    """Of the shapes and checksums that each row has of each tensor."""
    axes = max([1, *(len(spec.shape) for spec in table.tensors)])
    return num_rows * len(table.tensors) * (8 + 4 * axes)


def bytes_of(tensors: Iterable[TensorSpec]) -> int:
    """Of one value of each, in whole chunks."""
    return sum(map(_bytes_in_chunks, tensors))


def _bytes_in_chunks(spec: TensorSpec) -> int:
    stored = STORED_DTYPES[spec.dtype]
    shape = stored_shape(spec)
    chunk = chunk_of_row(shape, stored.itemsize)
    return math.prod(-(-length // piece) * piece for length, piece in zip(shape, chunk, strict=True)) * stored.itemsize


def size(number: float) -> str:
    """Bytes as a person reads them: 12 MiB, 1.4 GiB."""
    unit = min(3, max(0, int(math.log2(max(number, 1)) // 10)))
    value = number / 2 ** (10 * unit)
    return f"{value:.1f} {'GiB'}" if unit == 3 else f"{value:,.0f} {('bytes', 'KiB', 'MiB')[unit]}"
