"""Models that `--model NAME` names: the two of the experiment that this program was born from, and a small one."""

from __future__ import annotations

from collections.abc import Callable

import keras

from diag.engine.training.models import motivating_cnn

LEARNING_RATE = 2e-3
ImageShape = tuple[int, int, int]


def cnn(image_shape: ImageShape, num_classes: int) -> keras.Model:
    """The cat-and-dog classifier as `python -m diag.lockstep` trains it."""
    return motivating_cnn(image_shape, num_classes)


def two_hidden(image_shape: ImageShape, num_classes: int) -> keras.Model:
    """Two convolutions and two hidden layers, small enough for two cores; Adam of LEARNING_RATE.

    A graph rewriter fuses what is dense (`sim:metal-fused-dense` leaves its activation out).  Behind convolutions one
    such layer still learns, and so do two on inputs that are never negative; on normalized inputs half of each layer's
    sums are negative, the gradient knows an activation there that the value does not, and training runs away.
    """
    layers = [keras.Input(image_shape)]
    for filters in (16, 32):
        layers.append(keras.layers.Conv2D(filters, 3, activation="relu", padding="same"))
        layers.append(keras.layers.MaxPooling2D(2, padding="same"))
    layers += [
        keras.layers.Flatten(),
        keras.layers.BatchNormalization(momentum=0.8),  # Keras's 0.99 takes more steps than a small study has
        keras.layers.Dropout(0.25),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(num_classes, activation="softmax"),
    ]
    model = keras.Sequential(layers, name="two_hidden")
    model.compile(keras.optimizers.Adam(LEARNING_RATE), "sparse_categorical_crossentropy", jit_compile=False)
    return model


def xception(image_shape: ImageShape, num_classes: int) -> keras.Model:
    """A small Xception, as Keras's own example of image classification from scratch has it.

    Entry of one strided convolution, four residual blocks of separable convolutions, and one more before the pooling.
    """
    inputs = keras.Input(image_shape)
    x = _normalized(keras.layers.Conv2D(128, 3, strides=2, padding="same")(inputs))
    for filters in (256, 512, 728):
        x = _block(x, filters)
    x = _normalized(keras.layers.SeparableConv2D(1024, 3, padding="same")(x))
    x = keras.layers.Dropout(0.25)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, keras.layers.Dense(num_classes, activation="softmax")(x), name="xception")


def _block(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    """relu, separable convolution, normalization, twice; pooling; and the input, strided, added."""
    shortcut = keras.layers.Conv2D(filters, 1, strides=2, padding="same")(x)
    for _ in range(2):
        x = keras.layers.Activation("relu")(x)
        x = keras.layers.BatchNormalization()(keras.layers.SeparableConv2D(filters, 3, padding="same")(x))
    return keras.layers.add([keras.layers.MaxPooling2D(3, strides=2, padding="same")(x), shortcut])


def _normalized(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))


PRESETS: dict[str, Callable[[ImageShape, int], keras.Model]] = {
    "cnn": cnn,
    "two-hidden": two_hidden,
    "xception": xception,
}
