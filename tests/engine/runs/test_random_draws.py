"""Which draws are another valid stream, and which are none."""

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.graph import Node
from diag.engine.graphs.locations import Location
from diag.engine.runs.random_draws import RandomStreams, law_of

SHAPE = (1 << 16,)
OPS = {
    "StatelessRandomUniformV2": lambda dtype: tf.random.stateless_uniform(SHAPE, (1, 2), dtype=dtype),
    "StatelessRandomNormalV2": lambda dtype: tf.random.stateless_normal(SHAPE, (1, 2), dtype=dtype),
    "StatelessTruncatedNormalV2": lambda dtype: tf.random.stateless_truncated_normal(SHAPE, (1, 2), dtype=dtype),
    "RandomStandardNormal": lambda dtype: tf.random.normal(SHAPE, seed=3, dtype=dtype),
    "TruncatedNormal": lambda dtype: tf.random.truncated_normal(SHAPE, seed=3, dtype=dtype),
}


def _node(op: str) -> Node:
    return Node("layer/draw", op, (), (), None, (), (), Location("forward", "noise", index=0))


def _judged(op: str, drawn: np.ndarray) -> tuple[int, int]:
    streams = RandomStreams()
    found = streams.judge(0, [(_node(op), drawn)])
    assert all(each.cause == each.blame == "random-stream" for each in found)
    return len(found), len(streams.notes)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("op", OPS)
def test_what_tensorflow_draws_is_a_valid_stream(op, dtype):
    assert _judged(op, OPS[op](dtype).numpy()) == (0, 1)


@pytest.mark.parametrize("op", OPS)
def test_draws_of_nine_tenths_the_spread_are_none(op):
    assert _judged(op, 0.9 * OPS[op]("float32").numpy()) == (1, 0)


def test_a_normal_is_no_truncated_normal():
    assert _judged("StatelessTruncatedNormalV2", np.random.default_rng(0).normal(size=1 << 16)) == (1, 0)


def test_draws_within_bounds_that_are_inputs_have_no_law():
    assert law_of("StatelessRandomUniformIntV2") is None and law_of("ParameterizedTruncatedNormal") is None
    assert _judged("StatelessRandomUniformFullIntV2", np.arange(4096)) == (0, 1)
