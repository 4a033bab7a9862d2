"""Files for other programs: tensors as NumPy's .npz, tables as .csv."""

from __future__ import annotations

import csv
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from diag.common.files import exported, refuse_existing, refuse_too_large
from diag.common.modes import figure_key, mode_in
from diag.common.text import as_text
from diag.errors import UserError
from traces.encoding import Array, widen
from traces.inspector.address import Address
from traces.inspector.catalogue import Catalogue, StoredTensor
from traces.inspector.reading import InspectedTrace
from traces.schema import bytes_per_row


@dataclass(frozen=True)
class TargetFile:
    """The file to write, and whether one of that name may be overwritten."""

    path: Path
    force: bool


@dataclass(frozen=True)
class ExportedFile:
    """What a file holds: `names` of its arrays or columns; `num_left_out` are tensors with a checksum only."""

    path: str
    names: tuple[str, ...]
    num_rows: int | None = None
    num_left_out: int = 0
    num_widened: int = 0


def export_tensors(
    catalogue: Catalogue, address: Address, lanes: Sequence[str] | None, target: TargetFile
) -> ExportedFile:
    """Write the values an address selects, one array each under its address.

    NumPy has no bfloat16, which goes as float32, and exactly so.

    Raises:
      UserError: nothing is stored of what was asked for, or the file cannot be written.
    """
    refuse_existing(target.path, target.force)
    tensors = [
        StoredTensor(catalogue, entry, step, lane)
        for entry, step in catalogue.places(address)
        for lane in entry.lanes
        if lanes is None or lane in ("", *lanes)
    ]
    kept = [tensor for tensor in tensors if tensor.is_kept]
    if not kept:
        raise UserError(
            f"Of what {address.text!r} names no value is stored; see what is kept with: python -m traces ls"
        )
    refuse_too_large(target.path, sum(bytes_per_row(tensor.entry.specs[0]) for tensor in kept))
    num_widened = 0
    with exported(target.path, target.force) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as file:
        for tensor in kept:
            value = tensor.value
            num_widened += value.dtype == ml_dtypes.bfloat16
            _add_array(file, tensor.address, value)
    names = tuple(tensor.address for tensor in kept)
    return ExportedFile(str(target.path), names, None, len(tensors) - len(kept), num_widened)


def export_table(trace: InspectedTrace, table: str, address: Address, target: TargetFile) -> ExportedFile:
    """Write the rows of a table ("ops", "units", "steps") whose layer, variable or type of op the address matches.

    Numbers are written so that they read back to the same float64; a missing one is an empty field.

    Raises:
      UserError: there is no such row, or the file cannot be written.
    """
    refuse_existing(target.path, target.force)
    columns = _losses(trace) if table == "steps" else trace.tables[table]
    rows = list(_matching(columns, address))
    if not rows:
        raise UserError(f"The {table} table of {trace.path} has no row that was asked for; nothing is written")
    refuse_too_large(target.path, 0)
    values = [column.tolist() for column in columns.values()]
    with exported(target.path, target.force) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_field(name) for name in columns])
        writer.writerows([_field(column[row]) for column in values] for row in rows)
    return ExportedFile(str(target.path), tuple(columns), num_rows=len(rows))


def _add_array(file: zipfile.ZipFile, name: str, value: Array) -> None:
    """As `numpy.savez` does, one after the other instead of all in memory."""
    array = widen(value) if value.dtype == ml_dtypes.bfloat16 else value
    with file.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _losses(trace: InspectedTrace) -> dict[str, Array]:
    """Each whole step's losses."""
    name = figure_key(mode_in(trace.settings))
    return {"step": np.asarray(trace.steps), **{f"{name}/{lane}": losses for lane, losses in trace.losses.items()}}


def _matching(columns: dict[str, Array], address: Address) -> Iterator[int]:
    numbers = columns["step"].tolist() if "step" in columns else []
    chosen = set(address.steps.select(sorted(set(numbers)))) if address.steps else None
    texts = [columns[name].tolist() for name in ("layer", "variable", "op_type") if name in columns]
    for row in range(len(next(iter(columns.values()), ()))):
        if (chosen is None or numbers[row] in chosen) and address.matches(*(text[row] for text in texts), ""):
            yield row


def _field(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return as_text(value, "csv") if isinstance(value, str) else value
