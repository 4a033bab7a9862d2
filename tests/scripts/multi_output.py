"""Two inputs and two outputs by name, each with its loss and weight."""

import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(13)

left = keras.Input((8,), name="left")
right = keras.Input((5,), name="right")
both = layers.Concatenate()([layers.Dense(8, activation="relu")(left), layers.Dense(8, activation="relu")(right)])
price = layers.Dense(1, name="price")(both)
kind = layers.Dense(4, name="kind", activation="softmax")(both)
model = keras.Model({"left": left, "right": right}, {"price": price, "kind": kind})

rng = np.random.default_rng(8)
data = {"left": rng.normal(size=(80, 8)).astype("float32"), "right": rng.normal(size=(80, 5)).astype("float32")}
targets = {"price": data["left"].sum(1, keepdims=True), "kind": rng.integers(0, 4, 80)}

model.compile(
    optimizer=keras.optimizers.Nadam(1e-3),
    loss={"price": "mse", "kind": "sparse_categorical_crossentropy"},
    loss_weights={"price": 0.5, "kind": 2.0},
    metrics={"kind": ["accuracy"], "price": ["mae"]},
)
model.fit(data, targets, batch_size=32, epochs=2)
