"""The command as a whole: what it imports, how soon it starts, whom it tells what, on traces of every kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.processor_time import starts_in_half_a_second
from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout
from traces.writer import TraceWriter

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "ls": ("ls",),
    "show": ("show", "activations/dense@0"),
    "show --op": ("show", "--op", "7"),
    "diff": ("diff",),
    "export": ("export", "update@0", "--to", "out.npz"),
    "verify": ("verify",),
}


def given(command: str, path: object) -> list[str]:
    name, *rest = COMMANDS[command]
    return [name, str(path), *rest]


IMPORTED = """
import sys
from traces.__main__ import main
code = main(sys.argv[1:])
print(sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(("command", "code"), [("ls", 0), ("show", 0), ("diff", 1), ("export", 0), ("verify", 0)])
def test_tensorflow_is_never_imported(small: Path, tmp_path: Path, command: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *given(command, small)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    imported = set(eval(done.stderr.splitlines()[-1]))
    assert "h5py" in imported
    assert not imported & {"tensorflow", "keras", "pandas", "matplotlib"}
    if command not in ("show", "diff"):
        assert "numba" not in imported  # 0.3 s, which only figures of two tensors are worth


def test_a_listing_starts_in_half_a_second(small: Path) -> None:
    assert starts_in_half_a_second("-m", "traces", "ls", str(small))


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_document_with_the_name_of_its_schema(
    run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*given(command, small), "--json")
    assert done.document["schema"].startswith("lockstep-trace-") and done.document["schema"].endswith("/1")
    assert done.document["trace"] == str(small)
    assert done.err == ""
    json.dumps(done.document, allow_nan=False)  # which NaN and infinity would not survive


@pytest.mark.parametrize("command", COMMANDS)
def test_every_text_ends_with_what_to_try_next(
    run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*given(command, small))
    heading = done.lines.index("Next")
    assert done.lines[heading + 1 :] and all(line.startswith("  ") for line in done.lines[heading + 1 :])
    for line in done.lines[heading + 1 :]:
        if line.startswith("  python -m traces "):
            assert run(*line.split()[3:]).code in (0, 1), line


@pytest.mark.parametrize("command", COMMANDS)
def test_files_that_are_no_trace(
    refused, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.h5").write_text("not a trace")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["layer"] = np.ones(3)
    (tmp_path / "half.h5").write_bytes(small.read_bytes()[: small.stat().st_size // 2])
    for name, complaint in (
        ("absent.h5", "There is no trace absent.h5"),
        ("notes.h5", "is no trace but not an HDF5 file"),
        ("weights.h5", "an HDF5 file of another kind"),
        ("half.h5", "truncated or damaged"),
        (".", "There is no trace ."),
    ):
        assert complaint in refused(*given(command, name))


@pytest.mark.parametrize("part", ["layout", "units", "units/phase", "steps/extent"])
def test_a_trace_with_a_part_missing(refused, write, tmp_path: Path, part: str) -> None:
    path = write(tmp_path / "t.h5")
    with h5py.File(path, "r+") as file:
        del file[part]
    for command in ("ls", "show"):
        assert "a part is missing" in refused(*given(command, path))


def test_a_text_that_is_none(refused, write, tmp_path: Path) -> None:
    path = write(tmp_path / "t.h5")
    with h5py.File(path, "r+") as file:
        del file["command"]
        file["command"] = '["python", '
    assert "missing or damaged (command is no" in refused("ls", path)


def test_a_trace_that_is_still_written(tmp_path: Path) -> None:
    spec = TensorSpec("dense", (4,), "float32", "reference", "activations")
    layout = TraceLayout(lanes=("reference",), steps=5, tensors=(spec,))

    def command(*arguments: str) -> str:
        given = [sys.executable, "-m", "traces", arguments[0], str(tmp_path / "t.h5"), *arguments[1:]]
        return subprocess.run(given, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    with TraceWriter(tmp_path / "t.h5", layout, RunDocuments({"reference": {"place": "CPU:0"}})) as trace:
        for step in range(2):
            value = np.full(4, step + 0.5, np.float32)
            trace.append_step(StepRecord(step, 0, {"reference": 1.0}, {spec.key: value}))
            trace.flush()
            text = command("ls")
            assert f"{step + 1} whole of 5 planned" in text
            assert "none yet: the run goes on" in text
        (shown,) = json.loads(command("show", "dense@last", "--json"))["tensors"]
        assert (shown["step"], shown["statistics"][0]["mean"]) == (1, 1.5)
        assert "Sound" in command("verify")


def test_a_layer_is_the_same_in_every_command(run, tmp_path: Path) -> None:
    """The variable of an LSTM's cell is the layer's, which only the unit table says."""
    lanes = ("reference", "candidate")
    names = {"activations": "lstm", "gradients": "lstm/lstm_cell/kernel"}
    layout = TraceLayout(
        tensors=tuple(TensorSpec(n, (2,), "float32", lane, k) for k, n in names.items() for lane in lanes)
    )
    path = tmp_path / "t.h5"
    with TraceWriter(path, layout, RunDocuments({lane: {} for lane in lanes})) as trace:
        tensors = {spec.key: np.ones(2, np.float32) for spec in layout.tensors}
        trace.append_step(StepRecord(0, 0, {"reference": 1.0, "candidate": 1.0}, tensors))
        row = {column.name: None for column in layout.unit_columns}
        trace.append_units([row | {"step": 0, "unit": "layer:gradient of lstm/lstm_cell/kernel", "layer": "lstm"}])
    expected = {"activations/lstm", "gradients/lstm/lstm_cell/kernel"}
    (layer,) = run("ls", path, "lstm", "--json").document["layers"]
    assert {tensor["path"] for tensor in layer["tensors"]} == expected
    assert {view["address"] for view in run("show", path, "lstm@0", "--json").document["tensors"]} == {
        f"{name}@0" for name in expected
    }
    assert run("diff", path, "lstm", "--json").document["num_compared"] == 2
    assert len(run("export", path, "lstm", "--to", tmp_path / "t.npz", "--json").document["names"]) == 4


def test_the_last_step_is_a_whole_one(run, tmp_path: Path) -> None:
    """A state may be stored before a step that was not whole when the run was killed."""
    spec = TensorSpec("dense", (2,), "float32", "reference")
    layout = TraceLayout(
        lanes=("reference",), tensors=(TensorSpec("dense", (2,), "float32", "reference", "update"),), variables=(spec,)
    )
    with TraceWriter(tmp_path / "t.h5", layout, RunDocuments({"reference": {}})) as trace:
        value = np.ones(2, np.float32)
        for step in range(3):
            trace.write_snapshot(step, {"reference": {"dense": value}})
            if step < 2:
                trace.append_step(StepRecord(step, 0, {"reference": 1.0}, {("reference", "update", "dense"): value}))
    found = run("show", tmp_path / "t.h5", "dense@last", "--json").document["tensors"]
    assert [view["address"] for view in found] == ["update/dense@1", "snapshots/dense@1"]
    (state,) = run("show", tmp_path / "t.h5", "snapshots/dense@last", "--json").document["tensors"]
    assert state["step"] == 2


def test_a_pipe_that_closes_early_is_no_error(small: Path) -> None:
    command = f"{sys.executable} -m traces ls {small} --all | head -n 1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("trace ") and done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments", [[], ["look"], ["ls"], ["ls", "t.h5", "--nothing"], ["show", "t.h5", "x", "--worst", "0"]]
)
def test_usage_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    from traces.__main__ import main

    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    assert (stopped.value.code, captured.out) == (2, "")
    assert captured.err.count("\n") == 1 and "see --help" in captured.err


def test_a_bug_of_ours_keeps_its_traceback(run, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("forgotten")

    monkeypatch.setattr("traces.commands.ls.listing_of", broken)
    done = run("ls", small)
    assert done.code == 3
    assert "Traceback" in done.err and "forgotten" in done.err
