"""Making a trace's groups and datasets, empty: all of them, before the first row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from traces.encoding import Array
from traces.names import TEXT_BYTES, column_text
from traces.schema import Column, TableLayout

CHUNK_BYTES = 1 << 21
"""1 to 8 MiB all write at 0.7 GB/s (differences) on two cores; 32 MiB at half of that."""
SMALL_ROW_BYTES = 1 << 10
"""Below this the index and the filter's header cost more than compression gains."""
COMPACT_BYTES = 1 << 16
"""Marks of so many bytes lie together where a file is to be small: most of them are of steps without tensors."""
NUMBERS_PER_CHUNK = 512
APPENDS_PER_CHUNK = 128
ABSENT = -1
APPENDED = APPENDED_STOP, APPENDED_CHECKSUM = "appended", "appended_checksum"
"""Of each append to a table: the row behind its last, and `rows_checksum` of its columns and marks."""
TEXT_ATTRIBUTES = {"_Encoding": "utf-8"}
"""By which netCDF readers tell text from bytes."""

COLUMN_DTYPES: dict[str, Any] = {
    "int64": np.dtype("<i8"),
    "float64": np.dtype("<f8"),
    "text": h5py.string_dtype("utf-8", TEXT_BYTES),
}


def create_table(group: h5py.Group, layout: TableLayout, *, portable: bool, compact: bool = False) -> None:
    """Make a table's columns and what it writes of every tensor, with no rows yet; compact: with numbers compressed."""
    group.create_dataset("complete", data=np.int64(0))
    for column in layout.columns:
        compressed = compact or (column.dtype == "text" and not portable)
        row: tuple[int, ...] = () if column.width is None else (column.width,)
        rows = max(1, NUMBERS_PER_CHUNK // (column.width or 1))
        dataset = create_growing(group, column.name, row, COLUMN_DTYPES[column.dtype], rows, **bitshuffle(compressed))
        if column.dtype == "text":
            dataset.attrs.update(TEXT_ATTRIBUTES)
    for name in APPENDED:
        create_growing(group, name, (), np.dtype("<u8"), APPENDS_PER_CHUNK)
    if layout.tensors:
        num_axes = max(1, *(len(spec.shape) for spec in layout.tensors))
        shape = (len(layout.tensors), num_axes)
        rows = max(1, COMPACT_BYTES // (4 * num_axes * len(layout.tensors))) if compact else 1
        create_growing(group, "extent", shape, np.dtype("<i4"), rows, fillvalue=ABSENT, **bitshuffle(not portable))
        rows = max(1, (COMPACT_BYTES if compact else SMALL_ROW_BYTES) // (8 * len(layout.tensors)))
        create_growing(group, "checksum", (len(layout.tensors),), np.dtype("<u8"), rows, **bitshuffle(compact))


def create_text(group: h5py.Group, name: str, text: str | Sequence[str]) -> h5py.Dataset:
    """A dataset of one text, or of several, for good."""
    texts = [text] if isinstance(text, str) else text
    encoded = [each.encode() for each in texts]
    dtype = h5py.string_dtype("utf-8", max([1, *map(len, encoded)]))
    dataset = group.create_dataset(name, data=np.array(encoded[0] if isinstance(text, str) else encoded, dtype))
    dataset.attrs.update(TEXT_ATTRIBUTES)
    return dataset


def create_growing(
    group: h5py.Group, path: str | None, shape: tuple[int, ...], dtype: Any, rows: int, **storage: Any
) -> h5py.Dataset:
    """A dataset of no rows of `shape` yet, in chunks of `rows` of them or of parts of one; `storage` as h5py's."""
    return group.create_dataset(
        path,
        shape=(0, *shape),
        maxshape=(None, *shape),
        dtype=dtype,
        chunks=(rows, *chunk_of_row(shape, np.dtype(dtype).itemsize)),
        **storage,
    )


def bitshuffle(compressed: bool) -> Mapping[str, Any]:
    """The filter of what is compressed, as h5py takes it."""
    return hdf5plugin.Bitshuffle() if compressed else {}


def chunk_of_row(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Cut a row along its first axes until a piece is at most `CHUNK_BYTES`."""
    chunk = list(shape)
    for axis, length in enumerate(shape):
        rest = int(np.prod(shape[axis + 1 :], dtype=np.int64)) * itemsize
        num_pieces = -(-length * rest // CHUNK_BYTES)  # rounded up; pieces as even as can be
        chunk[axis] = -(-length // min(num_pieces, length))
        if rest <= CHUNK_BYTES:
            break
    return tuple(chunk)


def encode_column(column: Column, values: Sequence[object]) -> Array:
    """Values as the column stores them; None becomes NaN, "" or -1, and a text too long a short one (names.py)."""
    if column.dtype == "text":
        texts = ["" if value is None else column_text(str(value)) for value in values]
        return np.array([text.encode() for text in texts], COLUMN_DTYPES["text"])
    if isinstance(values, np.ndarray):
        return np.array(values, COLUMN_DTYPES[column.dtype])
    missing = np.nan if column.dtype == "float64" else ABSENT
    return np.array([missing if value is None else value for value in values], COLUMN_DTYPES[column.dtype])
