"""Whatever a layer is called, its values and its rows are written, and found again under its whole name."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traces.names import TEXT_BYTES, column_text, full_texts, path_part
from traces.reader import TraceReader
from traces.schema import Column, RunDocuments, StepRecord, TensorSpec, TraceLayout
from traces.writer import TraceWriter

ODD = [
    "n" * 300, "ü" * 200, ".", "..", "a//b", "/", "a/", "./a", " ", "", "日本語", "[/x]", "a\nb", "\x1b[31m", "\u202ex",
    "%", "reference", "candidate/values", "'", '"""', "\\", "{x}", "=1+1", "😀", "extent", "complete",
]  # fmt: skip
LANES = ("reference", "candidate")
ANYTHING = st.text(st.characters(codec="utf-8"), max_size=400)


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("portable", [False, True])
def test_an_odd_name_comes_back(run, tmp_path: Path, name: str, portable: bool) -> None:
    path = tmp_path / "trace.h5"
    specs = tuple(TensorSpec(each, (2,), "float32", lane, "activations") for each in (name, "dense") for lane in LANES)
    columns = (Column("step", "int64"), Column("unit", "text"), Column("layer", "text"), Column("excess", "float64"))
    layout = TraceLayout(tensors=specs, layers=(name, "dense"), op_columns=columns, unit_columns=columns)
    values = {spec.key: np.full(2, number, np.float32) for number, spec in enumerate(specs)}
    with TraceWriter(path, layout, RunDocuments({lane: {} for lane in LANES}), portable=portable) as trace:
        trace.append_step(StepRecord(0, 0, dict.fromkeys(LANES, 1.0), values, excess={name: 2.0}))
        trace.append_units([{"step": 0, "unit": f"layer:output of {name}", "layer": name, "excess": 2.0}])
    with TraceReader(path) as reader:
        assert reader.names("activations") == [name, "dense"]
        for key, value in values.items():
            assert reader.tensor(0, *key).tobytes() == value.tobytes()
        table = reader.unit_table()
        assert (table["layer"].tolist(), table["unit"].tolist()) == ([name], [f"layer:output of {name}"])
    assert run("verify", path).code == 0
    listed = run("ls", path, "--json").document["layers"]
    assert [layer["layer"] for layer in listed] == [name, "dense"]
    assert listed[0]["worst"]["excess"] == 2.0


@given(ANYTHING)
def test_a_part_of_a_path_is_one_that_hdf5_takes(part: str) -> None:
    stored = path_part(part)
    assert stored not in ("", ".") and stored.isprintable() and len(stored.encode()) < TEXT_BYTES
    with h5py.File(f"{id(part)}", "w", driver="core", backing_store=False) as file:
        file.create_group(stored.replace("/", ""))
    assert path_part(stored) == stored


@given(ANYTHING, ANYTHING)
def test_two_texts_stay_two(a: str, b: str) -> None:
    assert (column_text(a) == column_text(b)) == (a == b)
    assert len(column_text(a).encode()) <= TEXT_BYTES


@given(st.lists(ANYTHING))
def test_a_short_text_leads_back_to_the_whole(names: list[str]) -> None:
    full = full_texts(names)
    for name in names:
        short = column_text(f"layer:gradient of {name}")
        assert full.get(short, short) == f"layer:gradient of {name}"
