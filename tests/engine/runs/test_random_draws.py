"""Which draws are another valid stream, and which are none."""

from functools import partial

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from diag.engine.graphs.graph import Node
from diag.engine.graphs.locations import Location
from diag.engine.runs.random_draws import FALSE_ALARMS, Drawn, RandomStreams
from diag.numerics.random_laws import law_of_op

SHAPE = (1 << 14,)
OPS = {
    "StatelessRandomUniformV2": tf.random.stateless_uniform,
    "StatelessRandomNormalV2": tf.random.stateless_normal,
    "StatelessTruncatedNormalV2": tf.random.stateless_truncated_normal,
}


def _drawn(op: str, reference: np.ndarray, candidate: np.ndarray, name: str = "draw", **parameters) -> Drawn:
    node = Node(f"layer/{name}", op, (), (), None, (), (), Location("forward", name, index=0))
    given = {key: np.asarray(value) for key, value in parameters.items()}
    return Drawn(node, reference, candidate, law_of_op(op, candidate.dtype.name, given))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("op", OPS)
def test_what_tensorflow_draws_is_a_valid_stream(op, dtype):
    """With keys of its own, and no longer once it is scaled or drawn again."""
    draw = partial(OPS[op], SHAPE, dtype=dtype)
    mine, theirs = ([draw((seed, step)).numpy() for step in range(3)] for seed in (1, 2))
    streams = RandomStreams()
    pairs = list(enumerate(zip(mine, theirs, strict=True)))
    assert not [found for step, (a, b) in pairs for found in streams.judge(step, [_drawn(op, a, b)])]
    assert len(streams.notes) == 1 and streams.reported()[0]["valid"]
    (again,) = streams.judge(3, [_drawn(op, draw((1, 9)).numpy(), theirs[1])])
    assert (again.evidence["test"], again.evidence["same_as_step"], again.where.step) == ("repeats", 1, 3)
    factor = 0.7 if dtype == "bfloat16" else 0.9  # whose rounding may move 1/64 of the draws past a quantile
    (scaled,) = RandomStreams().judge(0, [_drawn(op, mine[0], (factor * theirs[0]).astype(theirs[0].dtype))])
    assert scaled.cause == scaled.blame == "random-stream" and scaled.evidence["p_value"] < FALSE_ALARMS


