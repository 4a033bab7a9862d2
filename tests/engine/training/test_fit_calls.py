"""The batches that a call of `fit` trains on are Keras's own, for every form of data, and nothing is changed by it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from diag.engine.step.batch import Batch
from diag.engine.training.fit_calls import FitCall, call_of_fit, give_calls_to, read_batches, take_back
from diag.errors import UserError
from diag.machine.random_states import random_states_kept

pytestmark = pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")

X, Y = np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10).reshape(10, 1) % 2
W = np.linspace(1, 2, 10, dtype=np.float32)
CLASSES = {0: 1.0, 1: 3.0}


class Points(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]


def dataset(*arrays: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0]).batch(4)


def stream() -> Any:
    return ((X[4 * k % 10 :][:4], Y[4 * k % 10 :][:4]) for k in range(100))


FORMS: dict[str, Callable[[], dict[str, Any]]] = {
    "arrays": lambda: {"x": X, "y": Y, "batch_size": 4, "epochs": 2},
    "weights": lambda: {"x": X, "y": Y, "sample_weight": W, "batch_size": 4},
    "classes": lambda: {"x": X, "y": Y, "class_weight": CLASSES, "batch_size": 4},
    "split": lambda: {"x": X, "y": Y, "validation_split": 0.3, "batch_size": 4, "epochs": 2},
    "dict": lambda: {"x": {"a": X}, "y": {"b": Y}, "batch_size": 4},
    "x alone": lambda: {"x": X, "batch_size": 4},
    "pandas": lambda: {"x": pd.DataFrame(X), "y": pd.Series(Y[:, 0]), "batch_size": 4},
    "dataset": lambda: {"x": dataset(X, Y).shuffle(3), "epochs": 2},
    "dataset of x": lambda: {"x": dataset(X)},
    "dataset with weights": lambda: {"x": dataset(X, Y, W)},
    "dataset with classes": lambda: {"x": dataset(X, Y), "class_weight": CLASSES},
    "dataset without end": lambda: {"x": dataset(X, Y).repeat(), "steps_per_epoch": 3, "epochs": 2},
    "pydataset": lambda: {"x": Points(), "epochs": 2},
    "pydataset with classes": lambda: {"x": Points(), "class_weight": CLASSES},
    "generator": lambda: {"x": stream(), "steps_per_epoch": 3, "epochs": 2},
}


def model(seen: list[Any] | None = None) -> keras.Model:
    """One that, if it trains, shows what its `train_step` is given."""

    class Showing(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            assert seen is not None, "nothing may be trained"
            seen.append(keras.tree.map_structure(lambda leaf: None if leaf is None else leaf.numpy(), data))
            return {"seen": tf.constant(len(seen))}

        def call(self, x: Any) -> Any:
            return self.dense(x["a"] if isinstance(x, dict) else x)

    made = Showing()
    made.dense = keras.layers.Dense(1)
    made.compile("sgd", "mse", run_eagerly=True)
    return made


def kept(arguments: dict[str, Any], most: int = 100) -> list[Batch]:
    batches: list[Batch] = []
    read_batches(
        FitCall(model(), "fit", keras.Model.fit, arguments), lambda batch: batches.append(batch) or len(batches) < most
    )
    return batches


@pytest.mark.parametrize("form", FORMS)
def test_the_batches_are_those_of_fit(form: str) -> None:
    seen: list[Any] = []
    keras.utils.set_random_seed(5)
    with random_states_kept():
        batches = kept(FORMS[form]())
    model(seen).fit(**FORMS[form](), verbose=0)
    assert len(batches) == len(seen) > 0
    for batch, data in zip(batches, seen, strict=True):
        keras.tree.assert_same_structure(batch.data, data)
        for ours, theirs in zip(keras.tree.flatten(batch.data), keras.tree.flatten(data), strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                np.testing.assert_array_equal(ours, theirs, strict=True)


def test_class_weights_are_the_weights_of_samples() -> None:
    (batch,) = kept({"x": X, "y": Y, "class_weight": CLASSES, "batch_size": 10, "shuffle": False})
    np.testing.assert_array_equal(batch.sample_weight, np.where(Y[:, 0] == 1, 3.0, 1.0))


def test_no_more_is_read_than_is_wanted() -> None:
    drawn = []
    endless = ((drawn.append(k) or X[:4], Y[:4]) for k in range(10**6))
    assert len(kept({"x": endless, "steps_per_epoch": 1000}, most=3)) == 3
    assert len(drawn) < 100


def test_the_model_is_left_as_it_was() -> None:
    calls = []

    class Callback(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            calls.append("begun")

    mine = model()
    own = dict(vars(mine))
    call = FitCall(mine, "fit", keras.Model.fit, {"x": X, "y": Y, "callbacks": [Callback()], "validation_data": (X, Y)})
    read_batches(call, lambda batch: True)
    assert not calls and mine.optimizer.iterations == 0
    changed = {name for name in own if vars(mine).get(name) is not own[name]}
    assert not {"train_function", "optimizer", "stop_training", "_metrics"} & changed
    assert not {"make_train_function", "get_metrics_result"} & set(vars(mine))


def test_calls_are_handed_on_and_keras_has_its_own_methods_again() -> None:
    before = keras.Model.fit, keras.Model.train_on_batch
    mine, seen = model(), []
    give_calls_to(lambda call: seen.append(call) or "handled")
    try:
        assert mine.fit(X, Y, epochs=3) == "handled"
        assert mine.train_on_batch(X, y=Y) == "handled"
    finally:
        take_back()
    assert (keras.Model.fit, keras.Model.train_on_batch) == before
    assert [call.method for call in seen] == ["fit", "train_on_batch"]
    assert seen[0].epochs == 3 and set(seen[1].arguments) == {"x", "y"}


def test_data_that_keras_refuses_are_one_line() -> None:
    with pytest.raises(UserError, match=r"fit itself would not train: ValueError: .*cardinality"):
        kept({"x": X, "y": Y[:3]})
    with pytest.raises(UserError, match="expected a Keras model"):
        call_of_fit(object(), X, {})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="is not compiled"):
        call_of_fit(keras.Sequential([keras.layers.Dense(1)]), X, {})
    with pytest.raises(UserError, match=r"fit does not take this: .*'batchsize'"):
        call_of_fit(model(), X, {"batchsize": 3})


def test_random_streams_go_on_as_if_nobody_had_drawn() -> None:
    def draws() -> list[Any]:
        return [random.random(), np.random.random(), *tf.data.Dataset.range(9).shuffle(9).as_numpy_iterator()]

    keras.utils.set_random_seed(1)
    with random_states_kept():
        inside = draws()
    assert draws() == inside
