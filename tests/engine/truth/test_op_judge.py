"""Judging single ops in narrow formats: sums made here, one rounding at a time."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.faults.winograd import filtered as winograd
from diag.engine.graphs.graph import Node, node_of
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.truth.op_judge import OpEvidence, OpJudge, output_arrays
from diag.engine.truth.op_truth import OpTruth
from diag.numerics.figures import Bound
from diag.verdict.findings import NORMWISE
from tests.faults.healthy import strassen_product


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


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16])
@pytest.mark.parametrize("is_training", [True, False])
def test_outputs_that_hold_nothing_may_have_any_shape(dtype, is_training):
    """In float16 FusedBatchNormV3's sixth output is a scalar, its gradient's last ones are empty, unlike oneDNN's."""
    x = tf.cast(np.random.default_rng(0).normal(size=(2, 3, 3, 4)), dtype)

    def with_gradient(x, one):
        given = {"scale": one, "is_training": is_training}
        out = tf.raw_ops.FusedBatchNormV3(x=x, offset=one, mean=one, variance=one, **given)
        kept = {f"reserve_space_{at}": one for at in (1, 2, 3)}
        return out, tf.raw_ops.FusedBatchNormGradV3(y_backprop=x, x=x, **kept, **given)

    specs = [tf.TensorSpec(x.shape, dtype), tf.TensorSpec([4])]
    graph = tf.function(with_gradient).get_concrete_function(*specs).graph
    nodes = [node_of(op) for op in graph.get_operations() if op.type.startswith("FusedBatchNorm")]
    one, outputs = tf.ones(4), with_gradient(x, tf.ones(4))
    for node, inputs, found in zip(nodes, ([x, *[one] * 4], [x, x, one, one, one, one]), outputs, strict=True):
        arrays = output_arrays(node, found)
        bounds = [judgement.bound for judgement in OpJudge().judge(OpEvidence(node, inputs, arrays, arrays))]
        assert all(bound is not None and bound.is_explained for bound in bounds)


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


def convolve_node(image: np.ndarray, kernel: np.ndarray) -> Node:
    specs = [tf.TensorSpec(x.shape, tf.float32) for x in (image, kernel)]
    graph = tf.function(lambda a, b: tf.nn.conv2d(a, b, 1, "VALID")).get_concrete_function(*specs).graph
    (op,) = [op for op in graph.get_operations() if op.type == "Conv2D"]
    return node_of(op)


