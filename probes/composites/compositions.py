"""What the composites family probes: Keras activations, losses and normalizations, with hard inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

Arrays = tuple[npt.NDArray[Any], ...]
Inputs = Callable[[np.dtype[Any], np.random.Generator], Arrays]
ROWS, CLASSES = 64, 16


@dataclass(frozen=True)
class Composition:
    """One function, forward and its gradient.

    name: its public name.
    make: a dtype's name to the function, of tensors to a tensor or several.
    inputs: (dtype, generator) to the arrays that it takes; the gradient is taken of the first `num_differentiated`.
    sums: its result is a sum over many inputs, and may lose what one rounding of each of them does.
    mixes: an element of its gradient is made of all of its row, and inherits their rounding.
    terms: size of what kernels subtract from each other, such as exp(x) and 1: a result near zero may be lost.
    text: the call as Python text, of x, target and {dtype}, where each row stands alone.
    """

    name: str
    case: str
    make: Callable[[str], Callable[..., Any]]
    inputs: Inputs
    num_differentiated: int = 1
    sums: bool = False
    mixes: bool = False
    terms: float = 0.0
    text: str = ""


def compositions() -> Iterator[Composition]:
    yield from _activations()
    yield from _losses()
    yield from _normalizations()


# ---------------------------------------------------------------------------------------------
# Activations

ELEMENTWISE = """
celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid mish relu relu6
selu sigmoid silu soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus tanh tanh_shrink
""".split()
BY_ROW = "glu log_softmax softmax sparsemax".split()
DIFFERENCES = ("elu", "selu", "gelu", "log_softmax", "softmax")  # exp(x) - 1, 1 + tanh(x), log(1 + e)


def _activations() -> Iterator[Composition]:
    for name in ELEMENTWISE:
        yield from _activation(name, "", _not_tiny if name == "selu" else _activated, False)
    approximate = _alone(keras.activations.gelu, approximate=True)
    text = "keras.activations.gelu(x, approximate=True)"
    yield Composition("keras.activations.gelu", "approximate", approximate, _activated, terms=64.0, text=text)  # x^3
    for name in BY_ROW:
        for case, inputs in LOGITS.items():
            yield from _activation(name, case, inputs, True)


def _activation(name: str, case: str, inputs: Inputs, sums: bool) -> Iterator[Composition]:
    function = getattr(keras.activations, name, None)  # older versions of Keras have fewer
    if function is not None:
        terms, text = float(name in DIFFERENCES), f"keras.activations.{name}(x)"
        yield Composition(
            f"keras.activations.{name}", case, _alone(function), inputs, sums=sums, terms=terms, text=text
        )


def _alone(function: Callable[..., Any], **settings: Any) -> Callable[[str], Callable[..., Any]]:
    return lambda _: lambda x: function(x, **settings)


def _activated(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
    """Moderate, tiny and large numbers of both signs, saturating ones and zeros; (rows, 16).

    Exponentials stay in range, and so do squares of float16.
    """
    most = 10.0 if dtype.name == "float16" else 80.0
    moderate = generator.uniform(-8, 8, 4096)
    tiny = generator.choice([-1.0, 1.0], 1024) * 10.0 ** generator.uniform(-4 if most == 10 else -12, 0, 1024)
    large = generator.uniform(-most, most, 1024)
    edges = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.5, -2.5, 6.0, 20.0, -20.0, most, -most, 1e-3, -1e-3, 3.1])
    return (np.concatenate([moderate, tiny, large, np.clip(edges, -most, most)]).reshape(-1, CLASSES).astype(dtype),)


def _not_tiny(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
    """TensorFlow takes selu's slope from its result, and next to 0 that is 0 on both sides, of slopes 1.05 and 1.76."""
    (x,) = _activated(dtype, generator)
    return (np.where(np.abs(x.astype(np.float64)) < 0.02, dtype.type(1), x),)


def _logits(size: float, offset: float = 0.0) -> Inputs:
    return lambda dtype, generator: ((generator.normal(0, size, (ROWS, CLASSES)) + offset).astype(dtype),)


