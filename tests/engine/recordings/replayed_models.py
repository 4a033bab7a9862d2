"""Models, data and a place for tests of replaying: named by FILE.py:FUNCTION, as a person does."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
_random = np.random.default_rng()  # never from the same seed


class Noise(layers.Layer):
    """Draws from a generator whose state no variable holds."""

    def call(self, x: Any) -> Any:
        return x + tf.random.uniform(tf.shape(x), seed=3)


class NoiseInLoop(layers.Layer):
    def call(self, x: Any) -> Any:
        def body(i: Any, y: Any) -> Any:
            return i + 1, y + tf.random.uniform(tf.shape(y), seed=3)

        return tf.while_loop(lambda i, y: i < 3, body, (0, x))[1]


class Own(keras.Model):
    """A class that only its file knows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = layers.Dense(6, "relu"), layers.Dropout(0.3), layers.Dense(2)

    def call(self, x: Any, training: bool | None = None) -> Any:
        return self.last(self.drop(self.first(x), training=training))


def _between(layer: layers.Layer) -> keras.Model:
    return keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, "relu", name="first"), layer, layers.Dense(2, name="last")]
    )


def noisy() -> keras.Model:
    return _between(Noise(name="noise"))


def noisy_loop() -> keras.Model:
    return _between(NoiseInLoop(name="noise"))


def wide() -> keras.Model:
    return keras.Sequential(
        [keras.Input((5,)), layers.Dense(16, "relu", name="a"), layers.Dropout(0.5, name="drop"),
         layers.Dense(2, name="b")]
    )  # fmt: skip


def own() -> keras.Model:
    model = Own()
    model(np.zeros((1, 5), np.float32))
    return model


def samples(number: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(number, 5)).astype(np.float32), random.integers(0, 2, number).astype(np.int32)


def ten() -> tuple[np.ndarray, np.ndarray]:
    return samples(10)


def never_the_same(call: Any) -> list[np.ndarray] | None:
    """A place whose sums over the batch end some roundings higher, other ones each time."""
    if call.op_type != "BiasAddGrad":
        return None
    return [call.outputs[0] * np.float32(1 + _random.uniform(2.0**-16, 2.0**-15))]


class OtherNoise(Noise):
    def call(self, x: Any) -> Any:
        return x + tf.random.uniform(tf.shape(x), seed=4)


def noisy_otherwise() -> keras.Model:
    """As `noisy`, but for what it draws."""
    return _between(OtherNoise(name="noise"))


def mlp_otherwise() -> keras.Model:
    """The layers of tests/zoo.py:mlp, with other weights."""
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8, "relu"), layers.Dense(6, "tanh"), layers.Dense(3, "softmax")]
    )
    model.layers[0].kernel.assign(2 * model.layers[0].kernel)
    return model


def last_bit(call: Any) -> list[np.ndarray] | None:
    """A place whose matrix products end one unit in the last place higher, now and then."""
    if call.op_type != "MatMul":
        return None
    moved = call.outputs[0].copy()
    moved.flat[::3] = np.nextafter(moved.flat[::3], np.float32(np.inf))
    return [moved]


class Python(layers.Layer):
    def call(self, x: Any) -> Any:
        doubled = tf.py_function(lambda value: 2 * value, [x], x.dtype)
        doubled.set_shape(x.shape)
        return doubled


def calls_python() -> keras.Model:
    return _between(Python(name="python"))
