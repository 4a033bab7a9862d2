"""The results of a study: one table, a row an epoch of a run, and its curves in HDF5."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from diag.common.files import replacing, write_report
from diag.study.run_request import METRICS, RunRequest

WITHOUT_PYARROW = "no results.parquet, which needs pyarrow: pip install 'tf-lockstep[study]'"
SECONDS = "seconds"


@dataclass(frozen=True)
class Curves:
    """What a run gave: by measure, (epochs,), float64."""

    key: str
    run: RunRequest
    of: Mapping[str, np.ndarray]

    @classmethod
    def out_of(cls, key: str, run: RunRequest, value: Mapping[str, Any]) -> Curves:
        """Of what `train_one` gave; NaN and infinities come as texts that float() reads."""
        found = {name: np.array([float(x) for x in numbers]) for name, numbers in value["curves"].items()}
        return cls(key, run, found)

    def best(self, measure: str) -> float:
        """Of all epochs: the highest accuracy, or the lowest loss."""
        values = self.of[measure]
        if np.isnan(values).all():
            return float("nan")
        return float(np.nanmax(values) if measure.endswith("accuracy") else np.nanmin(values))

    @property
    def seconds(self) -> float:
        """Of an epoch, the median; the first is left out where there are others, for it compiles."""
        values = self.of[SECONDS]
        return float(np.median(values[1:] if len(values) > 1 else values))


def rows_of(all_curves: Iterable[Curves]) -> dict[str, list[Any]]:
    """The table by column: epochs count from 1; `seconds` alone differs from one time to the next."""
    table: dict[str, list[Any]] = {name: [] for name in ("place", "policy", "seed", "twin", "epoch", *METRICS, SECONDS)}
    for curves in all_curves:
        run = curves.run
        for epoch in range(run.epochs):
            row = [run.place, run.policy, run.seed, run.twin, epoch + 1]
            row += [float(curves.of[name][epoch]) for name in (*METRICS, SECONDS)]
            for column, value in zip(table.values(), row, strict=True):
                column.append(value)
    return table


def write_table(folder: Path, table: Mapping[str, list[Any]]) -> str | None:
    """results.csv, and results.parquet where pyarrow is there; else the line that says so."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))  # of floats their shortest repr, which keeps all bits
    write_report(folder / "results.csv", text.getvalue())
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return WITHOUT_PYARROW
    with replacing(folder / "results.parquet", needs_name=True) as unfinished:
        parquet.write_table(pyarrow.table(dict(table)), unfinished)
    return None


def write_curves(path: Path, all_curves: Iterable[Curves]) -> None:
    """/PLACE/POLICY/MEASURE, (runs, epochs) float64, with the runs' `seed` and `twin` beside it."""
    groups: dict[tuple[str, str], list[Curves]] = {}
    for curves in all_curves:
        groups.setdefault((curves.run.place, curves.run.policy), []).append(curves)
    with replacing(path, needs_name=True) as unfinished, h5py.File(unfinished, "w") as file:
        file.attrs["schema"] = "lockstep-study-curves/1"
        for (place, policy), found in groups.items():
            group = file.create_group(f"{place.replace('/', '|')}/{policy}")
            group.attrs["place"] = place
            group["epoch"] = np.arange(1, found[0].run.epochs + 1)
            group["seed"] = [each.run.seed for each in found]
            group["twin"] = [each.run.twin for each in found]
            for name in (*METRICS, SECONDS):
                group[name] = np.stack([each.of[name] for each in found])
                group[name].attrs["dimensions"] = "run, epoch"
            group[SECONDS].attrs["unit"] = "s"
