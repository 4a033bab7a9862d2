"""What a person or a caller gets wrong is said at once, in one line, and writes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest

from diag.errors import UserError
from traces.reader import TraceReader
from traces.schema import Column, RunDocuments, StepRecord, TensorKey, TensorSpec, TraceLayout
from traces.writer import TraceWriter

LANES = ("reference", "candidate")
LAYOUT = TraceLayout(
    tensors=tuple(TensorSpec("dense", (4, 3), "float32", lane, "update") for lane in LANES),
    batch=(TensorSpec("inputs", (4, 3), "float32"),),
    op_columns=(Column("step", "int64"), Column("layer", "text")),
)


def write(path: Path) -> TraceWriter:
    return TraceWriter(path, LAYOUT, RunDocuments({lane: {} for lane in LANES}))


def assert_refused(path: Path, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        TraceReader(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(path), "expected", *parts):
        assert part in message


def test_no_such_file(tmp_path: Path) -> None:
    assert_refused(tmp_path / "trace.h5", "There is no trace")
    assert_refused(tmp_path, "There is no trace")


def test_a_file_that_is_no_trace(tmp_path: Path) -> None:
    text = tmp_path / "notes.h5"
    text.write_text("not a trace at all")
    assert_refused(text, "not an HDF5 file")
    weights = tmp_path / "weights.h5"
    with h5py.File(weights, "w") as file:
        file["layer"] = np.ones(3)
    assert_refused(weights, "an HDF5 file of another kind")


def test_a_newer_schema(tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"
    with write(path):
        pass
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = "lockstep-trace/2"
    assert_refused(path, "lockstep-trace/2", "expected at most lockstep-trace/1", "install a newer")


@pytest.mark.parametrize("part", ["layout", "steps", "reports", "programs/stop"])
def test_a_trace_that_lacks_a_part(tmp_path: Path, part: str) -> None:
    path = tmp_path / "trace.h5"
    with write(path):
        pass
    with h5py.File(path, "r+") as file:
        del file[part]
    assert_refused(path, "a part is missing or damaged", part.split("/")[-1], "record the run again")


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"lanes": ["reference"]}', b"\xff"])
def test_a_layout_that_makes_no_sense(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "trace.h5"
    with write(path):
        pass
    with h5py.File(path, "r+") as file:
        del file["layout"]
        file["layout"] = np.bytes_(text)
    assert_refused(path, "a part is missing or damaged")


def test_a_trace_another_process_has_locked(tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"
    with write(path):
        pass
    hold = f"import h5py; file = h5py.File({str(path)!r}, 'r+'); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert_refused(path, "another process has it locked")
        holder.communicate("\n")


def test_an_unfinished_trace_is_open_once_in_a_process(tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"
    with write(path):
        assert_refused(path, "this process has it open already")


def test_a_folder_that_does_not_exist_or_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (tmp_path / "absent" / "trace.h5", file / "trace.h5"):
        with pytest.raises(UserError, match=r"Cannot create the trace .* choose another output folder"):
            write(path)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        write(tmp_path / "trace.h5")


def test_a_trace_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"
    path.write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        write(path)
    assert path.read_text() == "precious"


def dense(lane: str, shape: tuple[int, ...] = (4, 3), dtype: str = "float32") -> dict[TensorKey, np.ndarray]:
    return {(lane, "update", "dense"): np.zeros(shape, dtype)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({("reference", "update", "conv"): np.zeros(3)}, "no such tensor"),
        (dense("reference", (5, 3)), "Expected at most"),
        (dense("reference", (4,)), "Expected at most"),
        (dense("reference", dtype="float64"), "Received: float64"),
        (dense("candidate"), "beside it"),
        ({**dense("candidate"), **dense("reference", (3, 3))}, "beside it"),
    ],
)
def test_a_step_the_layout_does_not_hold(tmp_path: Path, tensors: Mapping[TensorKey, np.ndarray], message: str) -> None:
    with write(tmp_path / "trace.h5") as trace, pytest.raises(ValueError, match=message):
        trace.append_step(StepRecord(0, 0, {lane: 0.0 for lane in LANES}, tensors))
    with TraceReader(tmp_path / "trace.h5") as reader:
        assert reader.steps == []


def test_rows_the_layout_does_not_hold(tmp_path: Path) -> None:
    with write(tmp_path / "trace.h5") as trace:
        with pytest.raises(ValueError, match="must have the columns"):
            trace.append_ops([{"step": 0}])
        trace.write_batch(0, {"inputs": np.zeros((4, 3), np.float32)})
        with pytest.raises(ValueError, match="stored once"):
            trace.write_batch(0, {"inputs": np.zeros((4, 3), np.float32)})
    with pytest.raises(ValueError, match="closed"):
        trace.append_ops([{"step": 0, "layer": "x"}])


def test_no_module_here_imports_tensorflow() -> None:
    check = "import sys, traces.writer, traces.reader; sys.exit('tensorflow' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", check], cwd=root, check=False).returncode == 0
