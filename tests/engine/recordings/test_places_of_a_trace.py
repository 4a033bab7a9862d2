"""A place in a trace is text, and so is all that it names; who records what others have to trust is told so."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from diag import attribute, compare, lockstep, replay
from diag.engine.faults.catalogue import simulation_of
from diag.engine.recordings.recorded_run import RecordedRun
from diag.errors import UserError
from diag.machine.places import parse_place
from tests import traced


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """The candidate's place is a Python file that leaves a mark when it is imported."""
    (tmp_path / "theirs.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n\ndef fault(call):\n    return None\n"
    )
    path = tmp_path / "trace.h5"
    shutil.copy(traced.cpu(), path)
    with h5py.File(path, "r+") as file:
        document = json.loads(file["environment/candidate"][()])
        text = json.dumps({**document, "place": place(tmp_path)}).encode()
        del file["environment/candidate"]
        file.create_dataset("environment/candidate", data=np.array(text, h5py.string_dtype("utf-8", len(text))))
    return path


def place(folder: Path) -> str:
    return f"sim:{folder / 'theirs.py'}:fault/graph"


def test_no_file_is_run_because_a_trace_names_it(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for code, call, words in (
        (2, replay.main, [str(trace), "--step", "1"]),
        (2, replay.main, [str(trace), "--step", "1", "--layer", "dense"]),
        (2, attribute.main, [str(trace), "--step", "1"]),
        (0, replay.main, [str(trace), "--step", "1", "--place", "CPU:0"]),
        (0, compare.main, [str(traced.cpu()), str(trace)]),
        (
            0,
            lockstep.main,
            ["--reference", f"trace:{trace}", "--candidate", "CPU:0", "--out", str(trace.parent / "run")],
        ),
    ):
        capsys.readouterr()
        assert call(words) == code, words
        err = capsys.readouterr().err
        assert not (trace.parent / "ran").exists()
        assert code == 0 or "no file is run because a trace names it; if it is yours, name it yourself: --place" in err


def test_a_file_that_a_person_names_is_run(trace: Path) -> None:
    assert replay.main([str(trace), "--step", "1", "--lane", "candidate", "--place", place(trace.parent)]) in (0, 1)
    assert (trace.parent / "ran").exists()


def test_no_way_to_a_lane_runs_a_file_that_nobody_named(trace: Path) -> None:
    """Whoever forgets to ask meets it where the file would be loaded."""
    with RecordedRun(trace) as recorded:
        place_of_trace = recorded.place("candidate")
    with pytest.raises(UserError, match="no file is run because a trace names it"):
        simulation_of(place_of_trace)
    assert not (trace.parent / "ran").exists()
    assert simulation_of(parse_place(place(trace.parent))) is not None


def test_a_switch_that_no_file_may_set_is_said_not_to_be_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = f"--xla_dump_to={tmp_path}/dump"
    monkeypatch.setenv("XLA_FLAGS", flags)  # TensorFlow, loaded already, does not see it
    path = traced.trace(*traced.MLP, *traced.QUICK, "--candidate", "CPU:0/eager", "--twins", "0")
    monkeypatch.delenv("XLA_FLAGS")
    assert replay.main([str(path), "--step", "0", "--lane", "reference"]) == 0
    said = "".join(capsys.readouterr().out.split())  # a path is broken where the line ends
    assert f"not in force, since no file may set it so: XLA_FLAGS={flags}".replace(" ", "") in said
    assert "XLA_FLAGS" not in os.environ


def test_the_steps_before_are_run_elsewhere_and_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The candidate leads, at a place of a Python file: named, it is run there; not named, somewhere else."""
    file = tmp_path / "ours.py"
    file.write_text("def fault(call):\n    return None\n")
    path = traced.trace(*traced.MLP, *traced.QUICK, *traced.FEW_STATES, "--candidate", f"sim:{file}:fault",
                        "--follow", "candidate", "--twins", "0")  # fmt: skip
    assert replay.main([str(path), "--step", "1", "--lane", "candidate", "--place", f"sim:{file}:fault"]) == 0
    assert "the steps before are run at" not in capsys.readouterr().out
    file.write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n{file.read_text()}")
    assert replay.main([str(path), "--step", "1", "--lane", "reference"]) in (0, 1)
    assert "the steps before are run at CPU:0/graph: nobody named" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "ran").exists()


MODEL = """
import keras, tensorflow as tf

class Says(keras.layers.Layer):
    def call(self, x):
        tf.print("seen", tf.reduce_mean(x))
        return x

def model():
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(3), Says(name="says")])
"""


def test_who_records_a_step_that_does_more_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    out = tmp_path / "run"
    model = ["--model", f"{tmp_path / 'model.py'}:model", "--batch-size", "4", "--steps", "1", "--units", "step"]
    assert lockstep.main([*model, "--candidate", "CPU:0", "--out", str(out), "--verbose", "--quiet"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "replayed elsewhere only with --trust" in said and "PrintV2 (prints, on the screen or into a file)" in said
    assert replay.main([str(out / "trace.h5"), "--step", "0"]) == 2
    assert "StringFormat" in capsys.readouterr().err
    assert replay.main([str(out / "trace.h5"), "--step", "0", "--trust"]) == 0
