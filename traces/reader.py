"""Reading a trace: after the run, while it goes on, and after it was killed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from diag.common.source_lines import SourceLine
from diag.errors import UserError
from traces.described import DescribedOp, lines_of, ops_of
from traces.door.door import open_trace
from traces.door.records import report_of
from traces.encoding import Array
from traces.hdf5.blobs import BlobReader
from traces.hdf5.copying import EarlierRows
from traces.hdf5.failures import explained_gaps, explained_reading
from traces.hdf5.skeleton import BLOBS
from traces.hdf5.table import TableReader
from traces.schema import NODE_TABLES, PACKED, TensorKey

Value = TypeVar("Value")


class TraceReader:
    """A trace, of which it sees the whole steps; use it as a context manager.

    While the run goes on every call sees what is whole by then. A process may read an unfinished
    trace through one reader at a time, and not while it writes it itself.

    Raises:
      UserError: no such file, not a trace, a newer schema, truncated, locked; here or when a
        damaged part is read.
      KeyError: a step, batch, tensor or lane that the trace does not hold.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._open = open_trace(self.path)
        self.layout = self._open.layout
        try:
            with explained_reading(self.path), explained_gaps(self.path):
                self._open_parts(self._open.file)
        except UserError:
            self.close()
            raise

    def _open_parts(self, file: h5py.File) -> None:
        self._tables = {
            name: TableReader(file[name], table, self.layout, self.path) for name, table in self.layout.tables.items()
        }
        self._blobs = {name: BlobReader(file[name], self.path) for name in BLOBS}

    @property
    def schema(self) -> str:
        """Name and version of the schema the trace is written in."""
        return str(self._open.attributes["schema"])

    @property
    def steps(self) -> list[int]:
        """The numbers of the whole steps, in the order they ran."""
        return self._numbers("steps", "step")

    @property
    def version(self) -> str:
        """The program's version that wrote the trace."""
        return str(self._open.attributes["version"])

    @property
    def created(self) -> str:
        """When, ISO 8601 in UTC."""
        return str(self._open.attributes["created"])

    def environment(self, lane: str) -> dict[str, Any]:
        """What a lane ran on."""
        return dict(self._open.documents[f"environment/{lane}"])

    @property
    def command(self) -> list[str]:
        return list(self._open.documents["command"])

    @property
    def seeds(self) -> dict[str, int]:
        return dict(self._open.documents["seeds"])

    @property
    def model_config(self) -> dict[str, Any] | None:
        config = self._open.documents["model_config"]
        return None if config is None else dict(config)

    @property
    def settings(self) -> dict[str, Any]:
        """How the run was asked to go."""
        return dict(self._open.documents["settings"])

    @property
    def is_anonymous(self) -> bool:
        """Whether `traces pack --anonymous` wrote it, without batches."""
        packed = self.settings.get(PACKED)
        return isinstance(packed, dict) and bool(packed.get("anonymous"))

    @property
    def programs(self) -> list[bytes]:
        """The training steps, as they were handed to the writer, in that order."""
        with explained_reading(self.path), explained_gaps(self.path):
            programs = self._blobs["programs"]
            return [programs[number] for number in range(len(programs))]

    @property
    def losses(self) -> dict[str, Array]:
        """Each lane's loss, one float64 a whole step."""
        return {lane: self._column("steps", f"loss/{lane}") for lane in self.layout.lanes}

    @property
    def excess(self) -> Array:
        """Each whole step's largest excess of each of the layout's layers: (steps, layers), NaN for none."""
        return self._column("steps", "excess") if self.layout.layers else np.empty((len(self.steps), 0))

    @property
    def snapshots(self) -> list[int]:
        """The steps before which the state was stored."""
        return self._numbers("snapshots", "step")

    def snapshot(self, step: int, lane: str) -> dict[str, Array]:
        """A lane's variables as they were before a step, by path; before step 0 it is the initial state."""
        return self._row_tensors("snapshots", self._row("snapshots", "step", step), lane)

    def snapshot_checksums(self, step: int, lane: str) -> dict[str, int]:
        """The `tensor_checksum` of each variable of a snapshot, by path."""
        return self._row_checksums("snapshots", self._row("snapshots", "step", step), lane)

    def batch(self, step: int) -> dict[str, Array]:
        """The batch a step was given, by component."""
        return self._row_tensors("batches", self._batch_row(step), "")

    def batch_checksums(self, step: int) -> dict[str, int]:
        """The `tensor_checksum` of each component of a step's batch."""
        return self._row_checksums("batches", self._batch_row(step), "")

    def checksums_of_steps(self) -> dict[int, Array]:
        """All checksums of each whole step, in the order of the layout's tensors; 0 where there was no value."""
        checksums = self._read("steps", TableReader.checksum_rows)
        return dict(zip(self.steps, checksums, strict=False))

    def checksums_of_batches(self) -> dict[int, Array]:
        """The checksums of each stored batch, by its index, in the order of the layout's components."""
        checksums = self._read("batches", TableReader.checksum_rows)
        return dict(zip(self._numbers("batches", "index"), checksums, strict=False))

    @property
    def batch_indices(self) -> dict[int, int]:
        """Under which index the batch of each whole step is stored."""
        return dict(zip(self.steps, self._numbers("steps", "batch"), strict=False))

    @property
    def steps_with_batches(self) -> list[int]:
        """The whole steps of which the batch is stored, in the order they ran."""
        stored = set(self._numbers("batches", "index"))
        numbers = zip(self.steps, self._numbers("steps", "batch"), strict=False)  # a run may add a step meanwhile
        return [step for step, batch in numbers if batch in stored]

    def names(self, kind: str) -> list[str]:
        """The names of one kind of tensor, in the layout's order."""
        return list(dict.fromkeys(spec.name for spec in self.layout.tensors if spec.kind == kind))

    def tensor(self, step: int, lane: str, kind: str, name: str) -> Array:
        """A step's tensor in its own dtype, bit for bit as it was."""
        row, key = self._row("steps", "step", step), self._known((lane, kind, name))
        array = self._read("steps", lambda table: table.tensor(row, key))
        if array is None:
            raise KeyError(f"Step {step} of {self.path} was written without {key}.")
        return array

    def kept_in(self, step: int) -> frozenset[TensorKey]:
        """The tensors of a step that `tensor` can give back; of others there may be a checksum all the same."""
        row = self._row("steps", "step", step)
        return self._read("steps", lambda table: table.kept_in(row))

    def checksum(self, step: int, lane: str, kind: str, name: str) -> int | None:
        """The `tensor_checksum` of what the step had, kept or not; None where it was not handed over."""
        row, key = self._row("steps", "step", step), self._known((lane, kind, name))
        return self._read("steps", lambda table: table.checksum(row, key))

    def op_table(self) -> dict[str, Array]:
        """The op table's columns, of equal length; text as Python strings."""
        return self._read("ops", TableReader.columns)

    def unit_table(self) -> dict[str, Array]:
        """The unit table's columns, of equal length; text as Python strings."""
        return self._read("units", TableReader.columns)

    def described_ops(self, program: int = 0) -> dict[int, DescribedOp]:
        """The ops of a traced step by index, run or not: what they read, and which line made them.

        program: which of `programs`.  Empty in a trace of an earlier version.
        """
        if not self.layout.describes_ops:
            return {}
        return ops_of({table: self._read(table, TableReader.columns) for table in NODE_TABLES}, program)

    def source_lines(self) -> dict[int, SourceLine]:
        """The lines of the person's own that made ops, by number; empty in a trace of an earlier version."""
        return lines_of(self._read("sources", TableReader.columns)) if self.layout.describes_ops else {}

    def report(self) -> dict[str, Any] | None:
        """The last report written, if any was."""
        with explained_reading(self.path), explained_gaps(self.path):
            reports = self._blobs["reports"]
            return report_of(reports[-1]) if len(reports) else None

    def num_rows(self) -> dict[str, int]:
        """Whole rows of each table, and whole documents of each kind, by name."""
        tables = {name: table.num_rows for name, table in self._tables.items()}
        return {**tables, **{name: len(blobs) for name, blobs in self._blobs.items()}}

    def first_rows(self, num_rows: Mapping[str, int]) -> EarlierRows:
        """So many rows of each table, for a trace that begins with them; valid until this one is closed."""
        return EarlierRows(self._open.file, num_rows)

    def close(self) -> None:
        self._open.file.close()

    def __enter__(self) -> TraceReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _numbers(self, table: str, column: str) -> list[int]:
        return [int(number) for number in self._column(table, column)]

    def _column(self, table: str, name: str) -> Array:
        return self._read(table, lambda reader: reader.column(name))

    def _read(self, table: str, read: Callable[[TableReader], Value]) -> Value:
        with explained_reading(self.path), explained_gaps(self.path):
            return read(self._tables[table])

    def _row(self, table: str, column: str, number: int) -> int:
        """The row of a number; the last, if a step was written again after a rewind."""
        numbers = self._numbers(table, column)
        if number not in numbers:
            raise KeyError(f"{self.path} has no {column} {number} among its {table}: {numbers}")
        return len(numbers) - 1 - numbers[::-1].index(number)

    def _batch_row(self, step: int) -> int:
        index = self._numbers("steps", "batch")[self._row("steps", "step", step)]
        return self._row("batches", "index", index)

    def _known(self, key: TensorKey) -> TensorKey:
        if key not in self._tables["steps"].layout.by_key:
            raise KeyError(f"{self.path} has no tensor {key}, the (lane, kind, name).")
        return key

    def _row_checksums(self, table: str, row: int, lane: str) -> dict[str, int]:
        """The checksums of one row's tensors of one lane, by name."""
        checksums = self._read(table, lambda reader: reader.checksums(row))
        return {name: checksum for (of, _, name), checksum in checksums.items() if of == lane}

    def _row_tensors(self, table: str, row: int, lane: str) -> dict[str, Array]:
        """One row's tensors of one lane, by name."""
        tensors = self._read(table, lambda reader: reader.tensors(row, lane))
        return {name: array for (_, _, name), array in tensors.items()}
