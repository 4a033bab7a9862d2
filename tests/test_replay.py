"""`python -m diag.replay`: in a process of its own, without the model's code; what it prints, writes and refuses."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diag import replay
from diag.engine.recordings.recording import Recording
from tests import traced
from traces.reader import TraceReader

MODELS = "tests/engine/recordings/replayed_models.py"


def json_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


# ---- in another process, without the model


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace, copied whole while its run went on, of a model whose file is gone since."""
    folder = tmp_path_factory.mktemp("own")
    model = folder / "model.py"
    shutil.copy(MODELS, model)
    copied = folder / "unfinished.h5"
    finish = Recording.finish

    def copy_and_finish(self: Recording, result: Any) -> None:
        self.writer.flush()
        shutil.copy(self.writer.path, copied)
        finish(self, result)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recording, "finish", copy_and_finish)
        traced.trace("--model", f"{model}:own", "--data", f"{model}:ten", "--batch-size", "4", "--steps", "3",
                     "--candidate", "CPU:0/eager", "--follow", "free", "--twins", "0",
                     "--snapshot-every", "2")  # fmt: skip
    model.unlink()
    return copied


def test_a_fresh_process_replays_an_unfinished_trace_without_the_model(own: Path) -> None:
    command = [sys.executable, "-m", "diag.replay", str(own), "--step", "1", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert document["schema"] == "lockstep-replay/1" and document["verdict"] == "exact"
    with TraceReader(own) as reader:
        shown = len(reader.layout.tensors) // 2
        losses = {lane: values[1] for lane, values in reader.losses.items()}
    for lane, found in document["lanes"].items():
        assert found["tensors"] == found["same"] == shown and found["other"] == found["given"] == []
        assert found["loss"] == {"recorded": losses[lane], "replayed": losses[lane]}
        assert found["from_snapshot"] == 0 and found["state_reproduced"] is True


@pytest.mark.parametrize("step", [0, 2])
def test_the_other_steps_of_it_replay_too(own: Path, step: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main([str(own), "--step", str(step)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("reproduced bit for bit") == 2 and "note" not in said


# ---- what is printed


@pytest.fixture(scope="module")
def tf32() -> Path:
    return traced.tf32()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("part", [["--lane", "reference"], ["--layer", "dense"], ["--op", "4"]])
def test_no_line_is_wider_than_the_console_and_no_name_is_folded(
    tf32: Path, part: list[str], width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    replay.main([str(tf32), "--step", "1", "--place", "sim:tf32", *part])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= width for line in lines if not line.lstrip().startswith("python -m"))
    start = next(number for number, line in enumerate(lines) if line.startswith("───"))
    rows = [line for line in lines[start + 1 :] if line.strip() and line[0] not in " IN0123456789"]
    assert rows and all(line.rstrip()[-1] in "0123456789-" for line in rows if "python" not in line)


def test_other_bits_are_exit_code_one_with_the_command_to_ask_next(
    tf32: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay.main([str(tf32), "--step", "0", "--lane", "reference", "--place", "sim:tf32"]) == 1
    said = capsys.readouterr().out
    assert "with other bits, first activations of dense" in " ".join(said.split())
    assert f"python -m diag.lockstep --reference trace:{tf32} --candidate sim:tf32/graph" in said


def test_the_json_of_other_bits_lists_each_tensor(tf32: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main([str(tf32), "--step", "0", "--lane", "reference", "--place", "sim:tf32", "--json"]) == 1
    document = json_of(capsys)
    assert document["verdict"] == "other-bits" and document["step"] == 0 and document["trace"] == str(tf32)
    (lane,) = document["lanes"].values()
    assert lane["recorded_place"] == "CPU:0/graph" and lane["place"] == "sim:tf32/graph"
    assert lane["same"] + len(lane["other"]) == lane["tensors"]
    first = lane["other"][0]
    assert first["kind"] == "activations" and first["outcome"] == "other" and first["shape"] == [4, 8]
    assert first["from_recorded"].keys() == {"num_unequal", "max_ulp", "normwise_relative_error"}


def test_a_part_is_judged_and_its_json_says_how(tf32: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main([str(tf32), "--step", "1", "--layer", "dense", "--json"]) == 1
    document = json_of(capsys)
    assert document["schema"] == "lockstep-replay/1" and document["verdict"] == "divergence"
    assert document["place"] == "sim:tf32/graph"
    assert {"dense"} <= {output["name"] for output in document["outputs"] if output["verdict"] == "divergence"}
    assert replay.main([str(tf32), "--step", "1", "--layer", "dense", "--place", "CPU:0", "--json"]) == 0
    assert json_of(capsys)["verdict"] == "rounding"


# ---- a program of its own


def ended(program: Path) -> object:
    """How a program ends."""
    with pytest.raises(SystemExit) as exit:
        runpy.run_path(str(program))
    return exit.value.code


def test_a_fresh_process_without_this_project_runs_an_emitted_program(tf32: Path, tmp_path: Path) -> None:
    made = tmp_path / "reproducer.py"
    assert replay.main([str(tf32), "--step", "1", "--layer", "dense", "--place", "CPU:0", "--emit", str(made)]) == 0
    done = subprocess.run([sys.executable, "-I", made.name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "gradient of dense/kernel: error" in done.stdout and done.stdout.splitlines()[-1].startswith("PASS on CPU:0")


def test_a_simulated_place_is_refused_before_tensorflow_is_loaded(tf32: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from diag import replay; "
        f"code = replay.main([{str(tf32)!r}, '--step', '1', '--op', '1', '--emit', {str(tmp_path / 'a.py')!r}]); "
        "sys.exit(9 if 'tensorflow' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "is simulated" in done.stderr and done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("part", [["--layer", "dense_1"], ["--op", "1"]])
def test_an_emitted_program_runs_on_nothing_but_its_files(
    tf32: Path, part: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "reproducer.py"
    given = [str(tf32), "--step", "1", *part, "--place", "CPU:0", "--emit", str(made)]
    assert replay.main(given) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reproducer.npz", "reproducer.py"]
    lines = made.read_text().splitlines()
    assert len(lines) <= 20 and lines[1] == "import pathlib, sys, numpy as np, tensorflow as tf"
    assert "Written by TensorFlow" in lines[0] and "NumPy" in lines[0]
    capsys.readouterr()
    assert ended(made) == 0
    said = capsys.readouterr().out.splitlines()
    found = [re.search(r": error (\S+), bound (\S+): PASS$", line) for line in said[:-1]]
    assert found and all(each and float(each[1]) <= float(each[2]) for each in found) and said[-1].startswith("PASS on")
    with np.load(made.with_suffix(".npz")) as file:
        data = dict(file)
    data["right_0"] = data["right_0"] + 1e-3 * np.max(np.abs(data["right_0"]))  # what TF32 would be off by
    np.savez(made.with_suffix(".npz"), **data)
    assert ended(made) == 1
    assert ": FAIL" in (told := capsys.readouterr().out) and told.splitlines()[-1].startswith("FAIL on CPU:0")
    assert replay.main(given) == 2 and "exists already" in capsys.readouterr().err
    assert replay.main([*given[:-1], str(tmp_path / "again.py"), "--json"]) == 0
    assert json_of(capsys)["emitted_holds"].startswith("again.npz holds ")


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--step", "9"], "holds the steps 0-2"),
        (["--step", "1", "--place", "GPU:0"], "has no GPU:0"),
        (["--step", "1", "--place", "nowhere"], "'nowhere' is no place"),
        (["--step", "1", "--place", "sim:no-such"], "sim:no-such is unknown"),
        (["--step", "1", "--place", "CPU:0/graph/mixed_float16"], "computes in float32"),
        (["--step", "1", "--op", "4000"], "has the ops 0 to"),
        (["--step", "1", "--layer", "conv"], "it has dense, dense_1, dense_2"),
        (["--step", "1", "--layer", "dense", "--op", "1"], "one at a time"),
        (["--step", "1", "--from", "2"], "is after --step 1"),
        (["--step", "1", "--seed", "1"], "no random stream"),
        (["--step", "1", "--emit", "{folder}/a.py"], "--op I or --layer NAME"),
        (["--step", "1", "--op", "1", "--emit", "{folder}/a.txt"], "ends in .py"),
        (["--step", "1", "--op", "1", "--emit", "{folder}/none/a.py"], "no folder"),
        (["--step", "1", "--op", "1", "--emit", "{folder}/a.py"], "is simulated"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(
    tf32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert replay.main([str(tf32), *(argument.format(folder=tmp_path) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [[], ["a.h5"], ["a.h5", "--step", "-1"], ["a.h5", "--step", "x"], ["a.h5", "--step", "1", "--op", "-1"],
     ["a.h5", "--step", "1", "--seed", "4294967296"],
     ["a.h5", "--step", "1", "--lane", "twin"], ["a.h5", "--step", "1", "--tf32", "maybe"]],
)  # fmt: skip
def test_usage_is_refused_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        replay.main(arguments)
    assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_a_model_that_cannot_be_stored_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    trace = traced.trace("--model", f"{MODELS}:calls_python", *traced.MLP[2:], "--candidate", "CPU:0", *traced.QUICK)
    assert replay.main([str(trace), "--step", "0"]) == 2
    said = capsys.readouterr().err
    assert "calls a Python function" in said and f"{MODELS}:calls_python" in said and said.count("\n") == 1
