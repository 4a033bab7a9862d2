"""A place in a trace is text, and so is all that it names; who records what others have to trust is told so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from diag import attribute, compare, lockstep, replay
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


MODEL = """
import keras, tensorflow as tf

class Says(keras.layers.Layer):
    def call(self, x):
        tf.print("seen")
        return x

def model():
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(3), Says(name="says")])
"""


def test_who_records_a_step_that_does_more_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    out = tmp_path / "run"
    model = ["--model", f"{tmp_path / 'model.py'}:model", "--batch-size", "4", "--steps", "1", "--units", "step"]
    assert lockstep.main([*model, "--candidate", "CPU:0", "--out", str(out), "--quiet"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "replayed elsewhere only with --trust" in said and "PrintV2 (prints, on the screen or into a file)" in said
    assert replay.main([str(out / "trace.h5"), "--step", "0"]) == 2
    assert "StringFormat" in capsys.readouterr().err
    assert replay.main([str(out / "trace.h5"), "--step", "0", "--trust"]) == 0
