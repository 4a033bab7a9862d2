"""`ls` says what of a trace can be private."""

from __future__ import annotations

from pathlib import Path

import pytest

from traces.schema import RunDocuments, TraceLayout
from traces.writer import TraceWriter


def written(path: Path, **documents: object) -> Path:
    with TraceWriter(path, TraceLayout(lanes=("reference",)), RunDocuments({"reference": {}}, **documents)):  # type: ignore[arg-type]
        return path


def test_what_is_there(run, small: Path) -> None:
    said = run("ls", small, "--json").document["personal_data"]
    assert said.startswith("weights (before steps 0), training data (batches of steps 0-2), the model's computation")
    assert "no paths of files, no name of the machine" in said
    assert "holds" in run("ls", small).out


def test_what_is_not_there(run, tmp_path: Path) -> None:
    path = written(tmp_path / "t.h5")
    said = run("ls", path, "--json").document["personal_data"]
    assert said == "no weights, no training data, no model, no source code, no paths of files, no name of the machine"


@pytest.mark.parametrize(
    "text", ["/home/ada/cats", "~/cats", "../cats.npz", "C:\\cats", "models/secret.py:model", "--x=/a"]
)
def test_a_path_is_named(run, tmp_path: Path, text: str) -> None:
    path = written(tmp_path / "t.h5", command=["python", text])
    assert "paths of files (command)" in run("ls", path, "--json").document["personal_data"]


@pytest.mark.parametrize("text", ["CPU:0/graph", "float32", "--steps", "0.1", "sim:tf32/eager"])
def test_a_place_is_no_path(run, tmp_path: Path, text: str) -> None:
    path = written(tmp_path / "t.h5", command=["python", text])
    assert "no paths of files" in run("ls", path, "--json").document["personal_data"]


def test_a_machine_is_named(run, tmp_path: Path) -> None:
    path = written(tmp_path / "t.h5", settings={"hostname": "ada"})
    assert "machine or its user (settings)" in run("ls", path, "--json").document["personal_data"]
