"""Opening a trace for inspection, and asking each thing of it once."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path

import h5py

from traces.encoding import Array
from traces.hdf5.blobs import BlobReader
from traces.hdf5.failures import explained_gaps
from traces.hdf5.skeleton import ROOT, document_checksum, root_checksum
from traces.hdf5.table import TableReader
from traces.reader import TraceReader
from traces.schema import TensorKey


class InspectedTrace(TraceReader):
    """A trace as it is when it is first asked; what a run adds meanwhile is not seen."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.kept = lru_cache(maxsize=None)(self.kept_in)
        """A step's tensors of which the value is stored."""
        self.checksums = lru_cache(maxsize=None)(self._checksums_in)
        """A step's checksums: of what was handed over, be it kept or not."""

    @cached_property
    def whole_steps(self) -> list[int]:
        """Numbers of the whole steps; one that was written again after a rewind counts once."""
        return list(dict.fromkeys(self.steps))

    @cached_property
    def snapshot_steps(self) -> list[int]:
        return list(dict.fromkeys(self.snapshots))

    @cached_property
    def batch_steps(self) -> frozenset[int]:
        return frozenset(self.steps_with_batches)

    def columns(self, table: str, names: Collection[str]) -> dict[str, Array]:
        """Some columns of a table; all 55 take five times as long."""
        return self._read(table, lambda reader: reader.columns(names))

    @cached_property
    def tables(self) -> dict[str, dict[str, Array]]:
        """The columns of the op and the unit table, "ops" and "units"."""
        return {"ops": self.op_table(), "units": self.unit_table()}

    @property
    def table_readers(self) -> dict[str, TableReader]:
        """All tables, row by row, for a look at everything that is on file."""
        return self._tables

    @property
    def blob_readers(self) -> dict[str, BlobReader]:
        """The programs and the reports."""
        return self._blobs

    def stored_bytes(self, table: str) -> int:
        """What the tensors of a table take on file."""
        sizes: list[int] = []
        self._open.file[f"{table}/tensors"].visititems(
            lambda _, member: sizes.append(member.id.get_storage_size()) if isinstance(member, h5py.Dataset) else None
        )
        return sum(sizes)

    def document_checksums(self) -> tuple[dict[str, str], Mapping[str, str]]:
        """Of each document, by name, and of the file's attributes: as it is, and as it was written (empty: unknown)."""
        opened = self._open
        actual = {name: document_checksum(text) for name, text in opened.texts.items()}
        return {**actual, ROOT: root_checksum(opened.attributes)}, opened.checksums

    def _checksums_in(self, step: int) -> dict[TensorKey, int]:
        row = self._row("steps", "step", step)
        return self._read("steps", lambda table: table.checksums(row))


@contextmanager
def opened(path: Path) -> Iterator[InspectedTrace]:
    """The trace, closed at the end.

    Raises:
      UserError: it cannot be read, or is no trace; also where a part read later is missing or no text. What h5py
        says of a missing part is a KeyError in words of its own; any other KeyError is a bug and passes.
    """
    trace = InspectedTrace(path)
    with trace:
        try:
            yield trace
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
            if isinstance(error, KeyError) and "Unable to" not in str(error):
                raise
            with explained_gaps(path):
                raise
