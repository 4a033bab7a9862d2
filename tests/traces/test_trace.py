"""What is written to a trace is read from it, by our reader and by plain h5py."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

from traces.reader import TraceReader
from traces.schema import Column, RunDocuments, StepRecord, TensorKey, TensorSpec, TraceLayout, op_columns
from traces.writer import TraceWriter

LANES = ("reference", "candidate")
SHAPES = {
    "conv": ((4, 30, 31), "float32"),
    "block": ((4, 3), "float32"),
    "block/reference": ((4, 300), "bfloat16"),
    "half": ((4, 500), "float16"),
    "mixed": ((4, 700), "float32"),  # the candidate's is bfloat16
    "wide": ((4, 200), "float64"),
    "complex": ((4, 100), "complex128"),
    "mask": ((4, 2000), "bool"),
    "tokens": ((4, 9), "int64"),
    "scalar": ((), "float32"),
    "none": ((0, 5), "float32"),
}


def own_dtype(lane: str, name: str) -> str:
    return "bfloat16" if (lane, name) == ("candidate", "mixed") else SHAPES[name][1]


LAYOUT = TraceLayout(
    steps=9,
    tensors=tuple(
        TensorSpec(name, SHAPES[name][0], own_dtype(lane, name), lane, "activation")
        for lane in LANES
        for name in SHAPES
    ),
    variables=tuple(TensorSpec(name, (3, 5), "float32", lane) for name in ("dense/kernel", "m") for lane in LANES),
    batch=(TensorSpec("inputs", (4, 3), "float32"), TensorSpec("targets", (4,), "int32")),
    op_columns=op_columns(("max_ulp",)),
    unit_columns=(Column("layer", "text"), Column("excess", "float64")),
)


def any_bits(spec: TensorSpec, seed: int, rows: int | None = None) -> np.ndarray:
    """Random bits, so NaN payloads of both kinds, infinities, subnormals and both zeros."""
    shape = spec.shape if rows is None or not spec.shape else (min(rows, spec.shape[0]), *spec.shape[1:])
    random = np.random.default_rng([seed, len(spec.name)])
    dtype = np.dtype(spec.dtype)
    count = int(np.prod(shape))
    if spec.dtype == "bool":
        return random.integers(0, 2, shape).astype(bool)
    return random.integers(0, 256, count * dtype.itemsize, np.uint8).view(dtype).reshape(shape)


def any_step(step: int, rows: int | None = None) -> dict[TensorKey, np.ndarray]:
    return {spec.key: any_bits(spec, step, rows) for spec in LAYOUT.tensors}


def write(path: Path, settings: dict[str, Any] | None = None, **options: Any) -> TraceWriter:
    return TraceWriter(
        path,
        LAYOUT,
        RunDocuments(
            environment={lane: {"device": lane, "tf32": False} for lane in LANES},
            command=["python", "-m", "diag.lockstep"],
            seeds={"numpy": 1},
            model_config={"class_name": "Sequential"},
            settings=settings or {},
        ),
        **options,
    )


def losses(step: int) -> dict[str, float]:
    return {"reference": step + 0.5, "candidate": step + 0.25}


def assert_same_bits(read: np.ndarray, written: np.ndarray) -> None:
    assert read.dtype == written.dtype
    assert read.shape == written.shape
    assert read.tobytes() == written.tobytes()


@pytest.mark.parametrize("portable", [False, True])
def test_tensors_come_back_bit_for_bit(tmp_path: Path, portable: bool) -> None:
    with write(tmp_path / "trace.h5", portable=portable) as trace:
        for step in range(3):
            rows = 2 if step == 2 else None  # a last, partial batch
            trace.append_step(StepRecord(step, 0, losses(step), any_step(step, rows)))
    with TraceReader(tmp_path / "trace.h5") as trace:
        assert trace.steps == [0, 1, 2]
        assert trace.names("activation") == list(SHAPES)
        for step in trace.steps:
            for key, written in any_step(step, 2 if step == 2 else None).items():
                assert_same_bits(trace.tensor(step, *key), written)
        np.testing.assert_array_equal(trace.losses["candidate"], [0.25, 1.25, 2.25])


def test_a_step_may_leave_tensors_out(tmp_path: Path) -> None:
    step = any_step(0)
    some = {key: step[key] for key in step if key[2] == "conv"}
    with write(tmp_path / "trace.h5") as trace:
        for number, tensors in enumerate(({}, some, {})):
            trace.append_step(StepRecord(number, 0, losses(number), tensors))
    with TraceReader(tmp_path / "trace.h5") as trace:
        assert_same_bits(trace.tensor(1, "candidate", "activation", "conv"), some["candidate", "activation", "conv"])
        for number, name in ((0, "conv"), (1, "half"), (2, "conv")):
            with pytest.raises(KeyError, match="was written without"):
                trace.tensor(number, "candidate", "activation", name)
        with pytest.raises(KeyError, match="has no step 3"):
            trace.tensor(3, "candidate", "activation", "conv")


def test_what_surrounds_the_steps_comes_back(tmp_path: Path) -> None:
    state = {lane: {"dense/kernel": any_bits(LAYOUT.variables[0], seed)} for seed, lane in enumerate(LANES)}
    batch = {"inputs": np.ones((3, 3), np.float32), "targets": np.arange(3, dtype=np.int32)}
    with write(tmp_path / "trace.h5") as trace:
        trace.write_snapshot(0, state)
        trace.write_batch(7, batch)
        trace.write_snapshot(5, {"reference": state["candidate"]})
        trace.append_step(StepRecord(0, 7, losses(0)))
        trace.append_step(StepRecord(1, 7, losses(1)))
        trace.write_report({"verdict": "rounding"})
        trace.write_report({"verdict": "divergence"})
    with TraceReader(tmp_path / "trace.h5") as trace:
        assert trace.command == ["python", "-m", "diag.lockstep"]
        assert trace.environment("candidate") == {"device": "candidate", "tf32": False}
        assert trace.seeds == {"numpy": 1}
        assert trace.model_config == {"class_name": "Sequential"}
        assert trace.layout == LAYOUT
        assert trace.report() == {"verdict": "divergence"}
        assert trace.snapshots == [0, 5]
        for lane in LANES:
            assert trace.snapshot(0, lane).keys() == {"dense/kernel"}
            assert_same_bits(trace.snapshot(0, lane)["dense/kernel"], state[lane]["dense/kernel"])
        assert_same_bits(trace.snapshot(5, "reference")["dense/kernel"], state["candidate"]["dense/kernel"])
        for name, written in batch.items():
            assert_same_bits(trace.batch(1)[name], written)


def op_row(**values: object) -> dict[str, object]:
    names = {column.name: None for column in LAYOUT.op_columns}
    assert values.keys() <= names.keys()
    return {**names, **values}


def test_the_tables_come_back_as_columns(tmp_path: Path) -> None:
    rows = [op_row(step=0, index=index, op_type="MatMul", max_ulp=index / 2) for index in range(700)]
    rows[3] = op_row(step=1, layer="Ünïcode", excess=float("inf"))
    with write(tmp_path / "trace.h5") as trace:
        trace.append_ops(rows[:600])
        trace.append_ops([])
        last = rows[600:]
        by_column: dict[str, Sequence[object]] = {name: [row[name] for row in last] for name in last[0]}
        trace.append_ops(by_column | {"max_ulp": np.arange(600, 700) / 2})
        trace.append_units([{"layer": "dense", "excess": 2.5}])
    with TraceReader(tmp_path / "trace.h5") as trace:
        ops = trace.op_table()
        assert list(ops) == [column.name for column in LAYOUT.op_columns]
        assert {len(column) for column in ops.values()} == {700}
        assert (ops["step"][3], ops["layer"][3], ops["excess"][3]) == (1, "Ünïcode", np.inf)
        assert (ops["index"][3], ops["op_type"][3], np.isnan(ops["max_ulp"][3])) == (-1, "", True)
        np.testing.assert_array_equal(ops["max_ulp"][4:], np.arange(4, 700) / 2)
        assert {name: list(column) for name, column in trace.unit_table().items()} == {
            "layer": ["dense"],
            "excess": [2.5],
        }


@pytest.mark.parametrize(
    "columns", [{"layer": ["dense"]}, {"layer": ["dense"], "excess": [1.0, 2.0]}, {"layer": [], "excess": [], "x": []}]
)
def test_columns_of_other_names_or_lengths_are_refused(columns: dict[str, list[object]], tmp_path: Path) -> None:
    with write(tmp_path / "trace.h5") as trace, pytest.raises(ValueError, match="units must have the columns"):
        trace.append_units(columns)


def test_an_empty_trace_reads_as_empty(tmp_path: Path) -> None:
    with write(tmp_path / "trace.h5"):
        pass
    with TraceReader(tmp_path / "trace.h5") as trace:
        assert (trace.steps, trace.snapshots, trace.report()) == ([], [], None)
        assert trace.op_table()["excess"].size == 0
        assert (trace.excess.shape, trace.programs, trace.settings) == ((0, 0), [], {})


PLAIN_READER = """
import sys, h5py, json
with h5py.File(sys.argv[1]) as file:
    assert file.attrs["schema"] == "lockstep-trace/1"
    steps = file["steps"]
    pair = steps["tensors/activation/conv"]
    half = steps["tensors/activation/half/candidate"]
    assert half.attrs["dtype"] == "float16" and half.dtype == "float32"
    assert steps["complete"][()] == 1 and steps["loss/candidate"][0] == 0.25
    assert json.loads(file["command"][()])[0] == "python"
    sys.stdout.buffer.write(pair["reference"][0].tobytes() + pair["candidate"][0].tobytes())
