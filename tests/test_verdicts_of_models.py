"""Models of public reports, in which both places do what their format can: what is said of each, end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diag import lockstep

MODELS = '''
import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
rng = np.random.default_rng(0)


class Capped(layers.Layer):
    """exp(60 x) is infinite in float32 where float64 goes on."""

    def call(self, x):
        big = tf.exp(60.0 * x)
        return tf.where(tf.math.is_finite(big), tf.math.log1p(big), 100.0 * tf.ones_like(x))


class Unit(layers.Layer):
    """A square of 1e-20 is zero in float32."""

    def call(self, x):
        square = tf.reduce_sum(tf.square(x * 1e-20), -1, keepdims=True)
        return x + tf.where(square > 0, x * tf.math.rsqrt(tf.maximum(square, 1e-37)), tf.zeros_like(x))


class Average(layers.Layer):
    """Of 65,536 numbers near 10 in float16, the sum of which TensorFlow's CPU kernel cannot hold."""

    def call(self, x):
        return tf.reduce_mean(x, [1, 2])


class Leaving(layers.Layer):
    """300 x squared is infinite in float16 as it is written, and is not where the constants are put together."""

    def call(self, x):
        return (x * 300.0) * (x * 300.0) / 30000.0


def model_with(layer):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(1, name="out")(layer(layers.Dense(8, name="mix")(inputs))))
    model.compile(keras.optimizers.SGD(1e-3, clipnorm=1.0), "mse")
    return model


def capped():
    return model_with(Capped(name="layer"))


def unit():
    return model_with(Unit(name="layer"))


def leaving():
    return model_with(Leaving(name="layer"))


def vectors():
    return rng.normal(size=(16, 6)).astype("float32") * 2, rng.normal(size=(16, 1)).astype("float32")


def averaged():
    inputs = keras.Input((256, 256, 2))
    outputs = layers.Dense(2, activation="softmax", dtype="float32", name="out")(Average(name="average")(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def bright():
    return np.full((4, 256, 256, 2), 10.0, "float32"), np.array([0, 1, 0, 1], "int32")


def pixels():
    shape = (28, 28, 1)
    inputs = keras.Input(shape)
    code = layers.Dense(8, activation="relu")(layers.Flatten()(inputs))
    model = keras.Model(inputs, layers.Reshape(shape)(layers.Dense(784, activation="sigmoid", name="pixels")(code)))

    def loss(y, p):
        return keras.ops.mean(keras.ops.sum(keras.losses.binary_crossentropy(y, p), axis=(1, 2)))

    model.compile("adam", loss)
    return model


def images():
    x = rng.uniform(size=(64, 28, 28, 1)).astype("float32")
    return x, x


def exploding():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return model


def far():
    return np.full((8, 4), 1e15, "float32"), np.zeros((8, 1), "float32")
'''


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "models.py"
    path.write_text(MODELS)
    return path


def judged(models: Path, tmp_path: Path, model: str, data: str, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report."""
    words = ["--model", f"{models}:{model}", "--data", f"{models}:{data}", "--steps", "2", "--no-attribute", "--quiet"]
    code = lockstep.main([*words, "--out", str(tmp_path / "run"), *more])
    return code, json.loads((tmp_path / "run" / "report.json").read_text())


@pytest.mark.parametrize("model, data", [("capped", "vectors"), ("unit", "vectors"), ("pixels", "images")])
def test_what_a_format_cannot_hold_is_no_fault_of_a_compiler(models, tmp_path, model, data):
    code, report = judged(
        models, tmp_path, model, data, "--candidate", "CPU:0/xla", "--batch-size", "16", "--steps", "1"
    )
    assert (code, report["first_divergence"]) == (0, None)


def test_a_reference_that_is_wrong_is_said_to_be(models, tmp_path, capsys):
    places = ("--candidate", "CPU:0/xla", "--policy", "mixed_float16", "--batch-size", "2")
    code, report = judged(models, tmp_path, "averaged", "bright", *places)
    assert (code, report["first_divergence"]) == (0, None)
    assert "average" in {error["layer"] for error in report["reference_errors"]}
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("The reference is wrong: layer average at step 0, forward")


def test_a_gradient_whose_square_overflows_in_both_is_none_of_the_device(models, tmp_path):
    """Its square is infinite in float32 and not in float64, so Adam's update is nothing where truth is a step."""
    code, report = judged(models, tmp_path, "exploding", "far", "--candidate", "CPU:0", "--batch-size", "8")
    assert (code, report["verdict"], report["first_divergence"]) == (0, "identical", None)
    assert report["shared_errors"]


def test_a_number_that_leaves_its_format_on_the_way_at_one_place_is_told_and_no_fault(models, tmp_path, capsys):
    places = ("--candidate", "CPU:0/eager", "--policy", "mixed_float16", "--batch-size", "16")
    code, report = judged(models, tmp_path, "leaving", "vectors", *places)
    assert (code, report["first_divergence"]) == (0, None)
    benign = {each["layer"]: each for each in report["lanes"]["candidate"]["judged"]["benign"]}
    assert benign["layer"]["cause"] == "intermediate-overflow"
    assert benign["layer"]["decided"].startswith("not finite in 0 elements of the reference and ")
    assert "Overflow: inside layer layer, at step 0, forward" in " ".join(capsys.readouterr().out.split())


def test_other_winners_among_equal_keys_are_no_fault_of_the_compiler(tmp_path):
    """XLA takes others than TensorFlow's kernel: a layer goes on with the reference's, and the step is not judged."""
    given = ["--model", "tests/faults/various.py:choosing", "--candidate", "CPU:0/xla", "--policy", "mixed_bfloat16"]
    given += ["--seed", "1", "--steps", "1", "--batch-size", "4", "--no-attribute", "--quiet", "--dump", "none"]
    assert lockstep.main([*given, "--out", str(tmp_path / "run")]) == 0
    notes = json.loads((tmp_path / "run" / "report.json").read_text())["notes"]
    assert any(note["text"].startswith("vectors or winners in choosing are not those of") for note in notes)


@pytest.mark.slow
def test_a_decision_about_what_a_loop_gives(tmp_path):
    """A clipped norm compares gradients that come out of a list: in the step's truth that holds float64 numbers."""
    model = ["--model", "tests/faults/modern.py:bigru", "--data", "tests/faults/various.py:padded_sentences"]
    given = [*model, "--candidate", "sim:tf32", "--units", "step", "--steps", "1", "--batch-size", "4", "--quiet"]
    assert lockstep.main([*given, "--dump", "none", "--out", str(tmp_path / "run")]) == 1
