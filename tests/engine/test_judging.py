"""Judging single ops in narrow formats: sums made here, one rounding at a time."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graph import Node, node_of
from diag.engine.judging import OpEvidence, OpJudge
from diag.numerics.bounds import Bound


def matmul_node(dtype: tf.DType, shapes: tuple[tuple[int, int], tuple[int, int]]) -> Node:
    specs = [tf.TensorSpec(shape, dtype) for shape in shapes]
    graph = tf.function(lambda a, b: tf.matmul(a, b)).get_concrete_function(*specs).graph
    (op,) = [op for op in graph.get_operations() if op.type == "MatMul"]
    return node_of(op)


def operands(dtype: type, terms: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.standard_normal((16, terms)).astype(dtype), random.standard_normal((terms, 8)).astype(dtype)


def summed_in(a: np.ndarray, b: np.ndarray, sums: type) -> np.ndarray:
    """a @ b, one term after the other in a format, rounded to the operands' own at the end."""
    total = np.zeros((a.shape[0], b.shape[1]), sums)
    for k in range(a.shape[1]):
        term = np.outer(a[:, k].astype(np.float32), b[k].astype(np.float32))
        total = (total.astype(np.float32) + term).astype(sums)
    return total.astype(a.dtype)


def judged(a: np.ndarray, b: np.ndarray, candidate: np.ndarray, reference: np.ndarray) -> Bound:
    dtype = tf.as_dtype(a.dtype)
    evidence = OpEvidence(
        matmul_node(dtype, (a.shape, b.shape)), [tf.constant(a), tf.constant(b)], [candidate], [reference]
    )
    bound = OpJudge().judge(evidence)[0].bound
    assert bound is not None
    return bound


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("terms", [16, 256])
def test_products_of_narrow_numbers_have_to_be_summed_in_float32(dtype, terms):
    a, b = operands(dtype, terms)
    wide, narrow = summed_in(a, b, np.float32), summed_in(a, b, dtype)
    assert judged(a, b, wide, wide).excess < 0.2
    assert judged(a, b, narrow, wide).excess > 10


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_where_the_reference_sums_in_the_narrow_format_so_may_the_candidate(dtype):
    a, b = operands(dtype, 64)
    narrow = summed_in(a, b, dtype)
    assert judged(a, b, narrow, narrow).is_explained
    assert judged(a, b, summed_in(a, b, np.float32), narrow).is_explained
    assert not judged(a, b, narrow * dtype(2), narrow).is_explained


def test_equal_terms_may_lose_what_a_plain_sum_loses():
    """The gradient behind an average pool: 16,384 times the same number, added up in two ways."""
    x = np.full((16384, 1), 0.1, np.float32)
    graph = tf.function(lambda v: tf.reduce_sum(v, 0)).get_concrete_function(tf.TensorSpec(x.shape)).graph
    (op,) = [op for op in graph.get_operations() if op.type == "Sum"]
    total = np.float32(0)
    for value in x[:, 0]:
        total += value
    inputs = [tf.constant(x), tf.constant([0])]
    exact = np.array([16384 * float(np.float32(0.1))]).astype(np.float32)
    for output in (np.array([total]), exact):
        evidence = OpEvidence(node_of(op), inputs, [output], [exact])
        bound = OpJudge().judge(evidence)[0].bound
        assert bound is not None and bound.is_explained
    lost = np.array([exact[0] * np.float32(0.99)])
    bound = OpJudge().judge(OpEvidence(node_of(op), inputs, [lost], [exact]))[0].bound
    assert bound is not None and not bound.is_explained
