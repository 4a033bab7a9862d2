"""Writing a trace: declared whole, then appended to in the background while others may read it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from diag.common.files import replacing
from diag.errors import UserError
from traces.encoding import Array
from traces.hdf5.background import BackgroundQueue
from traces.hdf5.blobs import BlobWriter
from traces.hdf5.copying import EarlierRows, copy_rows
from traces.hdf5.creation import encode_column
from traces.hdf5.failures import explained_creation, explained_writing
from traces.hdf5.opening import claim
from traces.hdf5.skeleton import BLOBS, FORMAT, skeleton_image
from traces.hdf5.table import TableWriter
from traces.schema import RunDocuments, StepRecord, TableLayout, TensorKey, TraceLayout

QUEUE_BYTES = 256 << 20

Rows: TypeAlias = Sequence[Mapping[str, object]] | Mapping[str, Sequence[object]]
"""Of a table: one by one, or column by column."""


class TraceWriter:
    """A trace file in the making; use it as a context manager.

    The file appears under its name whole and readable (`TraceReader`, or
    `h5py.File(path, "r", swmr=True)`), and stays so after every call and after a kill. Calls hand
    their data to a thread and return; they wait only while more than `queue_bytes` wait. **Arrays
    handed over must not be changed afterwards**: they are not copied.

    Args:
      path: a file that does not exist yet.
      layout: everything that will be written.
      documents: what the run is.
      portable: write plain datasets, with no filter and no differences, for any HDF5 reader.
      queue_bytes: how much may wait to be written; one larger record is let in by itself.
      earlier: rows to begin with, of the trace that lies at `path`; this one then takes its place.

    Raises:
      UserError: here, or at any later call, when the file cannot be created or written.
      ValueError: at a call whose data the layout does not name.
    """

    compact = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        layout: TraceLayout,
        documents: RunDocuments,
        *,
        portable: bool = False,
        queue_bytes: int = QUEUE_BYTES,
        earlier: EarlierRows | None = None,
    ) -> None:
        self.path = Path(path)
        self.layout = layout
        self._closed = False
        created = documents.created if earlier is None else str(earlier.file.attrs["created"])
        text = documents.to_json(layout)
        image = skeleton_image(layout, text, portable=portable, created=created, compact=self.compact)
        self._file = _create(self.path, layout, image, earlier)
        self._batches_seen = {int(index) for index in self._file["batches/index"][()]}
        self._tables = {name: TableWriter(self._file[name], table, layout) for name, table in layout.tables.items()}
        self._blobs = {name: BlobWriter(self._file[name]) for name in BLOBS}
        self._queue = BackgroundQueue(queue_bytes)

    def write_batch(self, index: int, arrays: Mapping[str, npt.ArrayLike]) -> None:
        """Store a batch once, under an index of the caller's own, for `StepRecord.batch` to name."""
        if index in self._batches_seen:
            raise ValueError(f"A batch is stored once. Received twice: index={index}")
        self._batches_seen.add(index)
        tensors = {("", "", name): array for name, array in arrays.items()}
        self._append("batches", {"index": [index]}, tensors)

    def write_snapshot(self, step: int, states: Mapping[str, Mapping[str, npt.ArrayLike]]) -> None:
        """Store each lane's variables as they are before `step`; step 0 is the initial state."""
        tensors = {(lane, "", name): array for lane, state in states.items() for name, array in state.items()}
        self._append("snapshots", {"step": [step]}, tensors)

    def append_step(self, record: StepRecord) -> None:
        """Store one whole step."""
        if unknown := record.excess.keys() - set(self.layout.layers):
            raise ValueError(f"The trace's layout has no such layer. Received: {sorted(unknown)}")
        losses = {f"loss/{lane}": [record.losses[lane]] for lane in self.layout.lanes}
        excess = [[record.excess.get(layer, np.nan) for layer in self.layout.layers]]
        columns: dict[str, Sequence[object]] = {
            "step": [record.step],
            "batch": [record.batch],
            "checked": [record.checked],
            "excess": excess,
            **losses,
        }
        self._append("steps", columns, record.tensors, record.keep, record.checksums)

    def append_bare_steps(self, columns: Mapping[str, Sequence[object]]) -> None:
        """Store steps of which nothing is known but the columns of the table."""
        self._append("steps", columns, {})

    def append_ops(self, rows: Rows) -> None:
        """Add rows to the op table, each a mapping that names every column, None where it has no value.

        Or column by column, all of one length: thousands of rows take a tenth of the time so.
        """
        self.append_rows("ops", rows)

    def append_units(self, rows: Rows) -> None:
        """Add rows to the unit table, as `append_ops`."""
        self.append_rows("units", rows)

    def describe_ops(self, rows: Mapping[str, Rows]) -> None:
        """Add to the tables that say what the ops of a program are, `described.rows_of`."""
        for table, columns in rows.items():
            self.append_rows(table, columns)

    def write_report(self, report: Mapping[str, object]) -> None:
        """Store a report; it takes the place of the one before only once it is whole on file."""
        self._write_blob("reports", json.dumps(report).encode())

    def write_program(self, program: bytes) -> None:
        """Store a training step, in a form that is the caller's own; beside those before it."""
        self._write_blob("programs", program)

    def num_rows(self) -> dict[str, int]:
        """Those of each table, and the documents of each kind, by name; all of them are on file by then."""
        self.flush()
        tables = {name: table.num_rows for name, table in self._tables.items()}
        return {**tables, **{name: blobs.num_documents for name, blobs in self._blobs.items()}}

    def flush(self) -> None:
        """Wait until everything handed over is on file."""
        self._queue.drain()

    def close(self) -> None:
        """Write what waits, and close the file.

        Raises:
          UserError: what was handed over could not all be written.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._queue.close()
        except BaseException:
            if not self._queue.is_stuck:
                _abandon(self._file)
            raise
        with explained_writing(self.path):
            self._file.close()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write_blob(self, group: str, document: bytes) -> None:
        self._put(len(document), partial(self._blobs[group].append, document))

    def append_rows(self, table: str, rows: Rows) -> None:
        """Add rows to a table without tensors, as `append_ops`."""
        names = [column.name for column in self.layout.tables[table].columns]
        by_column = rows if isinstance(rows, Mapping) else _by_column(table, names, rows)
        lengths = {name: len(values) for name, values in by_column.items()}
        if lengths.keys() != set(names) or len(set(lengths.values())) > 1:
            raise ValueError(f"{table} must have the columns {names}, all of one length. Received: {lengths}")
        if any(lengths.values()):
            self._append(table, by_column, {})

    def _append(
        self,
        table: str,
        columns: Mapping[str, Sequence[object]],
        tensors: Mapping[TensorKey, npt.ArrayLike],
        keep: Collection[TensorKey] | None = None,
        known: Mapping[TensorKey, int] | None = None,
    ) -> None:
        layout = self.layout.tables[table]
        encoded = {column.name: encode_column(column, columns[column.name]) for column in layout.columns}
        arrays = {key: np.asarray(array) for key, array in tensors.items()}
        kept = frozenset(arrays if keep is None else keep)
        _check(arrays, kept, layout)
        num_bytes = sum(array.nbytes for array in (*encoded.values(), *arrays.values()))
        self._put(num_bytes, partial(self._tables[table].append, encoded, arrays, kept, known or {}))

    def _put(self, num_bytes: int, write: partial[None]) -> None:
        def task() -> None:
            with explained_writing(self.path):
                write()

        self._queue.put(num_bytes, task)


class CompactTraceWriter(TraceWriter):
    """Compresses numbers too, for a file to be sent; it takes longer to write."""

    compact = True


def _check(arrays: Mapping[TensorKey, Array], kept: Collection[TensorKey], layout: TableLayout) -> None:
    """Refuse, before anything is written, what the reader could not give back."""
    if absent := [key for key in kept if key not in arrays]:
        raise ValueError(f"Only what is handed over can be kept. Received: keep with {sorted(absent)}")
    for key, array in arrays.items():
        spec = layout.by_key.get(key)
        if spec is None:
            raise ValueError(f"The trace's layout has no such tensor. Received: {key}")
        fits = array.ndim == len(spec.shape) and all(map(int.__le__, array.shape, spec.shape))
        if not fits or _name_of(array.dtype) != spec.dtype:
            raise ValueError(f"Expected at most {spec}. Received: {array.dtype.name} {array.shape}")
        base = layout.base_of(spec) if key in kept else None
        if base and (base.key not in kept or arrays[base.key].shape != array.shape):
            raise ValueError(f"{key} needs {base.key} beside it, of its shape. Received: {sorted(kept)}")


def _by_column(table: str, names: Sequence[str], rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    expected = set(names)
    for row in rows:
        if row.keys() != expected:
            raise ValueError(f"A row of {table} must have the columns {names}. Received: {sorted(row)}")
    return {name: [row[name] for row in rows] for name in names}


@lru_cache
def _name_of(dtype: np.dtype[Any]) -> str:
    """NumPy puts it together anew each time."""
    return dtype.name


def _create(path: Path, layout: TraceLayout, image: bytes, earlier: EarlierRows | None) -> h5py.File:
    """Make the whole skeleton beside `path`, with its earlier rows, and move it there once readers may look."""
    if path.exists() and earlier is None:
        raise UserError(f"The trace {path} exists already; expected a new file; remove it or name another.")
    with explained_creation(path), replacing(path, earlier is None, needs_name=True) as unfinished:
        unfinished.write_bytes(image)
        # Rows are written once and whole: a chunk cache would only hold a megabyte for every tensor.
        file = h5py.File(unfinished, "r+", libver=FORMAT, rdcc_nbytes=0)
        if earlier is not None:
            copy_rows(earlier, file, layout)
        file.swmr_mode = True
    claim(path, file)
    return file


def _abandon(file: h5py.File) -> None:
    """Let the file be as it is, as a kill would.

    Closing it, or leaving that to HDF5 at exit, would mark as whole what could not be written whole.
    So its descriptor is led elsewhere first.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, file.id.get_vfd_handle())
    os.close(nowhere)
    with contextlib.suppress(OSError, RuntimeError):
        file.close()
