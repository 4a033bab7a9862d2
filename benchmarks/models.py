"""The models of the table, compiled with Adam, their weights at random: `--model benchmarks/models.py:mobilenet`."""

from __future__ import annotations

import keras

layers = keras.layers


def _trained(model: keras.Model) -> keras.Model:
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy")
    return model


def mlp() -> keras.Model:
    hidden = [layers.Dense(128, activation="relu") for _ in range(2)]
    return _trained(keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10, activation="softmax")]))


def lstm() -> keras.Model:
    return _trained(keras.Sequential([keras.Input((20, 16)), layers.LSTM(32), layers.Dense(10, activation="softmax")]))


def mobilenet() -> keras.Model:
    return _trained(keras.applications.MobileNetV2((96, 96, 3), weights=None, classes=10))


def efficientnet() -> keras.Model:
    return _trained(keras.applications.EfficientNetB0(input_shape=(96, 96, 3), weights=None, classes=10))


def xception() -> keras.Model:
    return _trained(keras.applications.Xception(input_shape=(150, 150, 3), weights=None, classes=10))


def resnet50() -> keras.Model:
    return _trained(keras.applications.ResNet50(input_shape=(96, 96, 3), weights=None, classes=10))


def small_cnn() -> keras.Model:
    """Of 8x8 images of one channel: about 10 ms a step, of which a run may have thousands."""
    return _trained(
        keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(4, 3, activation="relu", name="first"),
                layers.Conv2D(4, 3, activation="relu", name="second"),
                layers.Flatten(),
                layers.Dropout(0.25, seed=1),
                layers.Dense(3, activation="softmax"),
            ]
        )
    )


def transformer() -> keras.Model:
    """Six layers of four heads, 64 wide, over 32 tokens of 200."""
    tokens = keras.Input((32,), dtype="int32")
    x = layers.Embedding(200, 64)(tokens) + layers.Embedding(32, 64)(keras.ops.arange(32))
    for _ in range(6):
        attended = layers.MultiHeadAttention(4, 16, dropout=0.1)(x, x)
        x = layers.LayerNormalization()(x + layers.Dropout(0.1)(attended))
        fed = layers.Dense(64)(layers.Dense(256, activation="gelu")(x))
        x = layers.LayerNormalization()(x + layers.Dropout(0.1)(fed))
    return _trained(keras.Model(tokens, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling1D()(x))))
