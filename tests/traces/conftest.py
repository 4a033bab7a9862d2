"""A small trace made by hand, of which every figure is known without the program."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from traces.__main__ import main
from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout, op_columns, unit_columns
from traces.writer import TraceWriter

LANES = ("reference", "candidate")
FIGURES = ("propagated_max", "local_max", "reference_local_max")
REPORT = {
    "schema": "lockstep-report/1",
    "verdict": "divergence",
    "first_divergence": {
        "step": 2, "phase": "forward", "unit": "op", "op_type": "MatMul", "op_index": 7, "output": 0, "layer": "dense",
        "variable": None, "cause": "format:tf32-rne", "blame": "kernel", "excess": 611.0,
    },
}  # fmt: skip


def up(value: float, steps: int, dtype: Any = np.float32) -> np.ndarray:
    """The number so many steps above, through its bits."""
    bits = np.array(value, dtype)
    return (bits.view(f"u{bits.itemsize}") + np.uint8(steps)).view(dtype)


# Row 0: 3 ULP, 1 ULP, equal. Row 1: a zero of another sign, NaN with another payload, infinity against 5.
# Row 2: NaN against a number, a subnormal, 5 ULP.
REFERENCE = np.array([[1, 2, 3], [0.0, np.nan, np.inf], [np.nan, 1e-40, -8]], np.float32)
CANDIDATE = np.array([[up(1, 3), up(2, 1), 3], [-0.0, 0, 5], [7, 1e-40, -up(8, 5)]], np.float32)
CANDIDATE[1, 1] = np.array(0x7FC00001, np.uint32).view(np.float32)

SPECS = {
    ("activations", "dense"): ((3, 3), "float32"),
    ("activations", "dense_1"): ((2, 2), "bfloat16"),
    ("activations", "tokens"): ((4,), "int64"),
    ("gradients", "dense/kernel"): ((2, 3), "float32"),
    ("gradients", "dense_1/kernel"): ((2,), "float16"),
    ("update", "dense/kernel"): ((2, 3), "float32"),
}
LAYOUT = TraceLayout(
    lanes=LANES,
    steps=6,
    tensors=tuple(TensorSpec(n, s, d, lane, k) for (k, n), (s, d) in SPECS.items() for lane in LANES),
    variables=tuple(TensorSpec("dense/kernel", (2, 3), "float32", lane) for lane in LANES),
    batch=(TensorSpec("inputs", (2, 2), "float32"),),
    layers=("dense", "dense_1", "tokens", "loss"),
    op_columns=op_columns(FIGURES),
    unit_columns=unit_columns(FIGURES),
)


def values(step: int) -> dict[tuple[str, str, str], np.ndarray]:
    """Step 0 holds the numbers above; in the others the candidate's gradients alone differ, by `step` ULP."""
    random = np.random.default_rng(step)
    made: dict[tuple[str, str, str], np.ndarray] = {}
    for (kind, name), (shape, dtype) in SPECS.items():
        value = (random.integers(1, 100, shape)).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        made["reference", kind, name] = value
        made["candidate", kind, name] = value.copy()
    made["candidate", "gradients", "dense/kernel"] = up_all(made["reference", "gradients", "dense/kernel"], step)
    if step == 0:
        made["reference", "activations", "dense"] = REFERENCE
        made["candidate", "activations", "dense"] = CANDIDATE
        made["candidate", "activations", "tokens"] = made["reference", "activations", "tokens"] + [0, 5, 0, -9]
    return made


def up_all(array: np.ndarray, steps: int) -> np.ndarray:
    return (array.view(np.uint32) + np.uint32(steps)).view(np.float32)


def unit_rows(step: int) -> list[dict[str, Any]]:
    base = {column.name: None for column in LAYOUT.unit_columns} | {"step": step, "dtype": "float32", "shape": "3x3"}
    bad = step == 2
    return [
        base | {"unit": "layer:output", "phase": "forward", "layer": "dense", "excess": 40.0 if bad else 0.25,
                "bound": 2.0, "verdict": "divergence" if bad else "rounding", "propagated_max": 12.5},
        base | {"unit": "layer:gradient of dense/kernel", "phase": "backward", "layer": "dense",
                "excess": 0.5 + step / 10, "verdict": "rounding"},
        base | {"unit": "layer:output", "phase": "forward", "layer": "dense_1", "excess": 0.0, "verdict": "identical"},
        base | {"unit": "layer:value", "phase": "optimizer", "layer": "dense", "variable": "dense/kernel",
                "verdict": "unjudged"},
    ]  # fmt: skip


