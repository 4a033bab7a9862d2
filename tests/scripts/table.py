"""A pandas table with weights, under mixed precision; the last part of it is for validation."""

import keras
import numpy as np
import pandas as pd
from keras import layers

keras.utils.set_random_seed(17)
keras.mixed_precision.set_global_policy("mixed_float16")

rng = np.random.default_rng(4)
table = pd.DataFrame(rng.normal(size=(90, 5)).astype("float32"), columns=list("abcde"))
table["target"] = (table["a"] - 2 * table["b"]).astype("float32")
features = table[list("abcde")]

inputs = keras.Input((5,))
x = layers.Dense(8, activation="relu")(inputs)
model = keras.Model(inputs, layers.Dense(1, dtype="float32")(x))
model.compile(optimizer="adam", loss="mae")
model.fit(
    features, table["target"], sample_weight=np.linspace(0.5, 1.5, 90), batch_size=20, epochs=2, validation_split=0.2
)
