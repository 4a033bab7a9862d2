"""Models and data of kinds that are easily forgotten; `--model tests/kinds.py:NAME --data tests/kinds.py:NAME_data`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
SIZE, WORDS = 16, ["red", "green", "blue", "cat", "dog", "very"]


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def numbers() -> tuple[np.ndarray, np.ndarray]:
    random = _random()
    return random.normal(size=(SIZE, 5)).astype("float32"), random.integers(0, 3, SIZE).astype("int32")


def classifier(inputs: Any, x: Any, classes: int = 3) -> keras.Model:
    return keras.Model(inputs, layers.Dense(classes, activation="softmax", name="classes")(x))


class Filter(layers.Layer):
    """A learned filter of complex numbers, between a transform and its inverse."""

    def build(self, shape: Any) -> None:
        size = (shape[1] // 2 + 1,)
        self.real = self.add_weight(shape=size, initializer="ones", name="real")
        self.imaginary = self.add_weight(shape=size, initializer="zeros", name="imaginary")

    def call(self, x: Any) -> Any:
        filtered = tf.signal.rfft(x) * tf.complex(self.real, self.imaginary)
        return tf.signal.irfft(filtered, [x.shape[1]])


class Spectrum(layers.Layer):
    """Hands complex numbers to the next layer."""

    def call(self, x: Any) -> Any:
        return tf.signal.fft(tf.cast(x, tf.complex64))


class Magnitude(layers.Layer):
    def call(self, x: Any) -> Any:
        return tf.math.log1p(tf.abs(x)) + tf.math.real(x) * tf.math.imag(tf.math.conj(x))


def spectral() -> keras.Model:
    inputs = keras.Input((16,))
    x = layers.Dense(8, name="mix")(Filter(name="filter")(inputs))
    return classifier(inputs, Magnitude(name="magnitude")(Spectrum(name="spectrum")(x)))


def spectral_data() -> tuple[np.ndarray, np.ndarray]:
    return _random().normal(size=(SIZE, 16)).astype("float32"), numbers()[1]


def unscaled(call: Any) -> list[np.ndarray] | None:
    """A fault: the inverse transform is not divided by its length."""
    return [call.outputs[0] * 16] if call.op_type == "IRFFT" else None


def conjugate(call: Any) -> list[np.ndarray] | None:
    """A fault: the transform turns the other way."""
    return [np.conj(call.outputs[0])] if call.op_type == "FFT" and call.phase == "forward" else None


STEPS, CHARACTERS, LABELS = 8, 6, 3


class Alignment(keras.losses.Loss):
    """CTC with lengths: loops of functions made as TensorFlow 1 made them."""

    def call(self, labels: Any, logits: Any) -> Any:
        labels = tf.cast(labels, tf.int32)
        lengths = tf.math.count_nonzero(labels, axis=1, dtype=tf.int32)
        steps = tf.fill(tf.shape(lengths), STEPS)
        return tf.nn.ctc_loss(labels, logits, lengths, steps, logits_time_major=False, blank_index=0)


def alignment() -> keras.Model:
    inputs = keras.Input((STEPS, 4))
    x = layers.LSTM(5, return_sequences=True, name="lstm")(inputs)
    model = keras.Model(inputs, layers.Dense(CHARACTERS, name="logits")(x))
    model.compile("adam", Alignment())
    return model


def alignment_data() -> tuple[np.ndarray, np.ndarray]:
    random = _random()
    x = random.normal(size=(SIZE, STEPS, 4)).astype("float32")
    return x, random.integers(1, CHARACTERS, (SIZE, LABELS)).astype("int32")


def sentences() -> keras.Model:
    """Texts go into the model, and each batch is as long as its longest."""
    vectorize = layers.TextVectorization(vocabulary=WORDS, name="vectorize")
    inputs = keras.Input((), dtype="string")
    x = layers.Embedding(vectorize.vocabulary_size(), 4, mask_zero=True, name="embedding")(vectorize(inputs))
    return classifier(inputs, layers.GRU(4, name="gru")(x))


def sentences_data() -> tuple[np.ndarray, np.ndarray]:
    random = _random()
    return np.array([" ".join(random.choice(WORDS, 1 + index // 4)) for index in range(SIZE)]), numbers()[1]


def sentences_in_order() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(sentences_data()).batch(4)


def table() -> keras.Model:
    """Texts, numbers and integers, each looked up in its way."""
    colour, code, age = (
        keras.Input((1,), dtype="string", name="colour"),
        keras.Input((1,), dtype="int64", name="code"),
        keras.Input((1,), name="age"),
    )
    columns = [
        layers.StringLookup(vocabulary=WORDS[:3], output_mode="one_hot", name="colours")(colour),
        layers.IntegerLookup(vocabulary=[4, 7, 9], output_mode="one_hot", name="codes")(code),
        layers.CategoryEncoding(4, name="buckets")(layers.Discretization([10.0, 20.0, 40.0], name="bounds")(age)),
    ]
    x = layers.Dense(8, activation="mish", name="hidden")(layers.Concatenate(name="all")(columns))
    outputs = layers.Dense(1, activation="sigmoid", name="out")(x)
    return keras.Model({"colour": colour, "code": code, "age": age}, outputs)


def table_data() -> tuple[dict[str, np.ndarray], np.ndarray]:
    random = _random()
    x = {
        "colour": random.choice(WORDS[:4], (SIZE, 1)),
        "code": random.choice([4, 7, 8], (SIZE, 1)),
        "age": random.uniform(0, 60, (SIZE, 1)).astype("float32"),
    }
    return x, (x["age"] > 30).astype("float32")


def any_length() -> keras.Model:
    inputs = keras.Input((None, 3))
    x = layers.Conv1D(4, 3, padding="same", activation="relu", name="conv")(inputs)
    x = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    return classifier(inputs, layers.GlobalMaxPooling1D(name="pool")(x))


def any_length_data() -> tf.data.Dataset:
    """Each batch of a length of its own, the longest neither first nor last."""

    def batches() -> Any:
        random = _random()
        for length in (5, 9, 3, 5):
            yield random.normal(size=(4, length, 3)).astype("float32"), random.integers(0, 3, 4).astype("int32")

    signature = (tf.TensorSpec((None, None, 3), tf.float32), tf.TensorSpec((None,), tf.int32))
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


class Lazy(keras.Model):
    """A layer that is built where it is called, inside a `tf.function` of the model's own, and a branch there."""

    def __init__(self) -> None:
        super().__init__(name="nested")
        self.first, self.second = layers.Dense(6, activation="tanh", name="first"), layers.Dense(3, name="second")

    @tf.function
    def hidden(self, x: Any) -> Any:
        hidden = self.first(x)
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.tanh(hidden), lambda: hidden * 0.5)

    def call(self, x: Any) -> Any:
        return self.second(self.hidden(x))


