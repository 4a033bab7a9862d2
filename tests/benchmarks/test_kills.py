"""The benchmark of kills finds a trace that is not whole; tests/traces/test_kill.py kills in the test suite."""

from __future__ import annotations

from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  registers the filters the tensors are compressed with
import numpy as np
import pytest

from benchmarks import kills
from benchmarks.kills import Kill, disagreements, inspect
from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout
from traces.writer import TraceWriter

LANES = ("reference", "candidate")
LAYOUT = TraceLayout(
    tensors=tuple(TensorSpec("dense", (40, 30), "float32", lane, "gradient") for lane in LANES),
    variables=tuple(TensorSpec("kernel", (3,), "float32", lane) for lane in LANES),
    batch=(TensorSpec("inputs", (4,), "float32"),),
)


def record(path: Path, num_steps: int) -> None:
    with TraceWriter(path, LAYOUT, RunDocuments({lane: {} for lane in LANES})) as trace:
        trace.write_program(b"a step")
        trace.write_batch(0, {"inputs": np.ones(4, np.float32)})
        trace.write_snapshot(0, {lane: {"kernel": np.ones(3, np.float32)} for lane in LANES})
        for step in range(num_steps):
            tensors = {spec.key: np.full(spec.shape, step, np.float32) for spec in LAYOUT.tensors}
            trace.append_step(StepRecord(step, 0, dict.fromkeys(LANES, 0.0), tensors))


def test_a_whole_trace_passes(tmp_path: Path) -> None:
    record(tmp_path / "trace.h5", 3)
    found = inspect(tmp_path / "trace.h5", 1.0, seen=2, was_killed=True)
    assert (found.failures, found.steps) == ([], 3)
    assert found.num_values == 3 * 2 + 3 + 2  # tensors, the batch with each step, the snapshot


def test_a_step_that_is_gone_is_found(tmp_path: Path) -> None:
    record(tmp_path / "trace.h5", 3)
    (failure,) = inspect(tmp_path / "trace.h5", 1.0, seen=4, was_killed=True).failures
    assert "4 steps were seen before" in failure


def test_a_changed_value_is_found(tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"
    for name in ("steps/tensors/gradient/dense/candidate", "snapshots/tensors/kernel/reference", "steps/checksum"):
        record(path, 2)
        with h5py.File(path, "r+") as file:
            values = file[name][0]
            values[(0,) * values.ndim] += 1
            file[name][0] = values
        failures = inspect(path, 1.0, seen=0, was_killed=True).failures
        assert failures and "is not what was handed over" in failures[0], name
        path.unlink()


def test_runs_that_differ_are_found() -> None:
    whole = Kill(2.0, 2, 2, 0, {0: (1,), 1: (2,)}, [])
    same, other = Kill(1.0, 1, 1, 0, {0: (1,)}, []), Kill(1.5, 1, 1, 0, {0: (7,)}, [])
    assert disagreements([same, whole]) == []
    (found,) = disagreements([same, other, whole])
    assert "step 0" in found and "1.50 s" in found


@pytest.mark.parametrize(("last", "code"), [("0.5", 0), ("0.25", 1)])
def test_a_study_whose_table_is_another_after_kills_is_found(monkeypatch, capsys, last, code):
    lives = []

    def outlives(out, moment):
        """Killed in its first two lives; the seconds of each are others."""
        lives.append(moment)
        out.mkdir(exist_ok=True)
        value = last if len(lives) > 1 else "0.5"
        (out / "results.csv").write_text(f"epoch,loss,seconds\n1,{value},{len(lives)}\n")
        return moment is not None and len(lives) < 4

    monkeypatch.setattr(kills, "outlives", outlives)
    assert kills.kill_studies(2, seed=0) == code
    assert ("ANOTHER" in capsys.readouterr().out) == bool(code)
    assert [moment is None for moment in lives] == [True, False, False, True]