assert "hdf5plugin" not in sys.modules
"""


def test_a_portable_trace_needs_only_h5py(tmp_path: Path) -> None:
    path, step = tmp_path / "trace.h5", any_step(0)
    with write(path, portable=True) as trace:
        trace.append_step(StepRecord(0, 0, losses(0), step))
    read = subprocess.run([sys.executable, "-c", PLAIN_READER, path], capture_output=True, check=True).stdout
    assert read == b"".join(step[lane, "activation", "conv"].tobytes() for lane in LANES)


def test_the_candidate_lies_on_file_as_a_difference(tmp_path: Path) -> None:
    path, step = tmp_path / "trace.h5", any_step(0)
    reference = step["reference", "activation", "conv"]
    step["candidate", "activation", "conv"] = (reference.view(np.uint32) + np.uint32(3)).view(np.float32)
    with write(path) as trace:
        trace.append_step(StepRecord(0, 0, losses(0), step))
    with h5py.File(path) as file:
        candidate = file["steps/tensors/activation/conv/candidate"]
        assert candidate.dtype == np.int32
        assert np.all(candidate[0] == 3)
        assert file[candidate.attrs["difference_from"]] == file["steps/tensors/activation/conv/reference"]
        assert candidate.id.get_storage_size() < candidate.nbytes / 50
        assert json.loads(file["layout"][()])["steps"] == 9


def test_16_bit_floats_of_another_lane_are_differences_too(tmp_path: Path) -> None:
    spec = TensorSpec("mixed", (4, 700), "bfloat16")
    assert any_bits(spec, 0).dtype == ml_dtypes.bfloat16
    with write(tmp_path / "trace.h5") as trace:
        trace.append_step(StepRecord(0, 0, losses(0), any_step(0)))
    with h5py.File(tmp_path / "trace.h5") as file:
        mixed = file["steps/tensors/activation/mixed"]
        assert (mixed["reference"].dtype, mixed["candidate"].dtype) == (np.float32, np.int32)
        assert mixed["candidate"].attrs["dtype"] == "bfloat16"
        assert "difference_from" not in file["steps/tensors/activation/complex/candidate"].attrs


def test_programs_come_back_byte_for_byte(tmp_path: Path) -> None:
    programs = [bytes(range(256)) * 300, b"", b"\0", bytes(70_000)]
    with write(tmp_path / "trace.h5") as trace:
        for program in programs:
            trace.write_program(program)
    with TraceReader(tmp_path / "trace.h5") as trace:
        assert trace.programs == programs


def test_how_the_run_went_comes_back(tmp_path: Path) -> None:
    with write(tmp_path / "trace.h5", settings={"follow": "free", "steps": 4}) as trace:
        trace.write_batch(0, {"inputs": np.ones((4, 3), np.float32)})
        for step in range(4):
            trace.append_step(StepRecord(step, step // 3, losses(step), checked=step in (0, 2)))
    with TraceReader(tmp_path / "trace.h5") as trace:
        assert trace.settings == {"follow": "free", "steps": 4}
        assert trace.schema == "lockstep-trace/1"
        assert trace.steps_with_batches == [0, 1, 2]
        with pytest.raises(KeyError, match="has no step 4"):
            trace.kept_in(4)
    with h5py.File(tmp_path / "trace.h5") as file:
        assert file["steps/checked"][()].tolist() == [1, 0, 1, 0]


def test_the_excess_of_each_layer_comes_back(tmp_path: Path) -> None:
    layout = TraceLayout(lanes=("reference",), layers=("conv", "Größe", "dense"))
    with TraceWriter(tmp_path / "trace.h5", layout, RunDocuments({"reference": {}})) as trace:
        trace.append_step(StepRecord(0, 0, {"reference": 1.0}, excess={"dense": 0.25, "conv": np.inf}))
        trace.append_step(StepRecord(1, 0, {"reference": 1.0}))
        with pytest.raises(ValueError, match="no such layer"):
            trace.append_step(StepRecord(2, 0, {"reference": 1.0}, excess={"pool": 1.0}))
    with TraceReader(tmp_path / "trace.h5") as trace:
        assert trace.layout == layout
        np.testing.assert_array_equal(trace.excess, [[np.inf, np.nan, 0.25], [np.nan] * 3])
