"""Softmaxes are held to each element's own size: sound ones are within, a small wrong element is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.graph import node_of
from diag.engine.truth.op_judge import OpEvidence, OpJudge
from diag.engine.truth.softmaxes import SOFTMAXES, sizes_of

NUM_CLASSES = 10
OPS: dict[str, Callable[..., Any]] = {
    "Softmax": lambda x: tf.raw_ops.Softmax(logits=x),
    "LogSoftmax": lambda x: tf.raw_ops.LogSoftmax(logits=x),
    "SparseSoftmaxCrossEntropyWithLogits": lambda x, y: tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
        features=x, labels=y
    ),
    "SoftmaxCrossEntropyWithLogits": lambda x, y: tf.raw_ops.SoftmaxCrossEntropyWithLogits(features=x, labels=y),
}


def inputs_of(op: str, logits: np.ndarray) -> list[Any]:
    labels = tf.constant(np.arange(len(logits)) % logits.shape[1])
    if op == "SoftmaxCrossEntropyWithLogits":
        return [tf.constant(logits), tf.one_hot(labels, logits.shape[1], dtype=logits.dtype)]
    return [tf.constant(logits), *([labels] if "CrossEntropy" in op else [])]


def excesses(op: str, logits: np.ndarray, outputs: list[np.ndarray] | None = None) -> list[float]:
    inputs = inputs_of(op, logits)
    graph = tf.function(OPS[op]).get_concrete_function(*(tf.TensorSpec(t.shape, t.dtype) for t in inputs)).graph
    (found,) = [each for each in graph.get_operations() if each.type == op]
    own = OPS[op](*inputs)
    own = [each.numpy() for each in own] if isinstance(own, tuple) else [own.numpy()]
    judged = OpJudge().judge(OpEvidence(node_of(found), inputs, outputs or own, own))
    assert all(each.bound is not None for each in judged)
    return [each.bound.excess for each in judged if each.bound is not None]


def logits_of(dtype: Any, size: float, num_classes: int = NUM_CLASSES) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((64, num_classes)) * size).astype(dtype)


def test_every_softmax_is_tried():
    assert set(OPS) == SOFTMAXES


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_tensorflows_own_is_well_within(op, dtype):
    for size in (0.1, 1, 30):
        assert max(excesses(op, logits_of(dtype, size))) < 0.3


def test_plain_sums_of_a_large_denominator_are_within():
    logits = logits_of(np.float32, 0.1, 5000)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert excesses("Softmax", logits, [e / np.add.accumulate(e, axis=1)[:, -1:]])[0] < 1


def test_masked_logits_are_no_error():
    logits = logits_of(np.float32, 1)
    logits[:, 3], logits[:, 4] = -np.inf, -1e9
    for op in ("Softmax", "LogSoftmax"):
        assert excesses(op, logits)[0] < 0.3


def test_a_small_probability_that_is_wrong_is_seen():
    """4.5e-5 off by a thousandth, which is less than an ULP of the largest element."""
    logits = np.array([[0, -10.0]], np.float32)
    right = np.array([[float(1 / (1 + mpmath.exp(-10))), float(1 / (1 + mpmath.exp(10)))]]).astype(np.float32)
    wrong = right * np.array([1, 1.001], np.float32)
    assert excesses("Softmax", logits, [right])[0] < 0.3
    assert excesses("Softmax", logits, [wrong])[0] > 10


def test_a_gradient_that_is_wrong_in_one_small_element_is_seen():
    logits = logits_of(np.float32, 3)
    loss, gradient = (each.numpy() for each in OPS["SparseSoftmaxCrossEntropyWithLogits"](
        *inputs_of("SparseSoftmaxCrossEntropyWithLogits", logits)))  # fmt: skip
    smallest = np.unravel_index(np.argmin(np.abs(gradient)), gradient.shape)
    gradient[smallest] *= 1.001
    of_loss, of_gradient = excesses("SparseSoftmaxCrossEntropyWithLogits", logits, [loss, gradient])
    assert of_loss < 0.3 and of_gradient > 1


def test_the_size_is_what_one_rounding_of_each_difference_does():
    """Differences of 0 and 2: exp(-2) is off by 2 u of itself, the denominator by p times 2 u."""
    p = float(1 / (1 + mpmath.exp(2)))
    (found,) = sizes_of("Softmax", [np.array([[1.0, 3.0]])])
    common = 1 + 2 * p + 0.25 * np.sqrt(2)
    np.testing.assert_allclose(found, [[p * (common + 2), (1 - p) * common]], rtol=1e-12)