def _tied(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
    return (np.repeat(generator.integers(-2, 3, (ROWS, 1)), CLASSES, axis=1).astype(dtype),)


LOGITS = {"": _logits(2.0), "large logits": _logits(40.0, 100.0), "equal logits": _tied}

# ---------------------------------------------------------------------------------------------
# Losses: (prediction, target) to one number a row


ACROSS_ROWS = ("Circle", "Dice", "Tversky")


def _losses() -> Iterator[Composition]:
    for name in "BinaryCrossentropy BinaryFocalCrossentropy".split():
        yield from _loss(name, "", _probabilities, {})
        yield from _loss(name, "from logits", _binary(3.0), {"from_logits": True})
        yield from _loss(name, "from large logits", _binary(40.0), {"from_logits": True})
    for name in "CategoricalCrossentropy CategoricalFocalCrossentropy".split():
        yield from _loss(name, "", _shares, {})
        yield from _loss(name, "from logits", _classes(3.0), {"from_logits": True})
        yield from _loss(name, "from large logits", _classes(40.0), {"from_logits": True})
    yield from _loss("CategoricalCrossentropy", "smoothed labels", _classes(3.0),
                     {"from_logits": True, "label_smoothing": 0.1})  # fmt: skip
    yield from _loss("SparseCategoricalCrossentropy", "", _sparse_shares, {})
    yield from _loss("SparseCategoricalCrossentropy", "from logits", _sparse(3.0), {"from_logits": True})
    yield from _loss("SparseCategoricalCrossentropy", "from large logits", _sparse(40.0), {"from_logits": True})
    yield from _loss("CategoricalGeneralizedCrossEntropy", "", _sparse_shares, {})
    for name in "CategoricalHinge Hinge SquaredHinge".split():
        yield from _loss(name, "", _signs, {})
    for name in "KLDivergence Dice Tversky".split():
        yield from _loss(name, "", _two_shares, {})
    for name in "CosineSimilarity Huber LogCosh MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError".split():
        yield from _loss(name, "", _two_normal, {})
    for name in "MeanSquaredLogarithmicError Poisson".split():
        yield from _loss(name, "", _two_positive, {})
    yield from _loss("Circle", "", _embedded, {})


def _loss(name: str, case: str, inputs: Inputs, settings: dict[str, Any]) -> Iterator[Composition]:
    kind = getattr(keras.losses, name, None)
    if kind is None:
        return

    def make(dtype_name: str) -> Callable[..., Any]:
        loss = kind(reduction=None, dtype=dtype_name, **settings)
        return lambda prediction, target: loss(target, prediction)

    terms = float("logits" in case)
    given = "".join(f", {key}={value!r}" for key, value in settings.items())
    text = (
        f'keras.losses.{name}(reduction=None, dtype="{{dtype}}"{given})(target, x)' if name not in ACROSS_ROWS else ""
    )
    yield Composition(f"keras.losses.{name}", case, make, inputs, sums=True, terms=terms, text=text)


def _probabilities(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
    shape = (ROWS, CLASSES)
    return generator.uniform(0.01, 0.99, shape).astype(dtype), generator.integers(0, 2, shape).astype(dtype)


def _binary(size: float) -> Inputs:
    def inputs(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
        shape = (ROWS, CLASSES)
        return generator.normal(0, size, shape).astype(dtype), generator.integers(0, 2, shape).astype(dtype)

    return inputs


def _hot(generator: np.random.Generator, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.eye(CLASSES)[generator.integers(0, CLASSES, ROWS)].astype(dtype)


def _rows_of_shares(generator: np.random.Generator) -> npt.NDArray[np.float64]:
    return generator.dirichlet(np.full(CLASSES, 2.0), ROWS) * 0.9 + 0.1 / CLASSES


def _shares(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
    return _rows_of_shares(generator).astype(dtype), _hot(generator, dtype)


def _two_shares(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
    return _rows_of_shares(generator).astype(dtype), _rows_of_shares(generator).astype(dtype)


def _classes(size: float) -> Inputs:
    return lambda dtype, generator: (
        generator.normal(0, size, (ROWS, CLASSES)).astype(dtype), _hot(generator, dtype)
    )  # fmt: skip


def _labels(generator: np.random.Generator) -> npt.NDArray[np.int32]:
    return generator.integers(0, CLASSES, ROWS).astype(np.int32)


def _sparse(size: float) -> Inputs:
    return lambda dtype, generator: (generator.normal(0, size, (ROWS, CLASSES)).astype(dtype), _labels(generator))


def _sparse_shares(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
    return _rows_of_shares(generator).astype(dtype), _labels(generator)


def _signs(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
    shape = (ROWS, CLASSES)
    return generator.normal(0, 2, shape).astype(dtype), generator.choice([-1, 1], shape).astype(dtype)


def _two_normal(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
    shape = (ROWS, CLASSES)
    return generator.normal(0, 2, shape).astype(dtype), (1 + generator.uniform(0, 2, shape)).astype(dtype)


def _two_positive(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
    first, second = generator.uniform(0.1, 4, (2, ROWS, CLASSES))
    return first.astype(dtype), second.astype(dtype)


def _embedded(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
    embeddings = generator.normal(0, 1, (ROWS, CLASSES))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings.astype(dtype), (np.arange(ROWS) % 8).astype(np.int32)


# ---------------------------------------------------------------------------------------------
# Normalizations: (inputs, gamma, beta) to the normalized inputs, and the statistics of a batch

_CASES = {"": (0.0, 1.0), "tiny variance": (1.0, 0.02), "large mean": (30.0, 1.0)}


def _normalizations() -> Iterator[Composition]:
    kinds = {
        "LayerNormalization": {}, "RMSNormalization": {}, "GroupNormalization": {"groups": 4},
        "UnitNormalization": {},
    }  # fmt: skip
    for name, settings in kinds.items():
        if hasattr(keras.layers, name):
            for case, (mean, deviation) in _CASES.items():
                yield _normalization(name, case, (ROWS, CLASSES), mean, deviation, settings)
    for case, (mean, deviation) in _CASES.items():
        yield _batch_normalization(case, mean, deviation, training=True)
    yield _batch_normalization("inference", 0.0, 1.0, training=False)


def _normal(shape: tuple[int, ...], mean: float, deviation: float, num_weights: int) -> Inputs:
    def inputs(dtype: np.dtype[Any], generator: np.random.Generator) -> Arrays:
        weights = [generator.uniform(0.5, 1.5, shape[-1]).astype(dtype) for _ in range(num_weights)]
        return (generator.normal(mean, deviation, shape).astype(dtype), *weights)

    return inputs


def _normalization(
    name: str, case: str, shape: tuple[int, ...], mean: float, deviation: float, settings: dict[str, Any]
) -> Composition:
    def layer_of(dtype_name: str) -> Any:
        layer = getattr(keras.layers, name)(dtype=dtype_name, **settings)
        layer.build(shape)
        return layer

    def make(dtype_name: str) -> Callable[..., Any]:
        layer = layer_of(dtype_name)
        return lambda x, *weights: layer.stateless_call(list(weights), [], x)[0]

    num_weights = len(layer_of("float32").trainable_variables)
    inputs = _normal(shape, mean, deviation, num_weights)
    return Composition(f"keras.layers.{name}", case, make, inputs, 1 + num_weights, sums=True, mixes=True)


def _batch_normalization(case: str, mean: float, deviation: float, training: bool) -> Composition:
    """Of images, the fused kernel; in training the batch's mean and variance too, by moving averages of 0 and 1."""
    shape = (8, 4, 4, CLASSES)

    def make(dtype_name: str) -> Callable[..., Any]:
        layer = keras.layers.BatchNormalization(dtype=dtype_name, momentum=0.5)
        layer.build(shape)

        def call(x: Any, gamma: Any, beta: Any) -> Any:
            kept = [tf.zeros([CLASSES], x.dtype), tf.ones([CLASSES], x.dtype)]
            y, moved = layer.stateless_call([gamma, beta], kept, x, training=training)
            return [y, *moved] if training else y

        return call

    return Composition(
        "keras.layers.BatchNormalization", case, make, _normal(shape, mean, deviation, 2), 3, sums=True, mixes=True
    )
