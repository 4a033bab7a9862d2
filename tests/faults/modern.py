"""Models of today in small: what people train now, each a step of some hundreds of ops."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tests.zoo import LENGTH, NUM_TOKENS

layers, optimizers = keras.layers, keras.optimizers
_SPARSE = "sparse_categorical_crossentropy"
_LOGITS = keras.losses.SparseCategoricalCrossentropy


def _classifier(inputs, features, optimizer, loss=_SPARSE) -> keras.Model:
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="classes")(features))
    model.compile(optimizer, loss)
    return model


# -- images


class LayerScale(layers.Layer):
    """A factor for each channel, small at first (Touvron et al., Going deeper with image transformers, 2021)."""

    def build(self, shape):
        start = keras.initializers.Constant(0.1)
        self.gamma = self.add_weight(name="gamma", shape=(shape[-1],), initializer=start)

    def call(self, x):
        return x * self.gamma


def convnext() -> keras.Model:
    """A stem of patches and a block of ConvNeXt: depthwise 7x7, LayerNorm, GELU, layer scale, residual."""
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 2, strides=2, name="stem")(inputs)
    x = layers.LayerNormalization(epsilon=1e-6, name="stem_norm")(x)
    y = layers.DepthwiseConv2D(7, padding="same", name="depthwise")(x)
    y = layers.LayerNormalization(epsilon=1e-6, name="norm")(y)
    y = layers.Dense(24, activation="gelu", name="widen")(y)
    y = layers.Dense(6, name="narrow")(y)
    x = layers.Add(name="add")([x, LayerScale(name="scale")(y)])
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return _classifier(inputs, x, optimizers.AdamW(0.01, weight_decay=0.05))


def inverted_residual() -> keras.Model:
    """MobileNet's block: widen, depthwise, squeeze and excite, project, each with BatchNorm, around a residual."""
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(12, 1, use_bias=False, name="expand")(inputs)
    x = layers.ReLU(6.0, name="expand_relu6")(layers.BatchNormalization(name="expand_norm")(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = layers.ReLU(6.0, name="depthwise_relu6")(layers.BatchNormalization(name="depthwise_norm")(x))
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(3, 1, activation="relu", name="reduce")(gate)
    gate = layers.Conv2D(12, 1, activation="hard_sigmoid", name="excite")(gate)
    x = layers.Multiply(name="gate")([x, gate])
    x = layers.Conv2D(4, 1, use_bias=False, name="project")(x)
    x = layers.Add(name="add")([inputs, layers.BatchNormalization(name="project_norm")(x)])
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return _classifier(inputs, x, optimizers.RMSprop(0.01, momentum=0.9, rho=0.9, epsilon=1e-3))


def residual() -> keras.Model:
    """A residual block before activation with GroupNorm, its learning rate on a cosine."""
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    y = layers.Activation("silu", name="silu")(layers.GroupNormalization(4, name="first_norm")(x))
    y = layers.Conv2D(8, 3, strides=2, padding="same", name="first")(y)
    y = layers.PReLU(shared_axes=(1, 2), name="prelu")(layers.GroupNormalization(2, name="second_norm")(y))
    y = layers.Conv2D(8, 3, padding="same", name="second")(y)
    x = layers.Add(name="add")([layers.AveragePooling2D(2, name="shortcut")(x), y])
    x = layers.GlobalMaxPooling2D(name="largest")(x)
    rate = optimizers.schedules.CosineDecay(0.05, 10)
    return _classifier(inputs, x, optimizers.SGD(rate, momentum=0.9, weight_decay=1e-3))


def unet() -> keras.Model:
    """A U-Net of one level: down by pooling, up by a transposed convolution, a class for each pixel."""
    inputs = keras.Input((8, 8, 3))
    fine = layers.Conv2D(4, 3, padding="same", activation="relu", name="fine")(inputs)
    coarse = layers.MaxPooling2D(2, name="down")(fine)
    coarse = layers.Conv2D(8, 3, padding="same", activation="relu", name="coarse")(coarse)
    up = layers.Conv2DTranspose(4, 2, strides=2, name="up")(coarse)
    x = layers.Concatenate(name="skip")([fine, up])
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="merge")(x)
    model = keras.Model(inputs, layers.Conv2D(3, 1, name="pixels")(x))
    model.compile(optimizers.Adam(0.01), _LOGITS(from_logits=True))
    return model


class WithClassToken(layers.Layer):
    """A learned token before the patches, and a learned position for each."""

    def build(self, shape):  # (batch, patches, width)
        self.token = self.add_weight(name="token", shape=(1, 1, shape[-1]), initializer="random_normal")
        self.places = self.add_weight(name="places", shape=(1, shape[1] + 1, shape[2]), initializer="random_normal")

    def call(self, x):
        token = tf.tile(self.token, (tf.shape(x)[0], 1, 1))
        return tf.concat([token, x], 1) + self.places


class FirstToken(layers.Layer):
    def call(self, x):
        return x[:, 0]


def vit() -> keras.Model:
    """A vision transformer: patches, a class token, attention and MLP after their norms."""
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 4, strides=4, name="patches")(inputs)
    x = WithClassToken(name="token")(layers.Reshape((9, 8), name="rows")(x))
    y = layers.LayerNormalization(name="attention_norm")(x)
    x = layers.Add(name="attended")([x, layers.MultiHeadAttention(2, 4, name="attention")(y, y)])
    y = layers.Dense(16, activation="gelu", name="widen")(layers.LayerNormalization(name="mlp_norm")(x))
    x = layers.Add(name="mixed")([x, layers.Dense(8, name="narrow")(y)])
    x = FirstToken(name="first")(layers.LayerNormalization(name="last_norm")(x))
    return _classifier(inputs, x, optimizers.Lamb(0.01))


