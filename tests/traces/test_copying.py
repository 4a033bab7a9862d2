"""The first rows of a trace in one of their own, as if no others had been written; the trace stays as it was."""

from __future__ import annotations

import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  registers the filters the tensors are compressed with
import numpy as np
import pytest

from tests.traces.test_kill import endless_run, wait_for
from traces.__main__ import main
from traces.reader import TraceReader
from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout
from traces.writer import TraceWriter

LANES = ("reference", "candidate")
LAYOUT = TraceLayout(
    tensors=tuple(
        TensorSpec(n, s, "float32", lane, "k") for n, s in (("big", (40, 30)), ("small", (3,))) for lane in LANES
    ),
    variables=tuple(TensorSpec("kernel", (3,), "float32", lane) for lane in LANES),
    batch=(TensorSpec("inputs", (4,), "float32"),),
)
DOCUMENTS = RunDocuments({lane: {} for lane in LANES})


def write(trace: TraceWriter, steps: range) -> None:
    for step in steps:
        trace.write_batch(step, {"inputs": np.full(4, step, np.float32)})
        trace.write_snapshot(step, {lane: {"kernel": np.full(3, step, np.float32)} for lane in LANES})
        trace.write_program(b"step %d" % step)
        tensors = {spec.key: np.full(spec.shape, step + 0.5, np.float32) for spec in LAYOUT.tensors}
        keep = [key for key in tensors if step % 3 != 1 or key[2] == "small"]
        trace.append_step(StepRecord(step, step, dict.fromkeys(LANES, step / 3), tensors, keep))


def contents(path: Path) -> dict[str, bytes]:
    """Every dataset but the checksums of documents, among them that of the time when the trace was made."""
    found: dict[str, bytes] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.update({name: np.asarray(item[()]).tobytes()}) if hasattr(item, "shape") else None
        )
    del found["checksums"]
    return found


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("kept", [0, 1, pytest.param(700, marks=pytest.mark.slow)])
def test_a_trace_goes_on_from_any_of_its_rows(kept, portable, tmp_path):
    """700 rows: more than one chunk of numbers, and the last not full."""
    total = kept + 5
    whole, cut = tmp_path / "whole.h5", tmp_path / "cut.h5"
    with TraceWriter(whole, LAYOUT, DOCUMENTS, portable=portable) as trace:
        write(trace, range(total))
    with TraceWriter(cut, LAYOUT, DOCUMENTS, portable=portable) as trace:
        write(trace, range(kept))
        num_rows = trace.num_rows()
        write(trace, range(kept, kept + 3))
    with TraceReader(cut) as old:
        trace = TraceWriter(cut, LAYOUT, DOCUMENTS, portable=portable, earlier=old.first_rows(num_rows))
    with trace:
        write(trace, range(kept, total))
    assert contents(cut) == contents(whole)
    assert main(["verify", str(cut)]) == 0


def test_a_killed_trace_goes_on(tmp_path):
    path = tmp_path / "trace.h5"
    with endless_run(path) as run:
        wait_for(path)
        deadline = time.monotonic() + 60
        while not path.exists() or num_steps(path) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        run.kill()
        run.wait()
    with TraceReader(path) as old:
        before = {step: row.tolist() for step, row in old.checksums_of_steps().items()}
        num_rows = old.num_rows()
        documents = RunDocuments({lane: old.environment(lane) for lane in old.layout.lanes})
        trace = TraceWriter(path, old.layout, documents, earlier=old.first_rows(num_rows))
    trace.close()
    with TraceReader(path) as new:
        assert {step: row.tolist() for step, row in new.checksums_of_steps().items()} == before
        assert new.num_rows() == num_rows


def num_steps(path: Path) -> int:
    with TraceReader(path) as trace:
        return len(trace.steps)
