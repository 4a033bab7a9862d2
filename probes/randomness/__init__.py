"""Random numbers: the same stream as the CPU's?  Does it advance?  Is it distributed as it says?

Each generator is asked four times: with a seed, with the same again, with another, with the first at CPU:0/eager; one
that keeps a state is asked twice in a row instead.  Another stream than the CPU's is a fact (`note`); the same
numbers for another seed or call, other numbers for the same seed, or a wrong distribution are failures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from probes.frame.plan import Choice, Probe
from probes.randomness import distributions as law
from probes.randomness.drawing import measurements
from probes.randomness.source import FAMILY, Maker, Source

NUM, NUM_QUICK, NUM_MANY = 1 << 16, 1 << 13, 1 << 20
NUM_SHUFFLED = 1000
ODDS = (0.1, 0.2, 0.7)
GRID = {"float32": 0.0, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""Uniform numbers have 10 and 7 random bits in the narrow formats (TensorFlow's random_distributions.h)."""


def probes(choice: Choice) -> Iterator[Probe]:
    for source in sources():
        if not choice.quick or source.is_quick:
            num = NUM_MANY if source.many and not choice.quick else NUM_QUICK if choice.quick else NUM
            yield Probe(FAMILY, source.op, source.dtype, source.case, partial(measurements, source, num))


def sources() -> list[Source]:
    return [*_stateless(), *_stateful(), *_generators(), *_keras()]


def _stateless() -> Iterator[Source]:
    def drawn(name: str, **settings: Any) -> Maker:
        def make(device: Any, num: int) -> Callable[..., Any]:
            return lambda seed: getattr(tf.random, name)([num], seed, **_with_dtype(settings))

        return make

    for dtype, grid in GRID.items():
        many = dtype == "float32"
        of_uniform = law.together(law.uniform(grid), law.without_period) if many else law.uniform(grid)
        shown = f"tf.random.stateless_uniform([1 << 20], [1, 2], dtype=tf.{dtype})"
        yield Source("stateless_uniform", dtype, "", drawn("stateless_uniform", dtype=dtype), of_uniform, many=many,
                     is_quick=many, uniform=shown)  # fmt: skip
        yield Source("stateless_normal", dtype, "", drawn("stateless_normal", dtype=dtype), law.normal(grid),
                     is_quick=many)  # fmt: skip
        of_truncated = law.truncated_normal(grid)
        yield Source("stateless_truncated_normal", dtype, "", drawn("stateless_truncated_normal", dtype=dtype),
                     of_truncated)  # fmt: skip
    yield Source("stateless_uniform", "float32", "philox", drawn("stateless_uniform", alg="philox"), law.uniform())
    yield Source("stateless_uniform", "float32", "threefry", drawn("stateless_uniform", alg="threefry"), law.uniform())
    everything = drawn("stateless_uniform", minval=None, maxval=None, dtype="int32")
    yield Source("stateless_uniform", "int32", "all integers", everything, law.full_integers, many=True)
    few = drawn("stateless_uniform", minval=-3, maxval=7, dtype="int32")
    yield Source("stateless_uniform", "int32", "-3 to 6", few, law.discrete(-3, [0.1] * 10), is_quick=True)
    yield Source("stateless_gamma", "float32", "alpha 2", drawn("stateless_gamma", alpha=2.0), _gamma())
    poisson = drawn("stateless_poisson", lam=np.float32(3), dtype="int32")
    yield Source("stateless_poisson", "int32", "mean 3", poisson, _poisson())
    binomial = drawn("stateless_binomial", counts=10.0, probs=0.3, output_dtype="int32")
    yield Source(
        "stateless_binomial", "int32", "10 of 0.3", binomial, law.discrete(0, stats.binom(10, 0.3).pmf(range(11)))
    )
    yield Source("stateless_categorical", "int64", "", _categorical, law.discrete(0, ODDS))
    yield Source("stateless_shuffle", "int32", "", _shuffle, law.permutation)


def _categorical(device: Any, num: int) -> Callable[..., Any]:
    return lambda seed: tf.random.stateless_categorical(tf.math.log([ODDS]), num, seed)[0]


def _shuffle(device: Any, num: int) -> Callable[..., Any]:
    return lambda seed: tf.random.experimental.stateless_shuffle(tf.range(NUM_SHUFFLED), seed)


