"""Terms written out: their sums are what TensorFlow's float64 kernels give, and each is where it is said to be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.tf_runtime import readable_attributes
from diag.numerics.terms import Terms, terms_of

raw = tf.raw_ops


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def every_element(shape: tuple[int, ...]) -> np.ndarray:
    return np.array(list(np.ndindex(shape)), int).reshape(math.prod(shape), len(shape))


def written_out(function: Callable[..., Any], arrays: list[Any]) -> tuple[Terms, np.ndarray]:
    """The terms of all elements of a one-op function, and what TensorFlow computes."""
    specs = [tf.TensorSpec(np.shape(x), np.asarray(x).dtype) for x in arrays]
    graph = tf.function(function, autograph=False).get_concrete_function(*specs).graph
    (node,) = [op for op in graph.get_operations() if op.type not in ("Placeholder", "Identity", "NoOp", "Const")]
    constants = {op.name: tf.make_ndarray(op.get_attr("value")) for op in graph.get_operations() if op.type == "Const"}
    given = dict(zip((tensor.op.name for tensor in graph.inputs), arrays, strict=True))
    inputs = [given.get(tensor.op.name, constants.get(tensor.op.name)) for tensor in node.inputs]
    result = function(*map(tf.constant, arrays)).numpy()
    attrs = readable_attributes(node.node_def)
    found = terms_of(node.type, inputs, attrs, result.shape, every_element(result.shape))
    assert found is not None
    return found, result


def check(function: Callable[..., Any], arrays: list[Any]) -> Terms:
    found, result = written_out(function, arrays)
    sums = found.weight * found.products.sum(axis=1)
    np.testing.assert_allclose(sums.reshape(result.shape), result, rtol=1e-12, atol=1e-12)
    assert np.prod([length for _, length in found.axes]) == found.left.shape[1]
    return found


@pytest.mark.parametrize("flip_a", [False, True])
@pytest.mark.parametrize("flip_b", [False, True])
def test_matrix_products(flip_a, flip_b):
    a, b = normal(*((4, 3) if flip_a else (3, 4))), normal(*((5, 4) if flip_b else (4, 5)), seed=1)
    found = check(lambda a, b: raw.MatMul(a=a, b=b, transpose_a=flip_a, transpose_b=flip_b), [a, b])
    assert found.axes == (("inner dimension", 4),)


def test_products_of_many_matrices_broadcast():
    check(lambda x, y: raw.BatchMatMulV2(x=x, y=y, adj_y=True), [normal(2, 1, 3, 4), normal(6, 5, 4, seed=1)])


@pytest.mark.parametrize("equation", ["abc,cd->abd", "abc,dc->dab", "ab,cb->c", "ab,ab->", "ab,cd->abcd"])
def test_einsum(equation):
    sizes = dict(zip("abcd", (2, 3, 4, 5), strict=True))
    labels = equation.split("->")[0].split(",")
    operands = [normal(*(sizes[label] for label in each), seed=i) for i, each in enumerate(labels)]
    check(lambda *x: raw.Einsum(inputs=list(x), equation=equation), operands)


@pytest.mark.parametrize("op", [raw.Sum, raw.Mean])
@pytest.mark.parametrize("axes", [[0], [1, -1], [0, 1, 2], []])
@pytest.mark.parametrize("keep", [False, True])
def test_sums_and_means(op, axes, keep):
    check(lambda x: op(input=x, axis=tf.constant(axes, tf.int32), keep_dims=keep), [normal(3, 4, 5)])


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_gradients_of_a_bias(data_format):
    found = check(lambda x: raw.BiasAddGrad(out_backprop=x, data_format=data_format), [normal(2, 3, 4, 5)])
    assert found.left.shape == ((5, 24) if data_format == "NHWC" else (3, 40))


@pytest.mark.parametrize("rest", [(), (3,), (2, 3)])
def test_sums_of_segments(rest):
    """A row of a negative segment goes nowhere; one segment has none; rows may be of any shape."""
    segments = np.array([[1, 0, 4, 1], [1, -1, 4, 2]], np.int32)
    given = {"segment_ids": segments, "num_segments": 5}
    found = check(lambda x: raw.UnsortedSegmentSum(data=x, **given), [normal(2, 4, *rest)])
    assert found.axes == (("row", 8),)
    check(lambda x: raw.SegmentSum(data=x, segment_ids=[0, 0, 1, 3]), [normal(4, *rest)])


def test_sums_of_tensors():
    assert check(lambda *x: raw.AddN(inputs=list(x)), [normal(2, 3, seed=i) for i in range(4)]).left.shape == (6, 4)


# ---- convolutions

MOVES = [
    dict(strides=[1, 1, 1, 1], padding="VALID"),
    dict(strides=[1, 1, 1, 1], padding="SAME"),
    dict(strides=[1, 2, 3, 1], padding="SAME"),
    dict(strides=[1, 2, 2, 1], padding="VALID"),
    dict(strides=[1, 1, 1, 1], padding="SAME", dilations=[1, 2, 3, 1]),
    dict(strides=[1, 2, 1, 1], padding="EXPLICIT", explicit_paddings=[0, 0, 2, 1, 0, 3, 0, 0]),
]
IMAGE, KERNEL = (2, 9, 8, 3), (3, 2, 3, 4)


def output_of(kernel: tuple[int, ...], move: dict[str, Any]) -> np.ndarray:
    return raw.Conv2D(input=normal(*IMAGE), filter=normal(*kernel, seed=1), **move).numpy()


@pytest.mark.parametrize("move", MOVES)
def test_convolutions_and_their_gradients(move):
    image, kernel = normal(*IMAGE), normal(*KERNEL, seed=1)
    upstream = normal(*output_of(KERNEL, move).shape, seed=2)
    found = check(lambda x, w: raw.Conv2D(input=x, filter=w, **move), [image, kernel])
    assert found.axes == (("kernel height", 3), ("kernel width", 2), ("input channel", 3))
    if "dilations" in move:
        return  # the CPU has no gradient of a dilated convolution
    to_image = lambda w, g: raw.Conv2DBackpropInput(input_sizes=IMAGE, filter=w, out_backprop=g, **move)  # noqa: E731
    check(to_image, [kernel, upstream])
    to_kernel = lambda x, g: raw.Conv2DBackpropFilter(input=x, filter_sizes=KERNEL, out_backprop=g, **move)  # noqa: E731
    found = check(to_kernel, [image, upstream])
    assert [name for name, _ in found.axes] == ["batch", "height", "width"]


def test_grouped_convolution():
    move = dict(strides=[1, 1, 1, 1], padding="SAME")
    check(lambda x, w: raw.Conv2D(input=x, filter=w, **move), [normal(2, 5, 5, 6), normal(3, 3, 2, 9, seed=1)])


@pytest.mark.parametrize("move", [MOVES[0], MOVES[1], MOVES[3]])
def test_depthwise_convolutions_and_their_gradients(move):
    image, kernel = normal(*IMAGE), normal(3, 2, 3, 2, seed=1)
    output = raw.DepthwiseConv2dNative(input=image, filter=kernel, **move).numpy()
    upstream = normal(*output.shape, seed=2)
    check(lambda x, w: raw.DepthwiseConv2dNative(input=x, filter=w, **move), [image, kernel])
    check(
        lambda w, g: raw.DepthwiseConv2dNativeBackpropInput(input_sizes=IMAGE, filter=w, out_backprop=g, **move),
        [kernel, upstream],
    )
    check(
        lambda x, g: raw.DepthwiseConv2dNativeBackpropFilter(
            input=x, filter_sizes=kernel.shape, out_backprop=g, **move
        ),
        [image, upstream],
    )


def test_convolutions_in_three_dimensions():
    image, kernel = normal(2, 5, 6, 4, 3), normal(2, 3, 2, 3, 4, seed=1)
    move = dict(strides=[1, 2, 1, 1, 1], padding="SAME")
    check(lambda x, w: raw.Conv3D(input=x, filter=w, **move), [image, kernel])
    upstream = normal(*raw.Conv3D(input=image, filter=kernel, **move).shape, seed=2)
    check(
        lambda w, g: raw.Conv3DBackpropInputV2(input_sizes=image.shape, filter=w, out_backprop=g, **move),
        [kernel, upstream],
    )
    check(
        lambda x, g: raw.Conv3DBackpropFilterV2(input=x, filter_sizes=kernel.shape, out_backprop=g, **move),
        [image, upstream],
    )


def test_channels_first_by_hand():
    """One output, all by hand: the CPU has no such kernel in float64."""
    image, kernel = np.arange(18.0).reshape(1, 2, 3, 3), np.arange(8.0).reshape(2, 2, 2, 1)
    attrs = dict(strides=[1, 1, 1, 1], padding="VALID", data_format="NCHW", dilations=[1, 1, 1, 1])
    found = terms_of("Conv2D", [image, kernel], attrs, (1, 1, 2, 2), np.array([[0, 0, 1, 0]]))
    assert found is not None
    assert found.left.reshape(2, 2, 2).tolist() == [[[3, 12], [4, 13]], [[6, 15], [7, 16]]]
    assert found.right.ravel().tolist() == list(range(8))


def test_other_ops_are_not_written_out():
    assert terms_of("Relu", [normal(3)], {}, (3,), np.array([[0]])) is None


def test_contributions_along_axes():
    """Of a 2 x 3 sum of 1 to 6, weighted by 10."""
    left = np.arange(1.0, 7).reshape(1, 6)
    found = Terms(left, np.ones((1, 6)), (("row", 2), ("column", 3)), 10.0)
    assert found.along(["row"]).tolist() == [[60, 150]]
    assert found.along(["column"]).tolist() == [[50, 70, 90]]
    assert found.along(["row", "column"]).tolist() == [[10, 20, 30, 40, 50, 60]]