class Nested(Lazy):
    """Its layers are built before, so that the function knows their weights."""

    def build(self, shape: Any) -> None:
        self.first.build(shape)
        self.second.build((shape[0], 6))


class Jitted(Nested):
    @tf.function(jit_compile=True)
    def hidden(self, x: Any) -> Any:
        return self.first(x)


@tf.custom_gradient
def halved(x: Any) -> Any:
    """A gradient of its own, which is half of what it would be."""
    return tf.square(x), lambda upstream: upstream * x


def nested() -> keras.Model:
    return Nested()


def lazy() -> keras.Model:
    return Lazy()


def jitted() -> keras.Model:
    return Jitted()


class Scans(layers.Layer):
    """A loop, a scan and a map with functions of their own."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x: Any) -> Any:
        total = tf.scan(lambda a, b: 0.5 * a + tf.tanh(b * self.scale), tf.transpose(x))
        mapped = tf.map_fn(lambda row: halved(row) + 1.0, tf.transpose(total))
        _, grown = tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 1.1), (0, mapped), maximum_iterations=3)
        return grown


def scans() -> keras.Model:
    inputs = keras.Input((5,))
    return classifier(inputs, Scans(name="scans")(inputs))


class Rebuilding(keras.Model):
    """Minds no targets."""

    def __init__(self) -> None:
        super().__init__(name="rebuilding")
        self.net = keras.Sequential([layers.Dense(3, activation="gelu"), layers.Dense(5)], name="net")

    def call(self, x: Any) -> Any:
        return self.net(x)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:
        return tf.reduce_mean(tf.square(x - y_pred))


LINKS = np.array([(i, (3 * i + k) % 12) for i in range(12) for k in (1, 2, 5)])


class Neighbours(layers.Layer):
    """The largest of what the neighbours of a node in a graph say; four have none, and one says 0/0."""

    def call(self, x: Any) -> Any:
        said = tf.gather(x / tf.norm(x, axis=-1, keepdims=True), LINKS[:, 0], axis=1)
        best = tf.math.unsorted_segment_max(tf.transpose(said, [1, 0, 2]), LINKS[:, 1], 12)
        best = tf.transpose(best, [1, 0, 2])
        return tf.where(best < -1, 0.0, best)


def neighbours() -> keras.Model:
    inputs = keras.Input((12, 4))
    return classifier(inputs, layers.Flatten()(Neighbours(name="neighbours")(inputs)))


def neighbours_data() -> tuple[np.ndarray, np.ndarray]:
    x = _random().normal(size=(8, 12, 4)).astype("float32")
    x[:, 4] = 0
    return x, np.arange(8) % 3


def rebuilding() -> keras.Model:
    model = Rebuilding()
    model.compile("sgd")
    return model


def without_targets() -> tuple[np.ndarray, None]:
    return numbers()[0], None


def double() -> keras.Model:
    inputs = keras.Input((5,), dtype="float64")
    x = layers.Dense(6, activation="tanh", dtype="float64", name="hidden")(inputs)
    return keras.Model(inputs, layers.Dense(3, dtype="float64", activation="softmax", name="classes")(x))


class Counted(layers.Layer):
    """Integers all the way to a product with weights."""

    def call(self, x: Any) -> Any:
        return tf.cast(tf.bitwise.bitwise_xor(tf.cumsum(x, axis=1) // 2, 3), "float32")


def integers() -> keras.Model:
    inputs = keras.Input((5,), dtype="int32")
    return classifier(inputs, Counted(name="counted")(inputs))


def integers_data() -> tuple[np.ndarray, np.ndarray]:
    return _random().integers(0, 20, (SIZE, 5)).astype("int32"), numbers()[1]


class Choosing(layers.Layer):
    """Goes another way in training, and by the shape of what it gets: branches of Python's."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.narrow, self.wide = layers.Dense(4, name="narrow"), layers.Dense(4, name="wide")

    def call(self, x: Any, training: bool = False) -> Any:
        if not training:
            return self.wide(self.narrow(x))
        return self.narrow(x) if x.shape[-1] < 8 else self.wide(x)


