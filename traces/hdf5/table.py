"""A group of the file that grows row by row: columns, and tensors with one value a row.

Every append writes the row first, flushes, and only then counts it in the group's `complete`.
A reader that trusts `complete` rows never sees half of one, whenever the writer was killed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import h5py
import numpy as np
from h5py import h5s

from diag.common.wording import shape_text
from traces.checksums import NO_CHECKSUM, rows_checksum, tensor_checksum
from traces.encoding import Array, difference, narrow, restore, widen
from traces.hdf5.chunks import ChunkCheck, Unsound
from traces.hdf5.creation import ABSENT, APPENDED, APPENDED_STOP
from traces.hdf5.unfinished import is_read_as_unfinished
from traces.names import full_texts
from traces.schema import TableLayout, TensorKey, TensorSpec, TraceLayout, tensor_path


class TableWriter:
    """Appends to one table."""

    def __init__(self, group: h5py.Group, layout: TableLayout, trace: TraceLayout) -> None:
        self._group = group
        self._complete = group["complete"]
        self._columns = {column.name: group[column.name] for column in layout.columns}
        self._extent = group["extent"] if layout.tensors else None
        self._checksum = group["checksum"] if layout.tensors else None
        self._order = {spec.key: order for order, spec in enumerate(layout.tensors)}
        self._paths = {spec.key: tensor_path(spec, trace.lanes) for spec in layout.tensors}
        self._tensors: dict[TensorKey, h5py.Dataset] = {}  # opened when first written to: most may never be
        is_portable = bool(group.file.attrs["portable"])
        bases = {} if is_portable else {spec.key: layout.base_of(spec) for spec in layout.tensors}
        self._bases = {key: base.key for key, base in bases.items() if base}
        self._appended = [group[name] for name in APPENDED]
        self._num_appends = int(self._appended[0].shape[0])
        self.num_rows = int(self._complete[()])

    def append(
        self,
        columns: Mapping[str, Array],
        tensors: Mapping[TensorKey, Array],
        keep: Collection[TensorKey],
        known: Mapping[TensorKey, int],
    ) -> None:
        """Write rows of all columns; with values or checksums of tensors, one row.

        known: checksums of tensors that are not handed over.
        """
        start = self.num_rows
        stop = start + len(next(iter(columns.values())))
        for name, values in columns.items():
            write_rows(self._columns[name], start, values)
        parts = list(columns.values())
        if self._extent is not None:
            kept = {key: tensors[key] for key in tensors if key in keep}
            parts.append(self._append_tensors(range(start, stop), kept))
            parts.append(self._append_checksums(range(start, stop), tensors, known))
        for dataset, value in zip(self._appended, (stop, rows_checksum(parts)), strict=True):
            write_row(dataset, self._num_appends, np.array(value, "<u8"))
        self._num_appends += 1
        self._group.file.flush()
        self._complete[()] = stop
        self._complete.flush()
        self.num_rows = stop

    def _append_tensors(self, rows: range, tensors: Mapping[TensorKey, Array]) -> Array:
        """Values of the first of these rows, and the extents of all."""
        assert self._extent is not None
        extent = np.full((len(rows), *self._extent.shape[1:]), ABSENT, "<i4")
        for key, array in tensors.items():
            extent[0, self._order[key]] = 1  # a scalar's extent is no axis, and yet it is there
            extent[0, self._order[key], : array.ndim] = array.shape
            if array.size:
                self._write_tensor(rows.start, key, array, tensors)
        write_rows(self._extent, rows.start, extent)
        return extent

    def _append_checksums(
        self, rows: range, tensors: Mapping[TensorKey, Array], known: Mapping[TensorKey, int]
    ) -> Array:
        assert self._checksum is not None
        checksums = np.full((len(rows), *self._checksum.shape[1:]), NO_CHECKSUM, "<u8")
        for key, checksum in (*known.items(), *((key, tensor_checksum(array)) for key, array in tensors.items())):
            checksums[0, self._order[key]] = checksum
        write_rows(self._checksum, rows.start, checksums)
        return checksums

    def _write_tensor(self, row: int, key: TensorKey, array: Array, tensors: Mapping[TensorKey, Array]) -> None:
        if key not in self._tensors:
            self._tensors[key] = self._group[self._paths[key]]
        dataset, base = self._tensors[key], self._bases.get(key)
        stored = widen(array)
        if base is not None:
            stored = difference(stored, widen(tensors[base]))
        write_row(dataset, row, stored)


def write_row(dataset: h5py.Dataset, row: int, value: Array) -> None:
    """As `dataset.resize(row + 1, axis=0)` and `dataset[row, :n, ...] = value`."""
    write_rows(dataset, row, value[np.newaxis])


def write_rows(dataset: h5py.Dataset, start: int, values: Array) -> None:
    """As `dataset.resize(stop, axis=0)` and `dataset[start:stop, :n, ...] = values`, without h5py's way there.

    A step has thousands of small tensors, on which h5py would spend more than HDF5 does on writing them.
    """
    file = dataset.id
    file.set_extent((start + len(values), *file.shape[1:]))
    place = file.get_space()
    place.select_hyperslab((start, *(0 for _ in values.shape[1:])), values.shape)
    file.write(h5s.create_simple(values.shape), place, np.ascontiguousarray(values), file.get_type())


class TableReader:
    """Reads the complete rows of one table, also while it grows.

    Every dataset is opened once: in HDF5 1.14.6 `refresh` makes a second handle on the same dataset
    read other rows than it is asked for. For the same reason it is called only to see new rows; a dataset in sight
    since before they were counted may be longer already and not hold them yet.
    """

    def __init__(self, group: h5py.Group, layout: TableLayout, trace: TraceLayout, path: Path) -> None:
        self.layout = layout
        self._path = path
        self._group = group
        self._lanes = trace.lanes
        self._full_texts = full_texts([*trace.layers, *(spec.name for spec in (*trace.tensors, *trace.variables))])
        self._order = {spec.key: order for order, spec in enumerate(layout.tensors)}
        self._opened: dict[str, h5py.Dataset] = {}
        self._num_counted = 0  # rows, when `complete` was read last
        self._num_seen: dict[str, int] = {}  # of each dataset: how many were counted when it was refreshed last
        self._grows = is_read_as_unfinished(group.file)
        self._checks: dict[str, ChunkCheck] = {}

    @property
    def num_rows(self) -> int:
        complete = self._dataset("complete")
        complete.refresh()
        number = int(complete[()])
        if number < 0:
            raise Unsound(f"{complete.name} is {number:,}")
        self._num_counted = number
        return number

    def column(self, name: str) -> Array:
        """A column's complete rows; text as Python strings.

        Raises:
          Unsound: some of them are not on file.
        """
        num_rows = self.num_rows
        dataset = self._with_rows(name, 0, num_rows)
        is_text = h5py.check_string_dtype(dataset.dtype) is not None
        values: Array = (dataset.asstr() if is_text else dataset)[:num_rows]
        if is_text and self._full_texts:
            values = np.array([self._full_texts.get(value, value) for value in values.tolist()], object)
        return values

    def columns(self, names: Collection[str] | None = None) -> dict[str, Array]:
        """Those of the named columns (None: all) that the table has, cut to one length."""
        known = [column.name for column in self.layout.columns if names is None or column.name in names]
        columns = {name: self.column(name) for name in known}
        num_rows = min(map(len, columns.values()), default=0)
        return {name: values[:num_rows] for name, values in columns.items()}

    def appends(self) -> list[tuple[int, int]] | None:
        """Of each append the row behind its last, and `rows_checksum`; None in a trace that has none."""
        if APPENDED_STOP not in self._group:
            return None
        complete, found = self.num_rows, []
        stops, checksums = (self._dataset(name) for name in APPENDED)
        for dataset in (stops, checksums):
            dataset.refresh()
        number = min(len(stops), len(checksums))
        if number:
            stops, checksums = (self._with_rows(name, 0, number) for name in APPENDED)
            found = list(zip(stops[:number].tolist(), checksums[:number].tolist(), strict=True))
        return [(stop, checksum) for stop, checksum in found if 0 < stop <= complete]

    def stored_columns(self, num_rows: int) -> list[Array]:
        """The columns as they lie on file, in the layout's order."""
        return [self._with_rows(column.name, 0, num_rows)[:num_rows] for column in self.layout.columns]

    def marks(self, start: int, stop: int) -> list[Array]:
        """What is written of every tensor of these rows, as it lies on file."""
        names = ("extent", "checksum") if self.layout.tensors else ()
        return [self._with_rows(name, start, stop)[start:stop] for name in names]

    def check_marks(self, num_rows: int) -> None:
        """That the marks of so many rows are stored.

        Raises:
          Unsound: they are not.
        """
        for name in ("extent", "checksum"):
            self._with_rows(name, 0, num_rows)

    def tensors(self, row: int, lane: str) -> dict[TensorKey, Array]:
        """The values of one lane that a row holds."""
        values = {spec.key: self.tensor(row, spec.key) for spec in self.layout.tensors if spec.lane == lane}
        return {key: value for key, value in values.items() if value is not None}

    def tensor(self, row: int, key: TensorKey) -> Array | None:
        """One row's value, bit for bit as it was written; None where the row holds none."""
        shape = self.shape(row, key)
        if shape is None:
            return None
        spec = self.layout.by_key[key]
        stored, base = self._read(spec, row, shape), self.layout.base_of(spec)
        if base is not None and not self._group.file.attrs["portable"]:
            stored = restore(stored, self._read(base, row, shape))
        return np.asarray(narrow(stored, spec.dtype))

    def shape(self, row: int, key: TensorKey) -> tuple[int, ...] | None:
        """The shape of one row's value; None where the row holds none."""
        extent = self._with_rows("extent", row, row + 1)[row, self._order[key]]
        if extent[0] == ABSENT:
            return None
        longest = self.layout.by_key[key].shape
        shape = tuple(int(length) for length in extent[: len(longest)])
        if not all(0 <= length <= most for length, most in zip(shape, longest, strict=True)):
            raise Unsound(f"an extent of {shape_text(shape)}, and at most {shape_text(longest)} is possible")
        return shape

    def kept_in(self, row: int) -> frozenset[TensorKey]:
        """The tensors of which a row holds a value."""
        if not self._order:
            return frozenset()
        extent = self._with_rows("extent", row, row + 1)[row]
        return frozenset(key for key, order in self._order.items() if extent[order, 0] != ABSENT)

    def checksum(self, row: int, key: TensorKey) -> int | None:
        """The checksum of what was handed over, be it kept or not; None where nothing was."""
        checksum = int(self._with_rows("checksum", row, row + 1)[row, self._order[key]])
        return None if checksum == NO_CHECKSUM else checksum

    def checksums(self, row: int) -> dict[TensorKey, int]:
        """All checksums of a row, in one read: 2,000 tensors one by one take 0.2 ms each."""
        if not self._order:
            return {}
        checksums = self._with_rows("checksum", row, row + 1)[row].tolist()
        return {key: checksums[order] for key, order in self._order.items() if checksums[order] != NO_CHECKSUM}

    def checksum_rows(self) -> Array:
        """All checksums, (rows, tensors) uint64, in the layout's order of tensors."""
        num_rows = self.num_rows
        return np.asarray(self._with_rows("checksum", 0, num_rows)[:num_rows])

    def _read(self, spec: TensorSpec, row: int, shape: tuple[int, ...]) -> Array:
        if 0 in shape:
            return np.empty(shape, self._dataset(tensor_path(spec, self._lanes)).dtype)
        dataset = self._with_rows(tensor_path(spec, self._lanes), row, row + 1, shape)
        return np.asarray(dataset[(row, *(slice(length) for length in shape))])

    def _with_rows(self, path: str, start: int, stop: int, extent: tuple[int, ...] | None = None) -> h5py.Dataset:
        """A dataset of which these rows are found to be stored, all of them or of each this extent.

        Raises:
          Unsound: they are not.
        """
        dataset = self._dataset(path, stop)
        if dataset.shape[0] < stop:
            raise Unsound(f"{dataset.name} has {dataset.shape[0]:,} rows, and the table has {stop:,}")
        if path not in self._checks:
            self._checks[path] = ChunkCheck(dataset, self._path)
        if stop > start:
            self._checks[path].check([(start, stop), *((0, n) for n in extent or dataset.shape[1:])])
        return dataset

    def _dataset(self, path: str, num_rows: int = 0) -> h5py.Dataset:
        """The one handle on a dataset, with at least so many rows in sight."""
        if path not in self._opened:
            self._opened[path] = self._group[path]
        if self._grows and num_rows > self._num_seen.get(path, 0):
            self._opened[path].refresh()
            self._num_seen[path] = max(num_rows, self._num_counted)
        return self._opened[path]