def test_a_winograd_convolution_of_a_bright_spot_is_right_in_norm_and_a_fault_beside_it_is_not():
    random = np.random.default_rng(0)
    image = np.abs(random.standard_normal((1, 34, 34, 32))).astype(np.float32)
    image[:, 10:12, 10:12] *= 1000
    kernel = (random.standard_normal((3, 3, 32, 32)) / 20).astype(np.float32)
    plain = tf.nn.conv2d(image, kernel, 1, "VALID").numpy()
    node, inputs = convolve_node(image, kernel), [tf.constant(image), tf.constant(kernel)]

    def judgement(output: np.ndarray) -> tuple[bool, str]:
        (found,) = OpJudge().judge(OpEvidence(node, inputs, [output], [plain]))
        assert found.bound is not None
        return found.bound.is_explained, found.note

    transformed = winograd(image, kernel)
    assert judgement(plain) == (True, "")
    assert judgement(transformed) == (True, NORMWISE)
    cut = [(x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for x in (image, kernel)]
    assert judgement(tf.nn.conv2d(*cut, 1, "VALID").numpy()) == (False, "")
    for output in (plain, transformed):
        wrong = output.copy()
        wrong[0, 25, 25, 3] += 2.0**-12 * np.abs(plain[0, 20:, 20:]).max()  # far from the spot
        assert judgement(wrong) == (False, "")


@pytest.mark.parametrize("levels", [1, 2])
def test_a_strassen_product_is_right_in_norm_and_a_fault_in_it_is_not(levels):
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((64, 64)).astype(np.float32) for _ in range(2))
    a[20] *= 1000  # its partner, 32 or 16 rows away, inherits what is rounded there
    specs = [tf.TensorSpec(x.shape, tf.float32) for x in (a, b)]
    graph = tf.function(lambda x, y: tf.matmul(x, y, transpose_b=True)).get_concrete_function(*specs).graph
    node = node_of(next(op for op in graph.get_operations() if op.type == "MatMul"))
    inputs, plain, fast = [tf.constant(a), tf.constant(b.T.copy())], a @ b, strassen_product(a, b, levels)

    def judgement(output: np.ndarray) -> tuple[bool, str]:
        (found,) = OpJudge().judge(OpEvidence(node, inputs, [output], [plain]))
        assert found.bound is not None
        return found.bound.is_explained, found.note

    assert judgement(plain) == (True, "")
    assert judgement(fast) == (True, NORMWISE)
    cut = [(x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for x in (a, b)]
    assert judgement(cut[0] @ cut[1]) == (False, "")
    for output in (plain, fast):
        for row in (20, 21):
            wrong = output.copy()
            wrong[row, 3] += 2.0**-12 * np.std(plain[row])
            assert not judgement(wrong)[0]


@pytest.mark.parametrize("is_row", [False, True])
def test_a_product_with_a_vector_has_no_other_algorithm(is_row):
    """Two results a hundred-thousandth of the others are zero: in norm that is nothing, and no Strassen did it."""
    random = np.random.default_rng(0)
    a, b = random.standard_normal((64, 256)).astype(np.float32), random.standard_normal((256, 1)).astype(np.float32)
    a[[7, 9]] *= 1e-5
    wrong = a @ b
    wrong[[7, 9]] = 0
    factors, outputs = ((b.T, a.T), (wrong.T, (a @ b).T)) if is_row else ((a, b), (wrong, a @ b))
    assert not judged(*(x.copy() for x in factors), *outputs).is_explained


def test_the_scale_of_a_transform_is_of_the_largest_near_each_operand():
    """One pixel of -1 and a kernel with one tap of -2: an output is 2 for each tap that finds the pixel near."""
    image, kernel = np.zeros((1, 16, 16, 1), np.float32), np.zeros((3, 3, 1, 1), np.float32)
    image[0, 8, 8, 0], kernel[0, 1, 0, 0] = -1, -2
    found = OpTruth().mixed_scale(convolve_node(image, kernel), [tf.constant(image), tf.constant(kernel)])
    near = [sum(5 <= row + tap <= 11 for tap in range(3)) for row in range(14)]
    assert found is not None
    np.testing.assert_array_equal(found[0, :, :, 0], 2 * np.outer(near, near))


def complex_product(spoil: float = 0.0) -> Bound:
    """Products whose real parts cancel to a millionth; `spoil`: by how much of itself an imaginary part is wrong."""
    random = np.random.default_rng(0)
    a = (random.standard_normal(64) + 1j * random.standard_normal(64)).astype(np.complex64)
    b = (a.imag + 1j * a.real * np.float32(1 + 1e-6)).astype(np.complex64)
    graph = tf.function(tf.multiply).get_concrete_function(*[tf.TensorSpec((64,), tf.complex64)] * 2).graph
    (node,) = [node_of(op) for op in graph.get_operations() if op.type == "Mul"]
    product = to_numpy(tf.constant(a) * tf.constant(b)).copy()
    spoiled = product.copy()
    spoiled[7, 1] *= 1 + spoil
    evidence = OpEvidence(node, [tf.constant(a), tf.constant(b)], [spoiled], [product])
    bound = OpJudge().judge(evidence)[0].bound
    assert bound is not None
    return bound


def test_parts_of_complex_products_may_cancel_and_may_not_be_wrong():
    assert complex_product().excess < 0.2
    assert complex_product(1e-4).excess > 4
