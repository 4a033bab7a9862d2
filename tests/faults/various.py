"""Models of many kinds, each with a loss and an optimizer of its own, for faults that nobody has seen."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tests.zoo import LENGTH, NUM_TOKENS

layers, optimizers = keras.layers, keras.optimizers
_SPARSE = "sparse_categorical_crossentropy"


def pictures() -> keras.Model:
    """Convolutions of every kind in two dimensions; momentum."""
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, padding="same", name="conv")(inputs)
    x = layers.LeakyReLU(0.2, name="leaky")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu6", name="depthwise")(x)
    x = layers.BatchNormalization(momentum=0.9, name="norm")(x)
    x = layers.AveragePooling2D(2, padding="same", name="mean_pool")(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="elu", name="wider")(x)
    x = layers.MaxPooling2D(2, name="max_pool")(x)
    x = layers.Conv2D(5, 3, dilation_rate=2, activation="softplus", name="dilated")(x)
    x = layers.Flatten(name="flatten")(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="classes")(x))
    model.compile(optimizers.SGD(0.01, momentum=0.9, nesterov=True), _SPARSE)
    return model


def series() -> keras.Model:
    """A causal convolution and a GRU over a sequence; RMSprop and a clipped norm."""
    inputs = keras.Input((9, 4))
    x = layers.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="tanh", name="causal")(inputs)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.GRU(5, name="gru")(x)
    x = layers.Dense(8, activation="gelu", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(1, name="value")(x))
    model.compile(optimizers.RMSprop(0.01, momentum=0.5, clipnorm=1.0), keras.losses.Huber())
    return model


def volumes() -> keras.Model:
    """Three dimensions; AdamW, whose weights decay."""
    model = keras.Sequential(
        [
            keras.Input((5, 6, 6, 2)),
            layers.Conv3D(4, 3, activation="swish", name="conv"),
            layers.AveragePooling3D((1, 2, 2), name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(6, activation="selu", name="hidden"),
            layers.Dense(2, activation="sigmoid", name="tags"),
        ]
    )
    model.compile(optimizers.AdamW(0.01, weight_decay=0.1), "binary_crossentropy")
    return model


def square() -> keras.Model:
    """Layers whose weights are square, so that a transposed one fits; Lion."""
    model = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(16, activation="relu", name="first"),
            layers.Dense(16, activation="tanh", name="second"),
            layers.Dense(3, activation="softmax", name="classes"),
        ]
    )
    model.compile(optimizers.Lion(0.01), _SPARSE)
    return model


def ranged() -> keras.Model:
    model = keras.Sequential([keras.Input((16,)), Ranged(name="ranged"), layers.Dense(3, name="classes")])
    model.compile(optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def _relative_error(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.abs(y_true - y_pred) / (1.0 + tf.abs(y_true)), axis=-1)


def two_ways() -> keras.Model:
    """Two inputs, two outputs, a loss of a person's own; Adagrad."""
    tokens, numbers = keras.Input((LENGTH,), dtype="int32", name="tokens"), keras.Input((5,), name="numbers")
    words = layers.Embedding(NUM_TOKENS, 6, name="embedding")(tokens)
    words = layers.Bidirectional(layers.LSTM(4, name="inner"), name="both_ways")(words)
    both = layers.Concatenate(name="both")([words, layers.Dense(7, activation="relu", name="of_numbers")(numbers)])
    outputs = {
        "label": layers.Dense(3, activation="softmax", name="label")(both),
        "size": layers.Dense(1, name="size")(both),
    }
    model = keras.Model({"tokens": tokens, "numbers": numbers}, outputs)
    model.compile(optimizers.Adagrad(0.1), {"label": _SPARSE, "size": _relative_error})
    return model


class Branches(layers.Layer):
    """Two ways through one layer: products one behind the other, and one beside them."""

    def build(self, shape):
        width = shape[-1]
        names = ("inside", "outside", "beside")
        self.kernels = [self.add_weight(name=name, shape=(width, width), initializer="orthogonal") for name in names]

    def call(self, x):
        inside, outside, beside = self.kernels
        return tf.matmul(tf.tanh(tf.matmul(x, inside)), outside) + tf.matmul(x, beside)


