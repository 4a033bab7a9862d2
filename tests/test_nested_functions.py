"""Functions of a model's own that XLA compiles: built at their first call, under a fault, with a branch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

from tests.test_api import X, Y, compared


class Nested(keras.Model):
    """Its layers are built while the function that calls them is traced, which is not traced again."""

    def __init__(self) -> None:
        super().__init__()
        self.first = keras.layers.Dense(8, activation="relu", name="first")
        self.second = keras.layers.Dense(4, activation="tanh", name="second")
        self.last = keras.layers.Dense(1, name="last")

    @tf.function(jit_compile=True)
    def middle(self, x: Any) -> Any:
        return self.second(self.first(x))

    def call(self, x: Any) -> Any:
        return self.last(self.middle(x))


class Branching(keras.layers.Layer):
    @tf.function(jit_compile=True)
    def call(self, x: Any) -> Any:
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.nn.tanh(x), lambda: tf.nn.relu(x) * 2.0)


def branching() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(5), Branching(), keras.layers.Dense(1)])


def compiled(model: keras.Model) -> keras.Model:
    model.compile("sgd", "mse", jit_compile=False)
    return model


def test_layers_built_inside_keep_their_names_and_can_be_at_fault(tmp_path: Path) -> None:
    wrong = compared(compiled(Nested()), tmp_path, candidate="sim:tf32", units="op", steps=1, attribute=False)
    assert wrong.first is not None and wrong.first.where.describe().startswith("op")
    assert wrong.first.where.op_type == "MatMul" and wrong.first.where.layer == "first"
    assert {"first", "second", "last"} <= set(wrong.ops.layer)


def test_what_xla_cannot_compile_of_it_is_said_in_a_line(tmp_path: Path) -> None:
    """TensorFlow itself does not train it: the gradient of a branch that was traced for no XLA."""
    with pytest.raises(ValueError, match=r"jit_compile=True\): XLA has no kernel of OptionalFromValue$"):
        compared(compiled(branching()), tmp_path)
    with pytest.raises(tf.errors.InvalidArgumentError, match="OptionalFromValue"):
        compiled(branching()).fit(X, Y, verbose=0)


@pytest.mark.slow
def test_without_a_fault_nothing_is_wrong(tmp_path: Path) -> None:
    for place in ("eager", "xla"):
        right = compared(compiled(Nested()), tmp_path / place, candidate=f"CPU:0/{place}", units="op")
        assert right.verdict in ("identical", "rounding")