# -- sequences


def bigru() -> keras.Model:
    """A GRU in both directions over words, padding masked out."""
    tokens = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(NUM_TOKENS, 6, mask_zero=True, name="words")(tokens)
    x = layers.Bidirectional(layers.GRU(4, name="gru"), name="both_ways")(x)
    return _classifier(tokens, x, optimizers.Adam(0.01, clipnorm=1.0))


class Tied(keras.Model):
    """A causal language model whose embedding is its output: one variable, read in three places."""

    def __init__(self) -> None:
        super().__init__()
        self.words = layers.Embedding(NUM_TOKENS, 8, name="words")
        self.attention = layers.MultiHeadAttention(2, 4, name="attention")
        self.attention_norm = layers.LayerNormalization(name="attention_norm")
        self.widen = layers.Dense(16, activation="relu", name="widen")
        self.narrow = layers.Dense(8, name="narrow")
        self.norm = layers.LayerNormalization(name="norm")

    def call(self, tokens):
        x = self.words(tokens)
        x = self.attention_norm(x + self.attention(x, x, use_causal_mask=True))
        x = self.norm(x + self.narrow(self.widen(x)))
        return tf.matmul(x, tf.convert_to_tensor(self.words.embeddings), transpose_b=True)


def tied() -> keras.Model:
    model = Tied()
    model.compile(optimizers.Adam(0.01, global_clipnorm=1.0), _LOGITS(from_logits=True))
    return model


class Rotated(layers.Layer):
    """Rotary positions: each pair of channels turned by an angle that grows with the position (Su et al., 2021)."""

    def call(self, x):  # (batch, length, width)
        length, half = x.shape[1], x.shape[2] // 2
        angle = tf.range(length, dtype=tf.float32)[:, None] * tf.pow(0.1, tf.range(half, dtype=tf.float32))
        sine, cosine = (tf.cast(each, x.dtype) for each in (tf.sin(angle), tf.cos(angle)))
        left, right = x[..., :half], x[..., half:]
        return tf.concat([left * cosine - right * sine, left * sine + right * cosine], -1)


def llama() -> keras.Model:
    """A decoder of today: RMSNorm, rotary positions, grouped queries, a gated feed-forward; no biases."""
    tokens = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(NUM_TOKENS, 8, name="words")(tokens)
    y = Rotated(name="rotated")(layers.RMSNormalization(name="attention_norm")(x))
    attention = layers.GroupQueryAttention(4, 4, 2, use_bias=False, name="attention")
    x = layers.Add(name="attended")([x, attention(y, y, use_causal_mask=True)])
    y = layers.RMSNormalization(name="norm")(x)
    gate = layers.Dense(12, activation="silu", use_bias=False, name="gate")(y)
    y = layers.Multiply(name="gated")([gate, layers.Dense(12, use_bias=False, name="widen")(y)])
    x = layers.Add(name="mixed")([x, layers.Dense(8, use_bias=False, name="narrow")(y)])
    model = keras.Model(tokens, layers.Dense(NUM_TOKENS, use_bias=False, name="logits")(x))
    model.compile(optimizers.Adafactor(0.01), _LOGITS(from_logits=True))
    return model


# -- losses of their own


class Sampling(layers.Layer):
    """A draw from the posterior, and its divergence from the prior as a loss."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.random = keras.random.SeedGenerator(5)

    def call(self, mean, log_variance):
        divergence = tf.cast(tf.exp(log_variance) + tf.square(mean) - 1 - log_variance, tf.float32)
        self.add_loss(0.05 * tf.reduce_mean(tf.reduce_sum(divergence, -1)))
        return mean + tf.exp(0.5 * log_variance) * keras.random.normal(
            tf.shape(mean), dtype=mean.dtype, seed=self.random
        )


class Autoencoder(keras.Model):
    """A variational one (Kingma and Welling, 2013)."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = layers.Dense(12, activation="tanh", name="encode")
        self.mean, self.log_variance = layers.Dense(4, name="mean"), layers.Dense(4, name="log_variance")
        self.sample = Sampling(name="sample")
        self.decode = layers.Dense(12, activation="softplus", name="decode")
        self.pixels = layers.Dense(16, name="pixels")

    def call(self, x):
        x = self.encode(x)
        return self.pixels(self.decode(self.sample(self.mean(x), self.log_variance(x))))


def vae() -> keras.Model:
    model = Autoencoder()
    model.compile(optimizers.Adam(0.01), "mean_squared_error")
    return model