def branches() -> keras.Model:
    inputs = keras.Input((16,))
    x = Branches(name="branches")(inputs)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="classes")(x))
    model.compile(optimizers.SGD(0.01), _SPARSE)
    return model


class Attentive(keras.Model):
    """A subclassed model: attention over words, some of which are padding; weights tied to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.words = layers.Embedding(NUM_TOKENS, 8, mask_zero=True, name="words")
        self.attention = layers.MultiHeadAttention(2, 4, name="attention")
        self.norm = layers.LayerNormalization(name="norm")
        self.drop = layers.Dropout(0.2, seed=3, name="drop")
        self.wide = layers.Dense(16, activation="gelu", name="wide")
        self.classes = layers.Dense(3, name="classes")

    def call(self, tokens, training=None):
        x = self.words(tokens)
        x = self.norm(x + self.attention(x, x))
        x = self.drop(self.wide(x), training=training)
        return self.classes(tf.reduce_mean(x, axis=1))


def attentive() -> keras.Model:
    model = Attentive()
    model.compile(optimizers.Adam(0.01, amsgrad=True), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


class Picking(layers.Layer):
    """Ops that look elements up: a sorted order, a running sum, winners, what lies at some places."""

    def call(self, x):
        ordered = tf.sort(x, axis=-1)
        running = tf.cumsum(x, axis=-1)
        winner = tf.one_hot(tf.argmax(x, axis=-1), x.shape[-1], dtype=x.dtype)
        picked = tf.gather(x, [3, 1, 1, 0], axis=1)
        halves = tf.split(tf.reverse(tf.pad(x, [[0, 0], [1, 1]]), [1]), 2, axis=1)
        return tf.concat([ordered, running, winner * x, picked, halves[0] * halves[1], tf.tile(x[:, :2], [1, 2])], 1)


def picking() -> keras.Model:
    inputs = keras.Input((6,))
    x = layers.Dense(6, activation="relu", name="before")(inputs)
    x = layers.UnitNormalization(name="unit")(Picking(name="picking")(x))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="classes")(x))
    model.compile(optimizers.Nadam(0.01), _SPARSE)
    return model


class Choosing(layers.Layer):
    """The three largest of coarse keys, and the largest: there are equal ones."""

    def call(self, x):
        keys = tf.stop_gradient(tf.round(x))
        three = tf.gather(x, tf.math.top_k(keys, 3).indices, batch_dims=1)
        largest = tf.gather(x, tf.argmax(keys, axis=-1), batch_dims=1)
        return tf.concat([three, largest[:, None]], 1)


def choosing() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(12, name="before"),
            Choosing(name="choosing"),
            layers.Dense(3, activation="softmax", name="classes"),
        ]
    )
    model.compile(optimizers.SGD(0.01), _SPARSE)
    return model


class Spectral(layers.Layer):
    """Three decompositions, of which nothing is kept that hangs on a sign."""

    def call(self, x):  # (batch, 6, 4)
        values, vectors = tf.linalg.eigh(tf.matmul(x, x, transpose_a=True))
        sizes, _, right = tf.linalg.svd(x)
        orthogonal, _ = tf.linalg.qr(x)
        along = tf.square(tf.matmul(x, vectors)) + values[:, None, :]
        return tf.concat([along, tf.square(tf.matmul(x, right)) + sizes[:, None, :], tf.square(orthogonal)], -1)


def spectral() -> keras.Model:
    inputs = keras.Input((6, 4))
    x = Spectral(name="spectral")(layers.Dense(4, name="mix")(inputs))
    x = layers.GlobalAveragePooling1D(name="average")(layers.Dense(5, activation="tanh", name="hidden")(x))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="classes")(x))
    model.compile(optimizers.SGD(0.01), _SPARSE)
    return model


class Narrow(layers.Layer):
    """Ops that TensorFlow has in float32 alone."""

    def build(self, shape):
        self.gamma = self.add_weight(name="gamma", shape=(shape[-1],), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(shape[-1],), initializer="zeros")

    def call(self, x):
        wide = tf.image.resize(x, (9, 10))
        normal, _, _ = tf.compat.v1.nn.fused_batch_norm(wide, self.gamma, self.beta, epsilon=1e-3)
        return tf.nn.local_response_normalization(normal, depth_radius=2, alpha=0.1)


def narrow() -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    x = Narrow(name="narrow")(layers.Conv2D(5, 3, activation="softplus", name="conv")(inputs))
    x = layers.Flatten(name="flatten")(layers.Conv2D(4, 3, strides=2, name="second")(x))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="classes")(x))
    model.compile(optimizers.SGD(0.01), _SPARSE)
    return model


class Ranged(layers.Layer):
    """Formulas with a square, a cube or a product on the way that leave float16's range where their value does not."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        by_rms = x / tf.sqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True))
        by_norm = x * tf.math.rsqrt(tf.reduce_sum(tf.square(x), -1, keepdims=True))
        gelu = 0.5 * x * (1 + tf.tanh(tf.cast(0.798, x.dtype) * (x + tf.cast(0.0447, x.dtype) * x * x * x)))
        turned = tf.reverse(x, [-1])
        cosine = tf.reduce_sum(x * turned, -1, keepdims=True) / (tf.reduce_sum(x * x, -1, keepdims=True) + 1)
        length = tf.sqrt(tf.square(x) + tf.square(turned)) / 100
        return tf.concat([by_rms, by_norm, gelu / 100, cosine, length, (x * 300) * turned / 30000], -1)


