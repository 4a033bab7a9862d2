"""The small, sound trace that every hostile one is made of."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout, op_columns, unit_columns
from traces.writer import TraceWriter

LANES = ("reference", "candidate")
FIGURES = ("local_max", "propagated_max")


def divergence(**changed: Any) -> dict[str, Any]:
    return {
        "step": 1, "phase": "forward", "unit": "op", "op_type": "MatMul", "op_index": 7, "output": 0,
        "layer": "dense", "variable": None, "cause": "format:tf32-rne", "blame": "kernel", "excess": 611.0,
        "cured_by": [], "evidence": {}, **changed,
    }  # fmt: skip


def report(**changed: Any) -> dict[str, Any]:
    first = divergence()
    whole = {"schema": "lockstep-report/1", "verdict": "divergence", "first_divergence": first, "divergences": [first]}
    return {**whole, **changed}


def write(
    path: Path,
    *,
    layer: str = "dense",
    portable: bool = False,
    documents: dict[str, Any] | None = None,
    **reported: Any,
) -> Path:
    """Two steps of one layer, with a state, a batch, rows in both tables, a program and a report."""
    layout = TraceLayout(
        lanes=LANES,
        steps=2,
        tensors=(
            *(TensorSpec(layer, (300, 3), "float32", lane, "activations") for lane in LANES),
            *(TensorSpec(f"{layer}/kernel", (2, 3), "bfloat16", lane, "gradients") for lane in LANES),
        ),
        variables=tuple(TensorSpec(f"{layer}/kernel", (2, 3), "float32", lane) for lane in LANES),
        batch=(TensorSpec("batch_0", (2, 2), "float32"),),
        layers=(layer, "loss"),
        op_columns=op_columns(FIGURES),
        unit_columns=unit_columns(FIGURES),
    )
    given = {
        "environment": {lane: {"place": "CPU:0/graph", "tensorflow": "2.21.0"} for lane in LANES},
        "command": ["python", "-m", "diag.lockstep"],
        "seeds": {"seed": 3},
        "settings": {"follow": "free"},
        "model_config": {"class_name": "Sequential", "config": {"name": "tiny", "layers": []}},
        **(documents or {}),
    }
    random = np.random.default_rng(0)
    with TraceWriter(path, layout, RunDocuments(**given), portable=portable) as trace:
        kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
        trace.write_snapshot(0, {lane: {f"{layer}/kernel": kernel} for lane in LANES})
        trace.write_batch(0, {"batch_0": np.ones((2, 2), np.float32)})
        for step in range(2):
            values = {
                spec.key: random.integers(1, 9, spec.shape).astype("f4" if spec.dtype == "float32" else spec.dtype)
                for spec in layout.tensors
            }
            excess = {layer: 0.5}
            trace.append_step(StepRecord(step, 0, dict.fromkeys(LANES, 1.5 - step), values, excess=excess))
            row = {column.name: None for column in (*layout.op_columns, *layout.unit_columns)}
            row |= {"step": step, "layer": layer, "phase": "forward", "verdict": "rounding", "excess": 0.5, "index": 7}
            row |= {"op_type": "MatMul", "output": 0, "dtype": "float32", "shape": "300x3", "unit": "layer:output"}
            trace.append_ops([{column.name: row[column.name] for column in layout.op_columns}] * 3)
            trace.append_units([{column.name: row[column.name] for column in layout.unit_columns}])
        trace.write_program(b"a training step, as bytes")
        trace.write_report(report(**reported))
    return path


@cache
def content() -> bytes:
    """The same as bytes, written once for all that is made of it."""
    with TemporaryDirectory() as folder:
        return write(Path(folder) / "sound.h5").read_bytes()
