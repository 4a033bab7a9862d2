"""Winners among equal keys, and vectors with other signs: right by what defines them."""

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.graph import graph_of
from diag.engine.truth.not_unique import DECISION_FLIP
from diag.engine.truth.op_judge import OpEvidence, OpJudge

KEYS = np.array([[1, 3, 3, 2, 3], [5, 5, 1, 0, 4]], np.float32)


def _judged(function, inputs, candidate, wanted=-1):
    """The judgement of one output of the last op of a function."""
    tensors = [tf.constant(x) for x in inputs]
    traced = tf.function(function).get_concrete_function(*(tf.TensorSpec(x.shape, x.dtype) for x in tensors)).graph
    graph = graph_of(traced)
    node = graph.by_name[graph.outputs[0].node]
    while node.op == "Identity":
        node = graph.by_name[node.inputs[0].node]
    constants = [tf.make_ndarray(n.proto.attr["value"].tensor) for n in graph if n.op == "Const"]
    reference = [x.numpy() for x in tf.nest.flatten(function(*tensors))]
    judge = OpJudge()
    evidence = OpEvidence(node, [*tensors, *map(tf.constant, constants)], candidate(*reference), reference)
    return judge.judge(evidence)[wanted]


@pytest.mark.parametrize(
    ("winners", "is_right"), [([2, 1], True), ([4, 0], True), ([3, 0], False), ([2, 2], False), ([2, 9], False)]
)
def test_of_equal_largest_any_is_the_arg_max(winners, is_right):
    found = _judged(lambda x: tf.argmax(x, 1), [KEYS], lambda _: [np.array(winners, np.int64)])
    assert found.bound.is_explained == is_right == (found.note == DECISION_FLIP)
    assert ("winners among equal keys" in found.decided) == is_right


@pytest.mark.parametrize(
    ("places", "is_right"),
    [([[4, 2, 1], [1, 0, 4]], True), ([[1, 1, 2], [0, 1, 4]], False), ([[1, 2, 3], [0, 1, 4]], False)],
)
def test_of_equal_keys_any_order_is_sorted(places, is_right):
    """Each once."""
    found = _judged(lambda x: tf.math.top_k(x, 3), [KEYS], lambda values, _: [values, np.array(places, np.int32)])
    assert found.bound.is_explained == is_right


def test_eigenvectors_of_other_signs():
    x = np.random.default_rng(0).normal(size=(3, 5, 5)).astype(np.float32)
    square = x @ np.swapaxes(x, 1, 2)
    signs = np.array([1, -1, 1, -1, -1], np.float32)
    found = _judged(tf.linalg.eigh, [square], lambda values, vectors: [values, vectors * signs])
    assert found.bound.is_explained and found.note == DECISION_FLIP and "other signs" in found.decided
    found = _judged(tf.linalg.eigh, [square], lambda values, vectors: [values, vectors * signs * np.float32(1.001)])
    assert not found.bound.is_explained


@pytest.mark.parametrize(("function", "feature"), [(tf.raw_ops.ReluGrad, -1.0), (tf.raw_ops.Relu6Grad, 7.0)])
def test_behind_a_closed_gate_what_is_not_finite_may_be_passed_over(function, feature):
    """TensorFlow's kernels multiply by zero, which makes NaN of an infinity, or select."""
    inputs = [np.array([np.inf, np.nan, 2, np.inf], np.float32), np.array([feature, feature, feature, 1], np.float32)]

    def gradient(g, f):
        return function(gradients=g, features=f)

    for candidate, is_right in (
        ([0, 0, 0, np.inf], True), ([0, np.nan, 0, np.inf], True), ([0, 0, 0, 0], False), ([0, 0, 2, np.inf], False),
    ):  # fmt: skip
        found = _judged(gradient, inputs, lambda _, made=candidate: [np.array(made, np.float32)])
        assert found.bound.is_explained == is_right, candidate


@pytest.mark.parametrize(
    ("function", "feature", "is_closed"),
    [
        (tf.raw_ops.ReluGrad, np.inf, False), (tf.raw_ops.ReluGrad, np.nan, True), (tf.raw_ops.ReluGrad, 0.0, True),
        (tf.raw_ops.Relu6Grad, np.inf, True), (tf.raw_ops.Relu6Grad, 6.0, True),
    ],
)  # fmt: skip
def test_a_gate_is_closed_where_a_gradient_of_one_does_not_pass(function, feature, is_closed):
    """An infinite feature leaves a relu open: zero is wrong there, where the gradient is NaN."""
    inputs = [np.full(2, np.nan, np.float32), np.full(2, feature, np.float32)]
    found = _judged(
        lambda g, f: function(gradients=g, features=f), inputs, lambda _: [np.array([0, np.nan], np.float32)]
    )
    assert found.bound.is_explained == is_closed
