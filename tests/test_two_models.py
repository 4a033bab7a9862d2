"""`--candidate-model`: is a second saved model of the same architecture the same model?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from diag import attribute, lockstep, replay
from diag.engine.runs.carrying import RUN_DATA
from diag.report.weights import weights_sentence
from diag.verdict.findings import Cause
from diag.verdict.weights import LayerDifference, PredictionDifference, WeightComparison, WeightDifference

Change = Callable[[list[np.ndarray]], list[np.ndarray]]
PLACE = ("--candidate", "sim:tf32", "--no-attribute")


def made(**settings: object) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, **{"activation": "relu", **settings}, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.5, name="drop"),
            layers.Dense(8, name="second"),
            layers.Dense(3, name="scores"),
        ],
        name="model",
    )
    model.get_layer("norm").set_weights([np.linspace(0.5, 1.5, 8, dtype=np.float32)] * 4)
    return model


def save(path: Path, **changes: Change) -> Path:
    model = made()
    for name, change in changes.items():
        layer = model.get_layer(name)
        layer.set_weights(change(layer.get_weights()))
    model.save(path)
    return path


def converted(folder: Path) -> Path:
    """As a script that moves weights over may leave them."""
    return save(
        folder / "converted.keras",
        first=lambda w: [w[0].astype(np.float16).astype(np.float32), w[1]],
        norm=lambda w: [*w[:2], np.zeros_like(w[2]), np.ones_like(w[3])],
        second=lambda w: [w[0].T, w[1]],
    )


def run(folder: Path, second: Path, *flags: str, code: int) -> dict:
    out = folder / f"run{len(list(folder.glob('run*')))}"
    given = ("--mode", "predict", "--model", str(folder / "a.keras"), "--candidate-model", str(second), "--quiet")
    data = ("--data", str(folder / "x.npz"), "--batch-size", "4", "--steps", "3", "--out", str(out))
    assert lockstep.main([*given, *data, *flags]) == code
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save(folder / "a.keras")
    np.savez(folder / "x.npz", x=np.random.default_rng(1).normal(size=(12, 6)).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def report(folder) -> dict:
    return run(folder, converted(folder), code=1)


def test_which_weights_differ_and_how(report):
    differing = {each["variable"]: (each["cause"], each["layer"]) for each in report["weights"]["differing"]}
    assert differing == {
        "first/kernel": ("format:fp16", "first"),
        "norm/moving_mean": ("skipped-update", "norm"),
        "norm/moving_variance": ("skipped-update", "norm"),
        "second/kernel": ("permuted", "second"),
    }
    first = report["first_divergence"]
    assert report["verdict"] == "divergence" and report["weights"]["num_compared"] == 10
    assert [first[key] for key in ("unit", "phase", "layer", "variable", "cause", "blame")] == [
        "layer", "forward", "first", "first/kernel", "format:fp16", "none",
    ]  # fmt: skip
    assert [each["layer"] for each in report["divergences"]] == ["first", "norm", "second"]
    assert {layer["layer"]: layer["excess"] > 1 for layer in report["weights"]["layers"]} == {
        "first": True, "norm": True, "second": True, "scores": False, "drop": False, "model": False,
    }  # fmt: skip


def test_what_they_do_to_layers_and_predictions(folder, report, capsys):
    a, b = (keras.models.load_model(folder / name) for name in ("a.keras", "converted.keras"))
    with np.load(folder / "x.npz") as file:
        ours, theirs = (model.predict(file["x"], verbose=0).astype(np.float64) for model in (a, b))
    found = report["weights"]["predictions"]
    assert found["difference"] == pytest.approx(np.linalg.norm(theirs - ours) / np.linalg.norm(ours), rel=1e-5)
    assert found["largest"] == pytest.approx(np.abs(theirs - ours).max(), rel=1e-5) and found["num_classified"] == 12
    assert found["num_other_class"] == np.count_nonzero(ours.argmax(1) != theirs.argmax(1))
    first, *_, last = report["weights"]["layers"]
    assert first["own"] == pytest.approx(first["apart"], rel=1e-3) and 1e-5 < first["own"] < 1e-3
    assert last["own"] == 0 and last["apart"] > 0.1
    trace = report["files"]["trace"]
    assert replay.main([trace, "--step", "1", "--json"]) == 0  # each lane with its own weights
    assert attribute.main([trace]) == 2 and "weights that differ, which no switch changes" in capsys.readouterr().err


def test_what_is_wrong_with_the_place_has_no_part_in_it(folder, report):
    at_tf32 = run(folder, folder / "converted.keras", *PLACE, code=1)
    assert at_tf32["weights"]["layers"] == report["weights"]["layers"]
    causes = {(each["unit"], each["layer"], each["cause"], each["blame"]) for each in at_tf32["divergences"]}
    assert ("op", "first", "format:tf32-rne", "kernel") in causes and (
        "layer",
        "first",
        "format:fp16",
        "none",
    ) in causes
    said = at_tf32["weights"]["sentence"]
    assert said.startswith("Not the same model: 4 of 10 weights differ, ") and "first/kernel (the reference's" in said


def test_the_same_model_and_one_of_other_last_bits(folder, capsys):
    same = run(folder, save(folder / "same.keras"), code=0)
    assert same["verdict"] == "identical" and same["first_divergence"] is None and not same["weights"]["differing"]
    assert "All 10 weights of" in capsys.readouterr().out
    rounded = run(folder, save(folder / "r.keras", second=lambda w: [np.nextafter(w[0], np.float32(9)), w[1]]), code=0)
    assert rounded["verdict"] == "rounding" and rounded["first_divergence"] is None
    assert [(each["variable"], each["cause"]) for each in rounded["weights"]["differing"]] == [
        ("second/kernel", "rounding")
    ]
    assert "The same model but for rounding" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--mode", "predict", "--model", "{a}", "--candidate-model", "{other}", "--data", "{x}"),
         "first at layer first: activation relu and tanh"),
        (("--mode", "predict", "--model", "{a}", "--candidate-model", "none.keras", "--data", "{x}"),
         "--candidate-model none.keras: there is no such file"),
        (("--model", "{a}", "--candidate-model", "{a}"), "without --mode predict"),
        (("--mode", "predict", "--candidate-model", "{a}"), "without --model"),
        (("--mode", "predict", "--model", "{a}", "--candidate-model", "{a}", "--units", "step"), "leave --units out"),
        (("--reference", "trace:some.h5", "--candidate-model", "{a}"), "leave --candidate-model out"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_in_one_line(folder, tmp_path, capsys, flags, said):
    if "{other}" in flags:
        made(activation="tanh").save(folder / "other.keras")
    names = {"a": folder / "a.keras", "other": folder / "other.keras", "x": folder / "x.npz"}
    assert lockstep.main([*(flag.format(**names) for flag in flags), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err.strip()
    assert said in err and "\n" not in err and not (tmp_path / "out" / "trace.h5").exists()


def test_what_a_killed_run_has_found_goes_on_and_what_was_not_judged_is_said():
    weight = WeightDifference("a/kernel", "a", Cause("scaled", "2 times the reference's"), 1.0, 4, 4)
    layers = (LayerDifference("a", 1e-6, 0.5, 1e-6, 0.0), LayerDifference("b", 0.0, 0.0, 1e-3, 1e-6))
    x, y = np.array([[1.0, 2.0], [3.0, 1.0]]), np.array([[2.0, 1.0], [3.0, 1.0]])
    predictions = PredictionDifference().with_step([(x, y)]).with_step([(x, x)])
    assert (predictions.num_other_class, predictions.num_classified, predictions.largest) == (1, 4, 1.0)
    assert predictions.relative == np.sqrt(2 / 30)
    assert predictions.with_step([(x, np.full_like(x, np.nan))]).largest == np.inf
    known = WeightComparison("b.keras", 1, (weight,), layers, predictions, ("a/kernel",))
    assert RUN_DATA.decode(*RUN_DATA.encode(known)) == known
    said = weights_sentence(known)
    assert (
        "The layers that read a/kernel are no units of their own" in said and "In b outputs are apart by 0.1%" in said
    )
