"""Data made up to fit a model."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from diag.engine.training.data import Batches, load_batches
from diag.engine.training.models import prepare_training
from diag.engine.training.signature import InputSpec, OutputSpec, Signature, signature_of
from diag.errors import UserError

IMAGES = Signature((InputSpec("image", (8, 8, 3)),), (OutputSpec("kind", (2,), "softmax"),))
NUMBERS = Signature((InputSpec("x", (4,)),), (OutputSpec("kind", (3,), "softmax"),))


def load(spec: str | Path | None, signature: Signature | None = NUMBERS, **changes) -> Batches:
    settings = {"batch_size": 4, "steps": 3, "seed": 7} | changes
    return load_batches(spec if spec is None else str(spec), signature=signature, **settings)


def test_generated_images_are_seeded_balanced_and_bounded():
    batches = load(None, IMAGES, batch_size=10, steps=3)
    batch = batches[0]
    assert batch.inputs.shape == (10, 8, 8, 3) and batch.inputs.dtype == np.float32
    assert batch.inputs.min() >= 0 and batch.inputs.max() <= 1
    labels = np.concatenate([batches[k].targets for k in range(3)])
    assert np.bincount(labels).tolist() == [15, 15]
    np.testing.assert_array_equal(load(None, IMAGES, batch_size=10)[2].inputs, batches[2].inputs)
    assert batches.description.source == "generated images"
    assert load(None, IMAGES, steps=1000).description.num_samples == 32


def test_generated_classes_are_told_apart_by_their_nearest_mean_but_for_one_in_six():
    batches = load(None, IMAGES, batch_size=600, steps=2)
    train, test = batches[0], batches[1]
    means = np.stack([train.inputs[train.targets == c].mean(axis=0) for c in (0, 1)])
    distance = ((test.inputs[:, None] - means) ** 2).sum(axis=(2, 3, 4))
    wrong = (distance.argmin(axis=1) != test.targets).mean()
    assert abs(wrong - 1 / 6) < 4 * np.sqrt(1 / 6 * 5 / 6 / 600)  # of 600 drawn, within four deviations


def test_generated_data_fit_models_of_several_inputs_and_losses():
    tokens, image = keras.Input((5,), dtype="int32", name="tokens"), keras.Input((4, 4, 1), name="image")
    joined = keras.layers.Concatenate()(
        [keras.layers.Flatten()(keras.layers.Embedding(11, 2)(tokens)), keras.layers.Flatten()(image)]
    )
    outputs = {
        "kind": keras.layers.Dense(3)(joined),
        "tags": keras.layers.Dense(2, "sigmoid")(joined),
        "size": keras.layers.Dense(1)(joined),
    }
    model = keras.Model({"tokens": tokens, "image": image}, outputs)
    batch = load(None, signature_of(model))[0]
    assert batch.inputs["tokens"].max() < 11 and batch.inputs["tokens"].dtype == np.int32
    assert batch.inputs["image"].shape == (4, 4, 4, 1)
    training = prepare_training(model, batch.inputs, batch.targets)
    assert {loss.output: loss.name for loss in training.losses} == {
        "kind": "sparse_categorical_crossentropy",
        "tags": "binary_crossentropy",
        "size": "mean_squared_error",
    }


@pytest.mark.parametrize(
    ("loss", "shape", "dtype"),
    [
        ("categorical_crossentropy", (4, 3), np.float32),
        ("sparse_categorical_crossentropy", (4,), np.int32),
        ("mse", (4, 3), np.float32),
        (keras.losses.BinaryCrossentropy(), (4, 3), np.float32),
    ],
)
def test_generated_targets_fit_the_compiled_loss(loss, shape, dtype):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    model.compile(loss=loss)
    targets = load(None, signature_of(model))[0].targets
    assert (targets.shape, targets.dtype) == (shape, dtype)


def one_input(shape: tuple[int | None, ...], dtype: str = "float32") -> tuple[InputSpec, ...]:
    return (InputSpec("x", shape, dtype),)


@pytest.mark.parametrize(
    ("signature", "part"),
    [
        (None, "not built"),
        (Signature(one_input((None, 3)), NUMBERS.outputs), "leaves a size open"),
        (Signature(one_input((3,), "int32"), NUMBERS.outputs), "no Embedding"),
        (Signature(NUMBERS.inputs, (OutputSpec("o", (2,), None, "my_loss"),)), "loss my_loss"),
        (Signature(NUMBERS.inputs, NUMBERS.outputs, "nested"), "nested"),
    ],
)
def test_what_cannot_be_generated_asks_for_data(signature, part):
    with pytest.raises(UserError, match=f"{part}.*give --data"):
        load(None, signature)
