"""A PyDataset that says which samples count more."""

import math

import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(11)


class Points(keras.utils.PyDataset):
    def __init__(self, x, y, batch_size, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y, self.batch_size = x, y, batch_size

    def __len__(self):
        return math.ceil(len(self.x) / self.batch_size)

    def __getitem__(self, index):
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        weight = np.where(self.y[part, 0] > 0, 2.0, 1.0).astype("float32")
        return self.x[part], self.y[part], weight


rng = np.random.default_rng(5)
x = rng.normal(size=(70, 6)).astype("float32")
y = (x[:, :1] * x[:, 1:2] > 0).astype("float32")

inputs = keras.Input((6,))
hidden = layers.Dense(16, activation="gelu", kernel_regularizer=keras.regularizers.L2(1e-3))(inputs)
outputs = layers.Dense(1, activation="sigmoid")(layers.LayerNormalization()(hidden))
model = keras.Model(inputs, outputs)
model.compile(keras.optimizers.AdamW(1e-2, weight_decay=1e-2), "binary_crossentropy", weighted_metrics=["accuracy"])
model.fit(Points(x, y, 16), epochs=2, shuffle=True)