def _stateful() -> Iterator[Source]:
    """Ops that keep their state in the kernel; `tf.random.set_seed` begins them anew."""

    def drawn(name: str, *arguments: Any, **settings: Any) -> Maker:
        def make(device: Any, num: int) -> Callable[..., Any]:
            return lambda: getattr(tf.random, name)([num], *arguments, seed=5, **_with_dtype(settings))

        return make

    def shuffle(device: Any, num: int) -> Callable[..., Any]:
        return lambda: tf.random.shuffle(tf.range(NUM_SHUFFLED), seed=5)

    def categorical(device: Any, num: int) -> Callable[..., Any]:
        return lambda: tf.random.categorical(tf.math.log([ODDS]), num, seed=5)[0]

    rows: list[tuple[str, str, Maker, law.Check]] = [
        ("uniform", "float32", drawn("uniform"), law.uniform()),
        ("uniform", "float16", drawn("uniform", dtype="float16"), law.uniform(GRID["float16"])),
        ("uniform", "bfloat16", drawn("uniform", dtype="bfloat16"), law.uniform(GRID["bfloat16"])),
        ("uniform", "int32", drawn("uniform", -3, 7, dtype="int32"), law.discrete(-3, [0.1] * 10)),
        ("normal", "float32", drawn("normal"), law.normal()),
        ("truncated_normal", "float32", drawn("truncated_normal"), law.truncated_normal()),
        ("gamma", "float32", drawn("gamma", 2.0), _gamma()),
        ("poisson", "float32", drawn("poisson", 3.0), _poisson()),
        ("categorical", "int64", categorical, law.discrete(0, ODDS)),
        ("shuffle", "int32", shuffle, law.permutation),
    ]
    for name, dtype, make, check in rows:
        quick = (name, dtype) == ("uniform", "float32")
        shown = f"tf.random.uniform([1 << 20], dtype=tf.{dtype})" if name == "uniform" and dtype in GRID else ""
        yield Source(f"tf.random.{name}", dtype, "", make, check, takes_seed=False, is_quick=quick, uniform=shown)


def _generators() -> Iterator[Source]:
    def drawn(name: str, algorithm: str) -> Maker:
        def make(device: Any, num: int) -> Callable[..., Any]:
            with tf.device(device.place.device):
                generator = tf.random.Generator.from_seed(device.seed + 7, alg=algorithm)
            return lambda: getattr(generator, name)([num])

        return make

    for algorithm in ("philox", "threefry"):
        quick = algorithm == "philox"
        yield Source("tf.random.Generator.uniform", "float32", algorithm, drawn("uniform", algorithm), law.uniform(),
                     takes_seed=False, is_quick=quick)  # fmt: skip
        yield Source("tf.random.Generator.normal", "float32", algorithm, drawn("normal", algorithm), law.normal(),
                     takes_seed=False)  # fmt: skip


def _keras() -> Iterator[Source]:
    """With a SeedGenerator, as layers have one."""

    def drawn(function: Callable[[Any, int, Any], Any]) -> Maker:
        def make(device: Any, num: int) -> Callable[..., Any]:
            with tf.device(device.place.device):
                seeds = keras.random.SeedGenerator(device.seed + 9)
            return lambda: function(keras, num, seeds)

        return make

    def ones(keras: Any, num: int) -> Any:
        return keras.ops.ones((num,))

    rows: list[tuple[str, str, Callable[[Any, int, Any], Any], law.Check]] = [
        ("uniform", "float32", lambda k, n, s: k.random.uniform((n,), seed=s), law.uniform()),
        ("normal", "float32", lambda k, n, s: k.random.normal((n,), seed=s), law.normal()),
        ("truncated_normal", "float32", lambda k, n, s: k.random.truncated_normal((n,), seed=s),
         law.truncated_normal()),
        ("randint", "int32", lambda k, n, s: k.random.randint((n,), -3, 7, seed=s), law.discrete(-3, [0.1] * 10)),
        ("dropout", "float32", lambda k, n, s: k.random.dropout(ones(k, n), 0.3, seed=s), law.dropout(0.3)),
        ("gamma", "float32", lambda k, n, s: k.random.gamma((n,), 2.0, seed=s), _gamma()),
        ("beta", "float32", lambda k, n, s: k.random.beta((n,), 2.0, 3.0, seed=s),
         law.continuous(stats.beta(2, 3), 0.0, 1.0)),
        ("binomial", "float32", lambda k, n, s: k.random.binomial((n,), 10.0, 0.3, seed=s),
         law.discrete(0, stats.binom(10, 0.3).pmf(range(11)))),
        ("shuffle", "int32", lambda k, n, s: k.random.shuffle(k.ops.arange(NUM_SHUFFLED), seed=s), law.permutation),
    ]  # fmt: skip
    for name, dtype, function, check in rows:
        yield Source(f"keras.random.{name}", dtype, "", drawn(function), check, takes_seed=False,
                     is_quick=name == "dropout")  # fmt: skip


def _gamma() -> law.Check:
    return law.continuous(stats.gamma(2), 0.0, np.inf)


def _poisson() -> law.Check:
    head = stats.poisson(3).pmf(range(12))
    return law.discrete(0, [*head, 1 - head.sum()], endless=True)


def _with_dtype(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: tf.as_dtype(value) if name.endswith("dtype") else value for name, value in settings.items()}
