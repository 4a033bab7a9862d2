"""A transformer on padded token sequences, masks and all, with positions learned."""

import keras
import numpy as np
from keras import layers, ops

keras.utils.set_random_seed(21)
VOCABULARY, LENGTH, WIDTH = 40, 12, 16


class Tokens(layers.Layer):
    def __init__(self):
        super().__init__()
        self.token = layers.Embedding(VOCABULARY, WIDTH, mask_zero=True)
        self.position = layers.Embedding(LENGTH, WIDTH)

    def call(self, x):
        return self.token(x) + self.position(ops.arange(LENGTH))

    def compute_mask(self, x, mask=None):
        return self.token.compute_mask(x)


class Block(layers.Layer):
    def __init__(self, rate=0.1):
        super().__init__()
        self.attention = layers.MultiHeadAttention(num_heads=2, key_dim=8)
        self.grow = layers.Dense(32, activation="relu")
        self.shrink = layers.Dense(WIDTH)
        self.norms = [layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]
        self.dropouts = [layers.Dropout(rate) for _ in range(2)]
        self.supports_masking = True

    def call(self, x, training=None):
        x = self.norms[0](x + self.dropouts[0](self.attention(x, x), training=training))
        return self.norms[1](x + self.dropouts[1](self.shrink(self.grow(x)), training=training))


inputs = keras.Input((LENGTH,), dtype="int32")
x = Tokens()(inputs)
for _ in range(2):
    x = Block()(x)
x = layers.GlobalAveragePooling1D()(x)
model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))

rng = np.random.default_rng(1)
tokens = rng.integers(1, VOCABULARY, (64, LENGTH))
tokens[np.arange(LENGTH) >= rng.integers(3, LENGTH + 1, (64, 1))] = 0
labels = tokens.sum(axis=1) % 3

model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(tokens, labels, batch_size=16, epochs=2, validation_split=0.25)
print(history.history)
