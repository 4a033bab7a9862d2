"""The second check of a file: every dataset that a reader goes by is of the kind and shape that the layout names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from h5py import h5t

from traces.door.plain import Stored, existing, refuse_other_kind
from traces.encoding import STORED_DTYPES, difference_dtype
from traces.hdf5.chunks import Unsound
from traces.hdf5.creation import APPENDED, COLUMN_DTYPES
from traces.schema import TableLayout, TraceLayout, stored_shape, tensor_path

LONGEST_DOCUMENT = 32 << 20
"""Bytes of one JSON document; a layout of 3,000 tensors takes 0.7 MB."""


def refuse_other_contents(found: Mapping[str, Stored], layout: TraceLayout, *, portable: bool) -> None:
    """That the tables and the groups of documents are those of this layout.

    Raises:
      Unsound: one is missing, or of another kind.
    """
    for name, table in layout.tables.items():
        _refuse_other_table(found, name, table, layout, portable)
    for group in ("programs", "reports"):
        refuse_other_scalar(found, f"{group}/complete")
        refuse_other_kind(found, f"{group}/bytes", kind_of("u1"), ())
        refuse_other_kind(found, f"{group}/stop", kind_of("<i8"), ())
        if f"{group}/checksum" in found:
            refuse_other_kind(found, f"{group}/checksum", kind_of("<u8"), ())


def _refuse_other_table(
    found: Mapping[str, Stored], name: str, table: TableLayout, layout: TraceLayout, portable: bool
) -> None:
    refuse_other_scalar(found, f"{name}/complete")
    for column in table.columns:
        row = () if column.width is None else (column.width,)
        refuse_other_kind(found, f"{name}/{column.name}", kind_of(COLUMN_DTYPES[column.dtype]), row)
    for of_appends in APPENDED:
        if f"{name}/{of_appends}" in found:  # a trace of an earlier version has none
            refuse_other_kind(found, f"{name}/{of_appends}", kind_of("<u8"), ())
    if not table.tensors:
        return
    num_tensors, num_axes = len(table.tensors), max(1, *(len(spec.shape) for spec in table.tensors))
    refuse_other_kind(found, f"{name}/extent", kind_of("<i4"), (num_tensors, num_axes))
    refuse_other_kind(found, f"{name}/checksum", kind_of("<u8"), (num_tensors,))
    for spec in table.tensors:
        stored = STORED_DTYPES[spec.dtype]
        is_difference = not portable and table.base_of(spec) is not None
        kind = kind_of(difference_dtype(stored) if is_difference else stored)
        refuse_other_kind(found, f"{name}/{tensor_path(spec, layout.lanes)}", kind, stored_shape(spec))


def refuse_other_scalar(found: Mapping[str, Stored], path: str) -> None:
    """That a dataset is one integer."""
    stored = existing(found, path)
    if stored.chunks is not None or stored.shape or not stored.is_whole or not stored.kind.equal(kind_of("<i8")):
        raise Unsound(f"{path} is not one integer")


def refuse_other_text(found: Mapping[str, Stored], path: str, longest: int = LONGEST_DOCUMENT) -> None:
    """That a dataset is one text, of a bounded length."""
    stored = existing(found, path)
    is_text = isinstance(stored.kind, h5t.TypeStringID) and not stored.kind.is_variable_str()
    if stored.chunks is not None or stored.shape or not is_text:
        raise Unsound(f"{path} is no text")
    if not stored.is_whole:
        raise Unsound(f"{path} claims {stored.kind.get_size():,} bytes, and {stored.num_bytes:,} are stored")
    if stored.num_bytes > longest:
        raise Unsound(f"{path} has {stored.num_bytes:,} bytes; expected at most {longest:,}")


@cache
def kind_of(dtype: str | np.dtype[Any]) -> h5t.TypeID:
    """The type on file of a dtype as the writer makes it."""
    return h5t.py_create(np.dtype(dtype), logical=True)