class Signed(layers.Layer):
    """Along eigenvectors, with their signs."""

    def call(self, x):
        return tf.matmul(x, tf.linalg.eigh(tf.matmul(x, x, transpose_a=True))[1])


def signed() -> keras.Model:
    inputs = keras.Input((6, 4))
    x = layers.Flatten(name="flatten")(Signed(name="signed")(layers.Dense(4, name="mix")(inputs)))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="classes")(x))
    model.compile(optimizers.SGD(0.01), _SPARSE)
    return model


def double() -> keras.Model:
    """Layers in float64."""
    model = keras.Sequential(
        [
            keras.Input((16,), dtype="float64"),
            layers.Dense(32, activation="tanh", dtype="float64", name="first"),
            layers.Dense(3, activation="softmax", dtype="float64", name="classes"),
        ]
    )
    model.compile(optimizers.SGD(0.01), _SPARSE)
    return model


def noisy() -> keras.Model:
    """What draws random numbers: two masks of one size, and normal noise between them."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dropout(0.3, seed=1, name="drop_inputs"),
            layers.Dense(64, activation="tanh", name="hidden"),
            layers.GaussianNoise(0.1, seed=2, name="noise"),
            layers.Dropout(0.5, seed=3, name="drop_hidden"),
            layers.Dense(3, activation="softmax", name="classes"),
        ]
    )
    model.compile(optimizers.SGD(0.01), _SPARSE)
    return model


def _numbers(*shape: int, num_classes: int = 3, samples: int = 8) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.normal(size=(samples, *shape)).astype(np.float32)
    return x, random.integers(0, num_classes, samples).astype(np.int32)


def weighted_pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images that do not count alike."""
    return (*_numbers(12, 12, 3), np.linspace(0.5, 2.0, 8).astype(np.float32))


def padded_sentences() -> tuple[np.ndarray, np.ndarray]:
    """Words, and zeros behind the last of each sentence."""
    random = np.random.default_rng(0)
    tokens = random.integers(1, NUM_TOKENS, (8, LENGTH)).astype(np.int32)
    tokens[np.arange(LENGTH)[None, :] >= random.integers(3, LENGTH + 1, 8)[:, None]] = 0
    return tokens, random.integers(0, 3, 8).astype(np.int32)


def far_from_zero() -> tuple[np.ndarray, np.ndarray]:
    """Sequences whose mean is far larger than what they vary by."""
    random = np.random.default_rng(0)
    x = (1000 + random.normal(size=(8, 9, 4))).astype(np.float32)
    return x, random.normal(size=(8, 1)).astype(np.float32)


def near_the_limit() -> tuple[np.ndarray, np.ndarray]:
    """Inputs whose squares are about as large as a float16 can be."""
    x, y = _numbers(16)
    return x * np.float32(150), y


def large_numbers() -> tuple[np.ndarray, np.ndarray]:
    """Inputs that make the exponentials of a softmax overflow, unless the largest is taken off first."""
    x, y = _numbers(16)
    return x * np.float32(100), y
