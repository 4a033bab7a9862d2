"""A run that writes steps until it is killed.

It prints each step's number once that step is on file. What it writes follows from the step alone,
so that a reader can tell every bit it should find.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from diag.errors import UserError
from traces.schema import Column, RunDocuments, StepRecord, TensorSpec, TraceLayout
from traces.writer import TraceWriter

LANES = ("reference", "candidate")
SHAPES = {("activation", "conv"): (8, 40, 50), ("gradient", "conv/bias"): (7,), ("update", "dense"): (64, 9)}
LAYOUT = TraceLayout(
    tensors=tuple(
        TensorSpec(name, shape, "float32", lane, kind) for (kind, name), shape in SHAPES.items() for lane in LANES
    ),
    variables=tuple(TensorSpec("dense", (64, 9), "float32", lane) for lane in LANES),
    batch=(TensorSpec("inputs", (8, 3), "float32"),),
    layers=("conv", "dense"),
    op_columns=(Column("step", "int64"), Column("op_type", "text"), Column("excess", "float64")),
)


def bits(step: int, shape: tuple[int, ...], lane: str = "reference") -> np.ndarray:
    """Any 32 bits at all, NaN payloads among them, and a candidate a few ULP away."""
    random = np.random.default_rng(step)
    reference = random.integers(0, 1 << 32, shape, np.uint32)
    if lane == "candidate":
        reference += random.integers(0, 4, shape, np.uint32)
    return reference.view(np.float32)


def tensors(step: int) -> dict[tuple[str, str, str], np.ndarray]:
    return {(spec.lane, spec.kind, spec.name): bits(step, spec.shape, spec.lane) for spec in LAYOUT.tensors}


def kept(step: int) -> list[tuple[str, str, str]]:
    """Every third step is kept whole, of the others the gradients; their rest leaves a checksum."""
    return [spec.key for spec in LAYOUT.tensors if step % 3 == 0 or spec.kind == "gradient"]


def excess(step: int) -> dict[str, float]:
    return {"conv": step / 2, "dense": step / 3}


def program(step: int) -> bytes:
    return bytes([step % 256]) * (step % 5) * 100


def ops(step: int) -> list[dict[str, object]]:
    return [{"step": step, "op_type": f"Op{row}", "excess": row / 4} for row in range(70)]


def write(path: str, num_steps: int) -> None:
    environment = {lane: {"device": "CPU:0"} for lane in LANES}
    with TraceWriter(path, LAYOUT, RunDocuments(environment, command=["endless"], seeds={"seed": 3})) as trace:
        for step in range(num_steps):
            trace.write_batch(step, {"inputs": bits(step, (8, 3))})
            trace.write_snapshot(step, {lane: {"dense": bits(step, (64, 9), lane)} for lane in LANES})
            trace.write_program(program(step))
            losses = {lane: step / 8 for lane in LANES}
            trace.append_step(StepRecord(step, step, losses, tensors(step), kept(step), excess(step)))
            trace.append_ops(ops(step))
            trace.write_report({"steps": step})
            trace.flush()
            print(step, flush=True)


def limit_file_size(num_bytes: int) -> None:
    """Have every write beyond fail, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("--steps", type=int, default=1 << 30)
    parser.add_argument("--file-size", type=int)
    arguments = parser.parse_args()
    if arguments.file_size:
        limit_file_size(arguments.file_size)
    try:
        write(arguments.path, arguments.steps)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