def _uniform(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (random.integers(0, 1 << 23, shape) / (1 << 23)).astype(np.float32)


def _first_failure(fault, op="RandomUniform", size=64, steps=40, draw=_uniform) -> str:
    """The test that two streams of a candidate fail, of which `fault` makes its draws by step."""
    random, streams = np.random.default_rng(5), RandomStreams()
    for step in range(steps):
        own = fault(step, draw(random, size), draw(random, size))
        draws = [_drawn(op, draw(random, size), values, name) for name, values in zip("ab", own, strict=True)]
        for found in streams.judge(step, draws):
            return str(found.evidence["test"])
    return ""


_kept: list[np.ndarray] = []


def _period(step, a, b):
    """The masks of step 4 in step 7, and so on."""
    _kept.append(a)
    return _kept[step - 3 if step >= 7 else step], b


def _half(step, a, b):
    return np.resize(a[:32], 64), b


FAULTS = {
    "clipped": (lambda step, a, b: (np.clip(a, 0.1, 0.9), b), ("repeated-values",)),
    "scaled": (lambda step, a, b: (a * np.float32(0.9), b), ("extremes",)),
    "shifted mean": (lambda step, a, b: (a ** np.float32(1.5), b), ("moments", "shares")),
    "half": (_half, ("repeats",)),
    "one mask": (lambda step, a, b: (a, a), ("repeats",)),
    "opposite": (lambda step, a, b: (a, 1 - a - np.float32(2.0**-23)), ("other-draws",)),
    "nearly one": (lambda step, a, b: (a, np.clip(a * 0.95 + 0.05 * b, 0, 0.999).astype(np.float32)), ("other-draws",)),
    "of step 4": (_period, ("repeats",)),
    "out of range": (lambda step, a, b: (a + (a > 0.99), b), ("range",)),
    "a comb": (lambda step, a, b: (np.floor(a * 64) / 64, b), ("repeated-values", "shares")),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_small_draws_of_no_stream_are_found_in_the_pool(name):
    fault, tests = FAULTS[name]
    assert _first_failure(fault) in tests


def test_single_draws_are_pooled_over_steps():
    """One number a step: no draw says anything by itself."""
    period = _uniform(np.random.default_rng(0), 9)
    assert _first_failure(lambda step, a, b: (period[step % 9 : step % 9 + 1], b), size=1) == "repeats"
    assert _first_failure(lambda step, a, b: (a * np.float32(0.5), b), size=1, steps=80) == "extremes"


def test_integers_within_bounds_that_are_inputs():
    draw = partial(np.random.default_rng(1).integers, size=600, dtype=np.int32)
    judge = lambda candidate: RandomStreams().judge(  # noqa: E731
        0, [_drawn("StatelessRandomUniformIntV2", draw(-3, 7), candidate, minval=-3, maxval=7)]
    )
    assert not judge(draw(-3, 7))
    assert judge(draw(-3, 6))[0].evidence["test"] == "shares"
    assert judge(draw(-3, 8))[0].evidence["test"] == "range"


def test_what_the_reference_repeats_is_no_fault():
    """Two layers of one seed, and a law that the op turns out not to have."""
    random, streams = np.random.default_rng(7), RandomStreams()
    for step in range(4):
        a, b = _uniform(random, 256), _uniform(random, 256)
        assert not streams.judge(step, [_drawn("RandomUniform", a, b, "one"), _drawn("RandomUniform", a, b, "two")])
    a, b = (0.5 * _uniform(random, 256) for _ in "ab")
    assert not RandomStreams().judge(0, [_drawn("RandomUniform", a, b)])


def test_the_op_whose_draws_are_not_the_references_is_named():
    """The first layer takes the second's mask, which is right."""
    random = np.random.default_rng(8)
    a, b = _uniform(random, 256), _uniform(random, 256)
    (found,) = RandomStreams().judge(0, [_drawn("RandomUniform", a, b, "one"), _drawn("RandomUniform", b, b, "two")])
    assert (found.where.layer, found.evidence["same_as_op"]) == ("one", "layer/two")


def _control(seed: int) -> bool:
    """Whether a valid generator fails: three ops of other laws and sizes, up to nine steps."""
    random, streams = np.random.default_rng(seed), RandomStreams()
    sizes = random.choice([1, 5, 64, 700], 3)
    draws = {
        "RandomUniform": partial(_uniform, random),
        "RandomStandardNormal": lambda size: random.standard_normal(size).astype(ml_dtypes.bfloat16),
        "RandomUniformInt": lambda size: random.integers(0, 6, size, dtype=np.int32),
    }
    for step in range(int(random.integers(1, 10))):
        drawn = [
            _drawn(op, draw(size), draw(size), op, minval=0, maxval=6)
            for (op, draw), size in zip(draws.items(), sizes, strict=True)
        ]
        if streams.judge(step, drawn):
            return True
    return False


@pytest.mark.parametrize(
    ("num", "rate"), [(60, 0.25), *(pytest.param(1000, rate, marks=pytest.mark.slow) for rate in (FALSE_ALARMS, 0.25))]
)
def test_valid_generators_fail_no_more_often_than_stated(num, rate, monkeypatch):
    """At a raised rate some do: the tests can fail."""
    monkeypatch.setattr("diag.engine.runs.random_draws.FALSE_ALARMS", rate)
    monkeypatch.setattr("diag.engine.runs.random_draws.REFERENCE_FAILS", 0.0)
    failed = sum(_control(seed) for seed in range(num))
    print(f"{failed} of {num} valid generators fail, where {rate:g} may")
    most = stats.binom.isf(1e-3, num, rate)
    assert (failed > 0) == (rate > FALSE_ALARMS) and failed <= most