def choosing() -> keras.Model:
    inputs, twice = keras.Input((5,)), Choosing(name="choosing")
    return classifier(inputs, layers.Add(name="sum")([twice(inputs), twice(inputs * 2.0)]))


def handed_on() -> keras.Model:
    """The first layer computes nothing."""
    inputs = keras.Input((5,))
    return classifier(inputs, layers.Dense(4, activation="relu")(layers.Lambda(lambda x: x, name="same")(inputs)))


def long_names() -> keras.Model:
    """Eight layers in a row, each with a name of a hundred letters."""
    inputs = x = keras.Input((5,))
    for index in range(8):
        x = layers.Dense(5, activation="relu", name=f"layer_{index}_" + "of_a_very_long_name_" * 5)(x)
    return classifier(inputs, x)


class MeanOfRows(layers.Layer):
    """The mean embedding of the words of each row, however many it has."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.embedding = layers.Embedding(len(WORDS), 4)

    def build(self, shape: Any) -> None:
        self.embedding.build(shape)

    def call(self, words: tf.RaggedTensor) -> Any:
        return tf.reduce_mean(words.with_flat_values(self.embedding(words.flat_values)), axis=1)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape[0], 4


def bags() -> keras.Model:
    """Ragged words and sparse counts."""
    words = keras.Input((None,), dtype="int64", ragged=True, name="words")
    counts = keras.Input((12,), sparse=True, name="counts")
    x = layers.Concatenate(name="both")([MeanOfRows(name="mean")(words), layers.Dense(4, name="dense")(counts)])
    return classifier({"words": words, "counts": counts}, x)


def bags_data() -> tuple[dict[str, Any], np.ndarray]:
    random = _random()
    words = tf.ragged.constant([random.integers(0, len(WORDS), 1 + index % 5) for index in range(SIZE)], tf.int64)
    counts = random.poisson(0.3, (SIZE, 12)).astype("float32")
    return {"words": words, "counts": tf.sparse.from_dense(counts)}, numbers()[1]


def counted_sparsely() -> keras.Model:
    """Which Keras gives floats to count, once the model is compiled."""
    inputs = keras.Input((5,), dtype="int32")
    return classifier(inputs, layers.CategoryEncoding(20, output_mode="count", sparse=True)(inputs))


def ragged() -> tf.data.Dataset:
    """Rows of different lengths, left as they are, which Keras's own recurrent layers do not take."""
    rows = tf.ragged.constant([[[1.0, 2.0, 3.0]] * (1 + index % 3) for index in range(SIZE)], ragged_rank=1)
    return tf.data.Dataset.from_tensor_slices((rows, numbers()[1])).batch(4)


class Failing(Rebuilding):
    """Computes with targets that are not there."""

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:
        return tf.reduce_mean(y_pred) + tf.reduce_sum(y)


def failing() -> keras.Model:
    model = Failing()
    model.compile("sgd")
    return model


class Guarded(layers.Layer):
    """A check that the data fail in training; or a loss in the layer's dtype, which Keras adds to one in float32."""

    def __init__(self, adds_loss: bool) -> None:
        super().__init__()
        self.adds_loss = adds_loss

    def call(self, x: Any, training: bool | None = None) -> Any:
        if self.adds_loss:
            self.add_loss(tf.reduce_mean(x))
        elif training:
            return tf.debugging.check_numerics(tf.math.log(x - x), "no numbers")
        return x


def guarded() -> keras.Model:
    inputs = keras.Input((4,))
    return classifier(inputs, Guarded(False)(inputs))


def loss_in_float16() -> keras.Model:
    inputs = keras.Input((4,), dtype="float16")
    return classifier(inputs, layers.Dense(3)(Guarded(True)(inputs)))


def four_numbers() -> tuple[np.ndarray, np.ndarray]:
    return _random().normal(size=(8, 4)).astype(np.float32), np.arange(8, dtype=np.int32) % 3