def op_rows() -> list[dict[str, Any]]:
    base = {column.name: None for column in LAYOUT.op_columns} | {"step": 2, "output": 0, "dtype": "float32"}
    return [
        base | {"index": 7, "op_type": "MatMul", "phase": "forward", "layer": "dense", "shape": "3x3", "excess": 611.0,
                "bound": 16.0, "verdict": "divergence", "local_max": 9776.0, "reference_local_max": 0.5},
        base | {"index": 8, "op_type": "Relu", "phase": "forward", "layer": "dense", "shape": "3x3", "excess": 0.0,
                "verdict": "identical"},
        base | {"index": 9, "op_type": "Sum", "phase": "forward", "layer": "loss", "shape": "", "excess": 0.03,
                "verdict": "rounding"},
    ]  # fmt: skip


def write_trace(path: Path, change: Callable[[int, dict], None] | None = None, **options: Any) -> Path:
    """Steps 0, 1 and 2, of which 1 keeps only its gradients; a snapshot before step 0 and a batch."""
    environment = {lane: {"place": f"{lane}:0", "tensorflow": "2.21.0"} for lane in LANES}
    documents = RunDocuments(
        environment,
        ["python", "-m", "diag.lockstep", "--steps", "6"],
        seeds={"seed": 3},
        model_config={"class_name": "Sequential", "config": {"name": "tiny", "layers": [{}, {}]}},
    )
    with TraceWriter(path, LAYOUT, documents, **options) as trace:
        kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
        trace.write_snapshot(0, {lane: {"dense/kernel": kernel} for lane in LANES})
        trace.write_batch(5, {"inputs": np.full((2, 2), 0.5, np.float32)})
        for step in range(3):
            tensors = values(step)
            if change:
                change(step, tensors)
            keep = [key for key in tensors if key[1] == "gradients"] if step == 1 else None
            losses = {"reference": 1.5 - step, "candidate": 1.25 - step}
            trace.append_step(StepRecord(step, 5, losses, tensors, keep))
            trace.append_units(unit_rows(step))
        trace.append_ops(op_rows())
        trace.write_program(b"a training step, as bytes")
        trace.write_report(REPORT)
    return path


@dataclass(frozen=True)
class Run:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.out.splitlines()]

    @property
    def text(self) -> str:
        """What was printed, as if no line had been broken."""
        return " ".join(self.out.split())

    def line_of(self, text: str) -> str:
        found = [line for line in self.lines if text in line]
        assert len(found) == 1, f"{text!r} stands in {found or self.out}"
        return found[0]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Run a command in a terminal of 80 columns; with --json, read what it printed."""
    monkeypatch.setenv("COLUMNS", "80")

    def made(*arguments: object) -> Run:
        capsys.readouterr()
        given = [str(argument) for argument in arguments]
        code = main(given)
        captured = capsys.readouterr()
        document = json.loads(captured.out) if "--json" in given and code != 2 else {}
        return Run(code, captured.out, captured.err, document)

    return made


@pytest.fixture
def refused(run: Callable[..., Run]) -> Callable[..., str]:
    """The one line that a command which cannot do it prints, on stderr."""

    def made(*arguments: object) -> str:
        done = run(*arguments)
        assert done.code == 2
        assert done.out == ""
        assert done.err.startswith("traces: ") and done.err.count("\n") == 1
        return done.err

    return made


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trace(tmp_path_factory.mktemp("small") / "trace.h5")


@pytest.fixture
def write() -> Callable[..., Path]:
    return write_trace


@pytest.fixture
def value_of() -> Callable[[int], dict[tuple[str, str, str], np.ndarray]]:
    """What was written of a step."""
    return values