class TwoHeaded(keras.Model):
    """A shared trunk, a class and a number, their losses weighted."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = layers.Dense(12, activation="elu", name="trunk")
        self.norm = layers.BatchNormalization(name="norm")
        self.label, self.size = layers.Dense(3, name="label"), layers.Dense(1, name="size")

    def call(self, x, training=None):
        x = self.norm(self.trunk(x), training=training)
        return {"label": self.label(x), "size": self.size(x)}


def two_heads() -> keras.Model:
    model = TwoHeaded()
    losses = {"label": _LOGITS(from_logits=True), "size": keras.losses.LogCosh()}
    model.compile(optimizers.Nadam(0.01), losses, loss_weights={"label": 1.0, "size": 0.3})
    return model


class Penalized(keras.Model):
    """A critic whose gradient by its inputs should have norm 1 (Gulrajani et al., 2017): a loss of second order."""

    def __init__(self) -> None:
        super().__init__()
        self.first = layers.Dense(12, activation="tanh", name="first")
        self.second = layers.Dense(8, activation="softplus", name="second")
        self.value = layers.Dense(1, dtype="float32", name="value")

    def call(self, x):
        return self.value(self.second(self.first(x)))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = self(x)
        norm = tf.sqrt(tf.reduce_sum(tf.square(tape.gradient(value, x)), -1) + 1e-6)
        return tf.reduce_mean(tf.square(tf.cast(y_pred, y.dtype) - y)) + 10.0 * tf.reduce_mean(tf.square(norm - 1.0))


def penalized() -> keras.Model:
    model = Penalized()
    model.compile(optimizers.Adam(0.01, beta_1=0.5))
    return model


class TwoTowers(keras.Model):
    """Pictures and words in one space, each row's partner among all of the batch (CLIP; Radford et al., 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.of_pictures = layers.Dense(8, activation="gelu", name="of_pictures")
        self.of_words = layers.Dense(8, activation="gelu", name="of_words")
        self.unit = layers.UnitNormalization(name="unit")

    def build(self, shapes):
        start = keras.initializers.Constant(1.0)
        self.log_scale = self.add_weight(name="log_scale", shape=(), initializer=start)

    def call(self, inputs):
        pictures, words = self.unit(self.of_pictures(inputs["pictures"])), self.unit(self.of_words(inputs["words"]))
        return tf.exp(self.log_scale) * tf.matmul(pictures, words, transpose_b=True)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        partner = tf.range(tf.shape(y_pred)[0])
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits
        return tf.reduce_mean(loss(partner, y_pred) + loss(partner, tf.transpose(y_pred))) / 2


def two_towers() -> keras.Model:
    model = TwoTowers()
    model.compile(optimizers.Adamax(0.01))
    return model


# -- tables


def recommender() -> keras.Model:
    """Users and things as vectors, their product and their biases; FTRL."""
    users, things = keras.Input((1,), dtype="int32", name="users"), keras.Input((1,), dtype="int32", name="things")
    vectors = [layers.Embedding(NUM_TOKENS, 8, name=f"of_{x.name}")(x) for x in (users, things)]
    biases = [layers.Embedding(NUM_TOKENS, 1, name=f"bias_of_{x.name}")(x) for x in (users, things)]
    product = layers.Flatten(name="product")(layers.Dot(2, name="dot")(vectors))
    rating = layers.Add(name="rating")([product, *(layers.Flatten(name=f"flat_{n}")(b) for n, b in enumerate(biases))])
    model = keras.Model({"users": users, "things": things}, layers.Activation("sigmoid", name="likes")(rating))
    model.compile(optimizers.Ftrl(0.05), "binary_crossentropy")
    return model


# -- data


def _normal(*shape: int, samples: int = 8) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(samples, *shape)).astype(np.float32)


def masked_pixels() -> tuple[np.ndarray, np.ndarray]:
    """Images with a class for each pixel."""
    return _normal(8, 8, 3), np.random.default_rng(0).integers(0, 3, (8, 8, 8)).astype(np.int32)


def next_words() -> tuple[np.ndarray, np.ndarray]:
    """Sentences, and the word that follows each."""
    tokens = np.random.default_rng(0).integers(0, NUM_TOKENS, (8, LENGTH + 1)).astype(np.int32)
    return tokens[:, :-1], tokens[:, 1:]


def themselves() -> tuple[np.ndarray, np.ndarray]:
    """Rows that are their own targets."""
    rows = _normal(16)
    return rows, rows


def labels_and_sizes() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return _normal(10), {"label": np.arange(8, dtype=np.int32) % 3, "size": _normal(1)}


def values() -> tuple[np.ndarray, np.ndarray]:
    return _normal(10), _normal(1)


def partners() -> tuple[dict[str, np.ndarray], np.ndarray]:
    return {"pictures": _normal(12), "words": _normal(6)}, np.arange(8, dtype=np.int32)


def ratings() -> tuple[dict[str, np.ndarray], np.ndarray]:
    users, things = np.random.default_rng(0).integers(0, NUM_TOKENS, (2, 8, 1)).astype(np.int32)
    return {"users": users, "things": things}, np.arange(8, dtype=np.float32)[:, None] % 2
