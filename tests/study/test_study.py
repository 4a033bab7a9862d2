"""A whole study in process: its files, what it says, what it refuses, and how it goes on."""

import csv
import json
from pkgutil import resolve_name

import h5py
import numpy as np
import pytest
import tensorflow as tf

from diag.common.task import Done
from diag.study import figures, request, studying
from diag.study.__main__ import main

EPOCHS = 4


def curves_of(arguments):
    """A place that collapses after two epochs in float32, and is as good as the reference in float16."""
    rng = np.random.default_rng([arguments["seed"], arguments["twin"]])
    accuracy = 0.8 - 0.4 / np.arange(1, EPOCHS + 1) + rng.normal(0, 0.002, EPOCHS)
    if arguments["place"].startswith("sim:") and arguments["policy"] == "float32":
        accuracy[2:] = 0.5
    curves = {"loss": 1 - accuracy, "accuracy": accuracy, "validation_loss": 1 - accuracy}
    curves |= {"validation_accuracy": accuracy, "seconds": rng.uniform(1, 2, EPOCHS)}
    return {
        "curves": {name: list(map(float, values)) for name, values in curves.items()},
        "model": "tiny", "num_training": 30, "num_validation": 1000, "environment": {},
    }  # fmt: skip


@pytest.fixture
def made_up(monkeypatch):
    """Every run is made up, and none is a process."""
    asked = []

    def run(tasks, folder, *, jobs, cluster):
        for task in tasks:
            asked.append(task)
            yield Done(task.key, curves_of(task.arguments))

    monkeypatch.setattr(studying.sweep, "run", run)
    return asked


@pytest.fixture
def runs(made_up, monkeypatch):
    """As `made_up`, where matplotlib is not installed: figures take seconds."""

    def without(findings):
        raise ImportError("matplotlib")

    monkeypatch.setattr(figures, "figures_of", without)
    return made_up


WORDS = ["--epochs", str(EPOCHS), "--policies", "float32,mixed_float16", "--places", "CPU:0,sim:tf32", "--quiet"]


def test_what_a_study_writes_and_says(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*WORDS, "--out", str(out), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["schema"], report["verdict"]) == ("lockstep-study/1", "departure")
    assert [(each["place"], each["policy"], each["epoch"]) for each in report["left"]] == [("sim:tf32", "float32", 3)]
    assert any("matplotlib" in note for note in report["notes"])
    assert len(runs) == len({task.key for task in runs}) == 2 * 3 * 3  # policies, seeds, two places and a twin
    with open(out / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(runs) * EPOCHS
    with h5py.File(out / "curves.h5") as file:
        group = file["CPU:0/float32"]
        assert group["validation_accuracy"].shape == (6, EPOCHS)
        first = [r for r in rows if (r["place"], r["policy"], r["seed"], r["twin"]) == ("CPU:0", "float32", "0", "0")]
        assert [float(r["validation_accuracy"]) for r in first] == list(group["validation_accuracy"][0])
    page = (out / "report.html").read_text()
    assert "SIMULATED" in page and "leaves the band of CPU:0 at epoch 3" in page


def test_it_goes_on_with_the_same_flags_alone(runs, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main([*WORDS, "--out", out]) == 1
    assert main([*WORDS, "--out", out]) == 1
    assert main([*WORDS, "--out", out, "--seeds", "4"]) == 2
    assert "seeds 3, not 4" in capsys.readouterr().err


def test_only_what_trains_on_a_gpu_sees_and_waits_for_one(runs, tmp_path):
    words = ["--epochs", str(EPOCHS), "--seeds", "1", "--quiet", "--out", str(tmp_path / "out")]
    main([*words, "--places", "CPU:0,GPU:0/xla", "--policies", "float32"])
    hidden = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"}
    assert [(task.environment, task.resources) for task in runs] == [(hidden, {}), (hidden, {}), ({}, {"GPU": 1})]


@pytest.mark.parametrize(("gpus", "place"), [(["GPU:0"], "GPU:0"), ([], "sim:metal-fused-dense")])
def test_without_places_the_candidate_is_that_of_lockstep_also_when_the_study_goes_on(
    gpus, place, runs, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(request, "run_task", lambda task: Done(task.key, resolve_name(task.function)()))
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: gpus)
    words = ["--epochs", "1", "--seeds", "1", "--policies", "float32", "--out", str(tmp_path / "out")]
    main(words)
    assert [task.arguments["place"] for task in runs] == ["CPU:0", "CPU:0", place]
    assert place in capsys.readouterr().err.splitlines()[0]
    monkeypatch.delattr(request, "run_task")  # its folder says which places
    main([*words, "--quiet"])
    assert [task.arguments["place"] for task in runs[3:]] == ["CPU:0", "CPU:0", place]


def test_a_healthy_candidate_stays(runs, tmp_path, capsys):
    assert main([*WORDS, "--out", str(tmp_path / "out"), "--policies", "mixed_float16"]) == 0
    assert "Validation accuracy, best and last" in capsys.readouterr().out


def test_of_a_model_without_accuracy_the_loss_is_shown(runs, monkeypatch, tmp_path, capsys):
    whole = curves_of

    def without(arguments):
        value = whole(arguments)
        nothing = dict.fromkeys(("accuracy", "validation_accuracy"), ["nan"] * EPOCHS)
        return {**value, "curves": {**value["curves"], **nothing}}

    monkeypatch.setitem(globals(), "curves_of", without)
    assert main([*WORDS, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    (row,) = [line.split() for line in said.splitlines() if line.split()[:2] == ["CPU:0", "float32"]]
    assert "Validation loss, best and last" in said and float(row[2]) == pytest.approx(0.3, abs=0.01)


def test_figures(made_up, tmp_path):
    pytest.importorskip("matplotlib")
    main([*WORDS, "--out", str(tmp_path / "out")])
    for name in ("curves", "policies", "best"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (tmp_path / "out" / f"{name}.svg").read_bytes()
    assert "data:image/png;base64," in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policies", "float8"], "expected some of float32"),
        (["--places", "CPU:0/float16"], "policies are those of --policies"),
        (["--places", "cpu0"], "is no place"),
        (["--places", "CPU:0,CPU:0"], "one is named twice"),
        (["--validation-split", "1"], "above 0 and below 1"),
        (["--places", "CPU:0", "--diagnose"], "expected a candidate"),
        (["--places", ","], "names none"),
        (["--cluster", "tcp://127.0.0.1:1"], "needs --places"),
    ],
)
def test_what_cannot_be_asked_is_one_line(words, said, capsys, tmp_path):
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_that_cannot_be_done_ends_the_study_in_one_line(monkeypatch, tmp_path, capsys):
    def run(tasks, folder, *, jobs, cluster):
        yield Done(tasks[0].key, error="--model none.keras: there is no such file")

    monkeypatch.setattr(studying.sweep, "run", run)
    assert main([*WORDS, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "study: --model none.keras: there is no such file\n"
    assert not (tmp_path / "out").exists()  # it may be asked for otherwise
