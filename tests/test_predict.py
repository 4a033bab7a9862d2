"""`--mode predict`: what a saved model computes when it is deployed, in lockstep."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from diag import compare, lockstep, replay
from diag.report.__main__ import main as report_main
from traces.__main__ import main as traces_main
from traces.reader import TraceReader

ZOO = Path(__file__).with_name("zoo.py")
OF_TRAINING = ("loss", "training", "gradient", "backward", "adam")
FILES = """
import numpy as np
from tests import zoo

def one_unit_of_dense(call):
    if call.layer == "dense" and call.op_type == "Relu" and call.step == 1:
        wrong = call.outputs[0].copy()
        wrong[..., -1] += 0.01
        return [wrong]

def no_bias_unless_watched(graph):
    if sum(node.name.startswith("fetch/") for node in graph.node) == 1:
        for node in graph.node:
            if node.op == "BiasAdd" and "last" in node.name:
                node.op = "Identity"
                del node.input[1:]
                del node.attr["data_format"]

def read_twice():
    import keras
    x = keras.Input((5,))
    h = keras.layers.Dense(8, name="first")(x)
    y = keras.layers.Dense(8, "relu", name="second")(h)
    last = keras.layers.Dense(2, bias_initializer="ones", name="last")
    return keras.Model(x, last(keras.layers.Add(name="sum")([h, y])))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With a model that was saved and never compiled, inputs with no targets, and runs of both."""
    folder = tmp_path_factory.mktemp("predict")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, "relu", name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.5, name="drop"),
            layers.Dense(3, name="scores"),
        ]
    )
    model.save(folder / "model.keras")
    (folder / "files.py").write_text(FILES)
    np.savez(folder / "x.npz", x=np.random.default_rng(1).normal(size=(12, 5)).astype(np.float32))
    run(folder, "tf32", "--candidate", "sim:tf32", code=1)
    return folder


def run(folder: Path, name: str, *flags: str, code: int = 0, model: str = "") -> dict:
    """The report of a run of three batches into FOLDER/NAME."""
    data = () if model else ("--data", str(folder / "x.npz"))
    given = ("--mode", "predict", "--model", model or str(folder / "model.keras"), *data, "--batch-size", "4")
    assert lockstep.main([*given, "--steps", "3", "--quiet", "--out", str(folder / name), *flags]) == code
    return json.loads((folder / name / "report.json").read_text())


def test_a_saved_model_s_predictions_are_judged(folder, capsys):
    report = json.loads((folder / "tf32" / "report.json").read_text())
    first = report["first_divergence"]
    assert report["mode"] == "predict" and report["steps"] == 3
    assert (first["op_type"], first["layer"], first["cause"], first["blame"]) == (
        "MatMul", "hidden", "format:tf32-rne", "kernel",
    )  # fmt: skip
    model = keras.models.load_model(folder / "model.keras")
    with TraceReader(folder / "tf32" / "trace.h5") as trace:
        (batch,) = trace.batch(0).values()
        assert set(trace.unit_table()["phase"]) == {"forward"} and set(trace.op_table()["phase"]) == {"forward"}
        assert trace.settings["mode"] == "predict" and not any(s.kind == "update" for s in trace.layout.tensors)
    expected = float(np.mean(model.predict(batch, verbose=0), dtype=np.float64))
    assert report["lanes"]["reference"]["mean_of_the_outputs"][0] == expected


def test_reports_of_predictions_do_not_speak_of_training(folder, capsys):
    trace = str(folder / "tf32" / "trace.h5")
    for say in (
        lambda: report_main([trace, "--verbose"]),
        lambda: report_main([trace, "--issue"]),
        lambda: replay.main([trace, "--step", "1"]),
        lambda: traces_main(["ls", trace]),
    ):
        capsys.readouterr()
        say()
        said = capsys.readouterr().out.lower()
        assert said and not [word for word in OF_TRAINING if word in said]
    page = (folder / "tf32" / "report.html").read_text()
    shown = page[page.index("<body>") : page.index("<script>")].replace('id="losses"', "").lower()
    assert "mean of the outputs of both places" in shown and not [word for word in OF_TRAINING if word in shown]


def test_a_step_of_predictions_is_replayed_bit_for_bit_and_compared(folder, capsys):
    trace = str(folder / "tf32" / "trace.h5")
    assert replay.main([trace, "--step", "1", "--json"]) == 0
    lanes = json.loads(capsys.readouterr().out)["lanes"]
    assert all(lane["tensors"] and not lane["other"] and lane["mean_of_the_outputs"] for lane in lanes.values())
    assert replay.main([trace, "--step", "1", "--layer", "scores"]) == 1
    again = ("--reference", f"trace:{trace}", "--candidate", "CPU:0", "--out", str(folder / "against"), "--quiet")
    assert lockstep.main([*again, "--follow", "free"]) == 2
    assert "--follow free with --reference trace:" in capsys.readouterr().err
    assert lockstep.main(again) == 0
    assert compare.main([str(folder / "against" / "trace.h5"), trace, "--json"]) == 1


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("sim:metal-fused-dense", ("layer", 0, "dense", "missing-op", "graph-rewriter")),
        pytest.param(
            "sim:{files}:one_unit_of_dense", ("op", 1, "dense", "wrong-elements", "kernel"), marks=pytest.mark.slow
        ),
    ],
)
def test_faults_of_prediction_are_found_where_they_are(folder, tmp_path, place, found):
    place = place.format(files=folder / "files.py")
    first = run(tmp_path, "run", "--candidate", place, "--no-attribute", code=1, model=f"{ZOO}:cnn")["first_divergence"]
    assert tuple(first[key] for key in ("unit", "step", "layer", "cause", "blame")) == found


def test_a_fault_that_vanishes_when_the_step_is_watched_is_found_unwatched(folder, tmp_path, capsys):
    place = f"rewrite:{folder / 'files.py'}:no_bias_unless_watched"
    flags = ("--candidate", place, "--no-attribute", "--verbose")
    report = run(tmp_path, "run", *flags, code=1, model=f"{folder / 'files.py'}:read_twice")
    assert report["first_divergence"]["blame"] == "graph-rewriter"
    assert "vanishes when its tensors are watched" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "flags",
    [
        ("--follow", "free"), ("--follow", "candidate"), ("--twins", "3"), ("--substitute", "scores=reference"),
        ("--reference", "trace:some.h5"),
    ],
)  # fmt: skip
def test_what_predict_cannot_be_asked_is_refused_in_one_line(flags, capsys):
    assert lockstep.main(["--mode", "predict", *flags]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and " ".join(flags) in said and "--mode" in said and "leave" in said
