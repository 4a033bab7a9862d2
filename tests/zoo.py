"""Small models of every kind that the engine meets; `--model tests/zoo.py:NAME` works for each.

Weights are drawn at the seed that was set before; `made` sets one, `batch_for` draws a batch that fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from diag.engine.step.batch import Batch

layers = keras.layers
NUM_TOKENS, LENGTH = 20, 7


def mlp() -> keras.Model:
    return keras.Sequential(
        [keras.Input((5,)), layers.Dense(8, "relu"), layers.Dense(6, "tanh"), layers.Dense(3, "softmax")]
    )


def decayed() -> keras.Model:
    """Its weights are assigned three times in a step: weight decay, update, constraint."""
    model = keras.Sequential([keras.Input((5,)), layers.Dense(8, "relu", kernel_constraint="non_neg"), layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(0.01, weight_decay=0.1), loss, jit_compile=False)
    return model


def perceptron() -> keras.Model:
    """One hidden layer, its one Dense under a relu: two products, no other sum over features."""
    return keras.Sequential([keras.Input((5,)), layers.Dense(8, "relu", name="hidden"), layers.Dense(3, name="logits")])


def cnn() -> keras.Model:
    """The motivating CNN in small: Conv2D, MaxPool, Dropout, Dense under a relu, Dense."""
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dropout(0.5, seed=1, name="dropout"),
            layers.Dense(8, activation="relu", name="dense"),
            layers.Dense(2, activation="softmax", name="classes"),
        ]
    )


def convolutions() -> keras.Model:
    """A CNN that draws no random numbers."""
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(2, activation="softmax", name="classes"),
        ]
    )


def lstm() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layers.Embedding(NUM_TOKENS, 8, name="embedding"),
            layers.LSTM(6, name="lstm"),
            layers.Dense(2, name="logits"),
        ]
    )


def xception_block() -> keras.Model:
    """Separable convolutions and batch normalization around a strided shortcut, as in Xception."""
    inputs = keras.Input((8, 8, 4))
    x = layers.SeparableConv2D(6, 3, padding="same", name="separable")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Activation("relu", name="relu")(x)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool")(x)
    shortcut = layers.Conv2D(6, 1, strides=2, padding="same", name="shortcut")(inputs)
    x = layers.Add(name="add")([x, layers.BatchNormalization(name="shortcut_norm")(shortcut)])
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax", name="classes")(x))


class Block(layers.Layer):
    """A transformer's block: a layer of a person's own, which holds other layers."""

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, width // 2)
        self.norm = layers.LayerNormalization()
        self.widen = layers.Dense(2 * width, activation="gelu")
        self.narrow = layers.Dense(width)
        self.dropout = layers.Dropout(0.1, seed=1)

    def call(self, x: Any, training: bool | None = None) -> Any:
        x = self.norm(x + self.attention(x, x))
        return x + self.dropout(self.narrow(self.widen(x)), training=training)


def transformer(num_blocks: int = 1) -> keras.Model:
    tokens = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(NUM_TOKENS, 8, name="embedding")(tokens)
    for index in range(num_blocks):
        x = Block(8, name=f"block_{index}" if index else "block")(x)
    x = layers.GlobalAveragePooling1D(name="average")(x)
    return keras.Model(tokens, layers.Dense(2, name="logits")(x))


def two_blocks() -> keras.Model:
    return transformer(2)


def shared() -> keras.Model:
    """One Dense layer called twice on the way to the output."""
    inputs, twice = keras.Input((5,)), layers.Dense(5, activation="tanh", name="twice")
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="classes")(twice(twice(inputs))))


def two_ways() -> keras.Model:
    """Two inputs, two outputs, a loss for each."""
    left, right = keras.Input((5,), name="left"), keras.Input((4,), name="right")
    both = layers.Concatenate(name="both")(
        [layers.Dense(6, activation="relu", name="of_left")(left), layers.Dense(6, name="of_right")(right)]
    )
    outputs = {
        "label": layers.Dense(3, activation="softmax", name="label")(both),
        "size": layers.Dense(1, name="size")(both),
    }
    model = keras.Model({"left": left, "right": right}, outputs)
    model.compile("adam", loss={"label": "sparse_categorical_crossentropy", "size": "mean_squared_error"})
    return model


class Branching(keras.Model):
    """A subclassed model whose forward pass chooses a branch by its values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = layers.Dense(6, name="first"), layers.Dense(3, name="second")

    def call(self, x: Any) -> Any:
        hidden = self.first(x)
        return self.second(tf.cond(tf.reduce_sum(x) > 0, lambda: tf.tanh(hidden), lambda: hidden * 0.5))


def branching() -> keras.Model:
    model = Branching()
    model(np.zeros((1, 5), np.float32))
    return model


_SHAPES: dict[Callable[[], keras.Model], tuple[int, ...]] = {
    mlp: (5,), decayed: (5,), perceptron: (5,), shared: (5,), branching: (5,), cnn: (12, 12, 3),
    convolutions: (12, 12, 3), xception_block: (8, 8, 4),
}  # fmt: skip
_CLASSES = {mlp: 3, decayed: 3, perceptron: 3, shared: 3, branching: 3, two_ways: 3}
_LOGITS = (perceptron, lstm, transformer, two_blocks, branching)


def batch_for(model: Callable[[], keras.Model], size: int = 4, seed: int = 0) -> Batch:
    random = np.random.default_rng(seed)
    labels = random.integers(0, _CLASSES.get(model, 2), size).astype(np.int32)
    if model is two_ways:
        inputs = {name: random.normal(size=(size, width)) for name, width in (("left", 5), ("right", 4))}
        targets = {"label": labels, "size": random.normal(size=(size, 1)).astype(np.float32)}
        return Batch({name: array.astype(np.float32) for name, array in inputs.items()}, targets)
    if model not in _SHAPES:
        return Batch(random.integers(0, NUM_TOKENS, (size, LENGTH)).astype(np.int32), labels)
    return Batch(random.normal(size=(size, *_SHAPES[model])).astype(np.float32), labels)


def made(model: Callable[[], keras.Model], policy: str = "float32", seed: int = 0) -> keras.Model:
    """The model on the CPU, its weights drawn at `seed`, compiled for training."""
    keras.utils.clear_session(free_memory=False)  # a collection of garbage for each model is a tenth of its test
    keras.utils.set_random_seed(seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        with tf.device("CPU:0"):
            found = model()
            if not found.compiled:
                loss = keras.losses.SparseCategoricalCrossentropy(from_logits=model in _LOGITS)
                found.compile("adam", loss, jit_compile=False)
            found.optimizer.build(found.trainable_variables)
    finally:
        keras.config.set_dtype_policy(before)
    return found
