"""One run of a study: it trains as `fit` does, goes on after a kill bit for bit, and measures as `evaluate` does."""

import keras
import numpy as np
import pytest

from diag.study.kept_epochs import read_epoch
from diag.study.run import train_one
from diag.study.run_request import RunRequest, Trainable
from diag.study.trainables import ready

MODEL = """
import keras
def model():
    layers = [keras.Input((5,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.25)]
    model = keras.Sequential([*layers, keras.layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return model
"""
EPOCHS = 3


@pytest.fixture(scope="module")
def what(tmp_path_factory):
    folder = tmp_path_factory.mktemp("what")
    (folder / "model.py").write_text(MODEL)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 5)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, y=x[:, :3].argmax(1).astype(np.int32))
    return Trainable(f"{folder}/model.py:model", f"{folder}/data.npz", None, 0.3, 8, 0, 8, False)


def request(what, folder, policy="float32", twin=0, epochs=EPOCHS):
    return RunRequest(what, "CPU:0", policy, 3, twin, epochs, str(folder), 1 << 30, None, False)


@pytest.fixture(scope="module")
def whole(what, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, train_one(**request(what, folder).arguments)


def test_the_state_is_that_of_fit_and_the_figures_are_those_of_evaluate(what, whole):
    folder, result = whole
    made = ready(what, "float32", 3)
    for step in range(EPOCHS * made.steps_per_epoch):
        batch = made.training[step]
        made.model.train_on_batch(batch.inputs, batch.targets)
    _, state = read_epoch(folder, EPOCHS)
    names = [spec.name for spec in made.program.variables]
    trained = [spec.name for spec in made.program.variables if spec.kind == "weight"]
    for weight, name in zip(made.model.trainable_weights, trained, strict=True):
        assert np.array_equal(np.asarray(weight), state["variables"][names.index(name)])
    rows = np.arange(made.validation.num_samples)
    inputs, targets = made.validation.inputs[rows], made.validation.targets[rows]
    loss, accuracy = made.model.evaluate(inputs, targets, verbose=0)
    assert result["curves"]["validation_loss"][-1] == pytest.approx(loss, rel=1e-5)
    assert result["curves"]["validation_accuracy"][-1] == pytest.approx(accuracy, abs=1e-6)
    assert (result["num_training"], result["num_validation"]) == (35, 15)


def test_a_run_that_was_ended_goes_on_bit_for_bit(what, whole, tmp_path):
    first = train_one(**request(what, tmp_path, epochs=1).arguments)["curves"]
    keras.utils.clear_session()
    again = train_one(**request(what, tmp_path).arguments)["curves"]
    for name, values in whole[1]["curves"].items():
        if name != "seconds":
            assert again[name] == values
            assert again[name][:1] == first[name]


def test_a_twin_begins_one_rounding_away_and_float64_from_the_same_weights(what):
    base = ready(what, "float32", 3)
    wide = ready(what, "float64", 3)
    for narrow, exact in zip(base.model.weights, wide.model.weights, strict=True):
        assert np.array_equal(np.asarray(narrow), np.asarray(exact))
    assert "float64" in {weight.dtype for weight in wide.model.weights}


def test_a_twin_is_another_run(what, whole, tmp_path):
    twin = train_one(**request(what, tmp_path, twin=1, epochs=1).arguments)["curves"]
    assert twin["loss"][0] == pytest.approx(whole[1]["curves"]["loss"][0], rel=1e-4)
    states = [read_epoch(folder, 1)[1]["variables"] for folder in (tmp_path, whole[0])]
    assert not all(np.array_equal(x, y) for x, y in zip(*states, strict=True))
