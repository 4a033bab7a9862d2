"""Models that some faults need: more outputs, more channels or more values to sort than the zoo's have."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tests.zoo import LENGTH, NUM_TOKENS

layers = keras.layers


def wide() -> keras.Model:
    """A convolution with more than 512 outputs."""
    return keras.Sequential(
        [
            keras.Input((6, 4)),
            layers.Conv1D(520, 3, activation="relu", name="wide"),
            layers.GlobalAveragePooling1D(name="average"),
            layers.Dense(2, activation="softmax", name="classes"),
        ]
    )


def many_channels() -> keras.Model:
    """3x3 convolutions with 32 channels in and out, which a Winograd kernel takes."""
    return keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            layers.Conv2D(32, 3, activation="relu", name="first"),
            layers.Conv2D(32, 3, activation="relu", name="second"),
            layers.Flatten(name="flatten"),
            layers.Dense(2, activation="softmax", name="classes"),
        ]
    )


class LargestValues(layers.Layer):
    """The 20 largest activations of each sample, in order."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.top_k(x, 20).values


def sorting() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(32, name="hidden"),
            LargestValues(name="largest"),
            layers.Dense(3, activation="softmax", name="classes"),
        ]
    )


def turned() -> keras.Model:
    """An image whose axes change places before it is looked at."""
    return keras.Sequential(
        [
            keras.Input((6, 4)),
            layers.Permute((2, 1), name="turn"),
            layers.Conv1D(8, 3, activation="relu", name="conv"),
            layers.Flatten(name="flatten"),
            layers.Dense(2, activation="softmax", name="classes"),
        ]
    )


def broad() -> keras.Model:
    """A perceptron whose products are long enough for a sum to be rounded many times."""
    return keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(48, "relu", name="first"),
            layers.Dense(32, "relu", name="second"),
            layers.Dense(3, activation="softmax", name="classes"),
        ]
    )


def deep() -> keras.Model:
    """A perceptron whose gradients overflow float16 under a loss scale of 2^15."""
    random = keras.initializers.RandomNormal
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(16, "relu", kernel_initializer=random(0, 30.0, seed=1), name="first"),
            layers.Dense(16, "relu", kernel_initializer=random(0, 30.0, seed=2), name="second"),
            layers.Dense(3, activation="softmax", name="classes", dtype="float32"),
        ]
    )


def seven_images() -> tuple[np.ndarray, np.ndarray]:
    """In batches of four, the second is smaller."""
    random = np.random.default_rng(0)
    return random.normal(size=(7, 12, 12, 3)).astype(np.float32), np.arange(7, dtype=np.int32) % 2


def seven_blocks() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(7, 8, 8, 4)).astype(np.float32), np.arange(7, dtype=np.int32) % 2


def seven_rows() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(7, 5)).astype(np.float32), np.arange(7, dtype=np.int32) % 3


def seven_sentences() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(0, NUM_TOKENS, (7, LENGTH)).astype(np.int32), np.arange(7, dtype=np.int32) % 2
