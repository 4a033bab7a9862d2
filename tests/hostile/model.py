"""A small model whose step has a branch: `--model tests/hostile/model.py:branching`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class Either(keras.layers.Layer):
    """Two functions, of which the batch chooses one."""

    def call(self, x: Any) -> Any:
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.tanh(x), lambda: x * 2.0)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def branching() -> keras.Model:
    layers = [
        keras.Input((5,)),
        keras.layers.Dense(4, name="a"),
        Either(name="either"),
        keras.layers.Dense(3, name="b"),
    ]
    return keras.Sequential(layers)
