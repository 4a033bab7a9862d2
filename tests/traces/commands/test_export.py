"""`export`: the same bits in other programs' files, and never half a file."""

from __future__ import annotations

import csv
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest

from traces.schema import RunDocuments, TraceLayout
from traces.writer import TraceWriter


def test_tensors_go_out_bit_for_bit(run, small: Path, tmp_path: Path, value_of) -> None:
    done = run("export", small, "--to", tmp_path / "all.npz")
    assert done.code == 0
    # 12 tensors of steps 0 and 2, 4 of step 1, a batch of each step, the snapshot of both lanes.
    assert done.lines[0] == f"Wrote {tmp_path / 'all.npz'}"
    assert done.lines[1].startswith("33 tensors, ")
    assert "8 tensors left out: only a checksum is stored" in done.out
    with np.load(tmp_path / "all.npz", allow_pickle=False) as file:
        assert len(file.files) == 12 + 4 + 12 + 3 + 2
        for (lane, kind, name), value in value_of(0).items():
            found = file[f"{kind}/{name}@0:{lane}"]
            assert found.shape == value.shape
            if value.dtype.name == "bfloat16":
                bits = value.view(np.uint16).astype(np.uint32) << 16
                assert found.dtype == np.float32 and found.tobytes() == bits.tobytes()
            else:
                assert found.dtype == value.dtype and found.tobytes() == value.tobytes()
        assert np.all(file["batches/inputs@1"] == 0.5)
        assert file["snapshots/dense/kernel@0:candidate"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("gradients/dense/*@1",), {"gradients/dense/kernel@1:reference", "gradients/dense/kernel@1:candidate"}),
        (("update", "--steps", "0", "--lane", "candidate"), {"update/dense/kernel@0:candidate"}),
        (("batches@last",), {"batches/inputs@2"}),
        (("*/dense/kernel@0:candidate",), {f"{kind}/dense/kernel@0:candidate" for kind in (
            "gradients", "update", "snapshots")}),
    ],
)  # fmt: skip
def test_a_pattern_chooses(run, small: Path, tmp_path: Path, arguments: tuple[str, ...], names: set[str]) -> None:
    done = run("export", small, *arguments, "--to", tmp_path / "some.npz", "--json")
    assert done.document["schema"] == "lockstep-trace-export/1"
    assert set(done.document["names"]) == names
    with np.load(tmp_path / "some.npz") as file:
        assert set(file.files) == names


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_reads_back_to_the_same_numbers(run, small: Path, tmp_path: Path) -> None:
    run("export", small, "--to", tmp_path / "units.csv", "--table", "units")
    rows = rows_of(tmp_path / "units.csv")
    assert len(rows) == 12
    gradient = [row for row in rows if row["unit"] == "layer:gradient of dense/kernel"]
    assert [float(row["excess"]) for row in gradient] == [0.5, 0.5 + 1 / 10, 0.5 + 2 / 10]
    assert gradient[0]["bound"] == ""  # missing
    run("export", small, "--to", tmp_path / "ops.csv")
    assert [(row["index"], row["op_type"]) for row in rows_of(tmp_path / "ops.csv")] == [
        ("7", "MatMul"), ("8", "Relu"), ("9", "Sum"),
    ]  # fmt: skip


def test_rows_are_chosen_too_and_losses_are_a_table(run, small: Path, tmp_path: Path) -> None:
    run("export", small, "dense*@1-2", "--to", tmp_path / "units.csv", "--table", "units")
    assert {(row["step"], row["layer"]) for row in rows_of(tmp_path / "units.csv")} == {
        (step, layer) for step in "12" for layer in ("dense", "dense_1")
    }
    run("export", small, "--to", tmp_path / "steps.csv", "--table", "steps")
    assert rows_of(tmp_path / "steps.csv")[1] == {"step": "1", "loss/reference": "0.5", "loss/candidate": "0.25"}


def test_infinities_stay_infinite(run, tmp_path: Path) -> None:
    layout = TraceLayout()
    with TraceWriter(tmp_path / "t.h5", layout, RunDocuments({"reference": {}, "candidate": {}})) as trace:
        row = {column.name: None for column in layout.op_columns}
        trace.append_ops([row | {"step": 0, "layer": 'a "b", c', "excess": math.inf}])
    run("export", tmp_path / "t.h5", "--to", tmp_path / "ops.csv")
    (row,) = rows_of(tmp_path / "ops.csv")
    assert (float(row["excess"]), row["bound"], row["layer"], row["index"]) == (math.inf, "", 'a "b", c', "-1")


def test_a_file_is_overwritten_only_by_force(run, refused, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept.npz"
    out.write_text("mine")
    assert "exists already; name another file, or overwrite it with --force" in refused("export", small, "--to", out)
    assert out.read_text() == "mine"
    assert run("export", small, "--to", out, "--force").code == 0
    assert zipfile.is_zipfile(out)


@pytest.mark.parametrize("name", ["all.npz", "ops.csv"])
def test_a_disk_that_fails_leaves_no_half_file(
    refused, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.lib.format.write_array", fail)
    monkeypatch.setattr("traces.inspector.exporting._field", fail)
    (tmp_path / name).write_text("mine")
    assert "No space left on device" in refused("export", small, "--to", tmp_path / name, "--force")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_disk_without_the_room_is_refused_before_anything_is_written(
    refused, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    # gradients/dense/kernel: 2 x 3 float32 in two lanes and three steps
    assert "144 B are to be written and 100 B are free" in refused(
        "export", small, "gradients/dense/kernel", "--to", tmp_path / "g.npz"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--to", "out.parquet"), "expected a name that ends in .npz or .csv"),
        (("--to", "out.npz", "--table", "ops"), "--table ops is for a .csv file"),
        (("--to", "absent/out.npz"), "there is no folder"),
        (("update@1", "--to", "out.npz"), "names no value is stored"),
        (("pool", "--to", "out.csv"), "no row that was asked for"),
        (("--to", "out.csv", "--steps", "9"), "no step 9"),
    ],
)
def test_what_cannot_be_exported(
    refused, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complaint in refused("export", small, *arguments)
    assert not list(tmp_path.iterdir())
