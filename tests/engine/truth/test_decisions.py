"""What flipped: counted by hand on tensors of a few numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.graph import Node, node_of
from diag.engine.truth.axes import axis_names
from diag.engine.truth.decisions import flipped

raw = tf.raw_ops


def node(function: Callable[..., Any], *arrays: np.ndarray) -> Node:
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in arrays]
    graph = tf.function(function, autograph=False).get_concrete_function(*specs).graph
    (op,) = [op for op in graph.get_operations() if op.type not in ("Placeholder", "Identity", "NoOp", "Const")]
    return node_of(op)


def decided(function: Callable[..., Any], reference: list[Any], candidate: list[Any]) -> str:
    mine, theirs = ([np.array(x) for x in lane] for lane in (reference, candidate))
    outputs, own = ([np.asarray(function(*map(tf.constant, lane)))] for lane in (mine, theirs))
    tensors = [[tf.constant(x) for x in lane] for lane in (mine, theirs)]
    return flipped(node(function, *mine), tensors[0], tensors[1], outputs, own)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_signs_of_a_relu():
    x, y = floats(-1, 1e-9, 2, 0, 5), floats(-1, -1e-9, 2, 1e-9, 6)
    assert decided(lambda v: raw.Relu(features=v), [x], [y]) == "2 of 5 ReLU signs"
    gradient = floats(1, 1, 1, 1, 1)
    assert decided(lambda g, v: raw.ReluGrad(gradients=g, features=v), [gradient, x], [gradient, y]) == (
        "2 of 5 ReLU signs"
    )
    assert decided(lambda v: raw.Relu(features=v), [x], [x * 2]) == ""


def test_regions_of_a_relu6():
    assert decided(lambda v: raw.Relu6(features=v), [floats(-1, 5.9, 7)], [floats(1, 6.1, 8)]) == (
        "2 of 3 ReLU6 regions"
    )


def test_winners_of_a_max_pool():
    """Two windows of 2 x 2; in the second the largest moves."""
    x = floats(1, 4, 2, 3, 5, 6, 7, 8).reshape(1, 2, 4, 1)  # windows [1 4 / 5 6] and [2 3 / 7 8]
    y = x.copy()
    y[0, 1, 2, 0] = 8.5
    pool = dict(ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID")
    assert decided(lambda v: raw.MaxPool(input=v, **pool), [x], [y]) == "1 of 2 max-pool winners"
    pooled, gradient = floats(6, 8).reshape(1, 1, 2, 1), floats(1, 1).reshape(1, 1, 2, 1)
    unpool = lambda v, p, g: raw.MaxPoolGrad(orig_input=v, orig_output=p, grad=g, **pool)  # noqa: E731
    assert decided(unpool, [x, pooled, gradient], [y, pooled, gradient]) == "1 of 2 max-pool winners"


def test_choices_booleans_and_integers():
    a, b = floats(1, 2, 3), floats(3, 2, 1)
    condition, other = np.array([True, False, True]), np.array([True, True, True])
    assert decided(lambda c, x, y: raw.SelectV2(condition=c, t=x, e=y), [condition, a, b], [other, a, b]) == (
        "1 of 3 choices"
    )
    assert decided(lambda x, y: raw.Greater(x=x, y=y), [a, b], [b, b]) == "1 of 3 booleans"
    argmax = lambda x: raw.ArgMax(input=x, dimension=0)  # noqa: E731
    assert decided(argmax, [a.reshape(3, 1)], [b.reshape(3, 1)]) == "1 of 1 integers"
    assert decided(lambda x, y: raw.AddV2(x=x, y=y), [a, b], [b, b]) == ""


# ---- names of axes


@pytest.mark.parametrize(
    ("function", "shapes", "num_axes", "names"),
    [
        (lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), [(1, 4, 4, 2), (3, 3, 2, 5)], 4, "batch height width channel"),
        (lambda a, b: tf.matmul(a, b), [(2, 3), (3, 4)], 2, "row column"),
        (lambda x: raw.BiasAddGrad(out_backprop=x), [(2, 3, 3, 4)], 1, "channel"),
        (lambda x: tf.tanh(x), [(2, 3, 4)], 3, ""),
    ],
)
def test_names_of_axes(function, shapes, num_axes, names):
    found = axis_names(node(function, *(np.ones(shape, np.float32) for shape in shapes)), num_axes)
    assert " ".join(found) == names


def test_axes_of_a_kernels_gradient():
    arrays = [np.ones((1, 4, 4, 2), np.float32), np.ones((1, 4, 4, 5), np.float32)]

    def gradient(x: Any, g: Any) -> Any:
        return raw.Conv2DBackpropFilter(
            input=x, filter_sizes=[3, 3, 2, 5], out_backprop=g, strides=[1] * 4, padding="SAME"
        )

    graph = tf.function(gradient).get_concrete_function(*(tf.TensorSpec(x.shape) for x in arrays)).graph
    (op,) = [op for op in graph.get_operations() if op.type == "Conv2DBackpropFilter"]
    assert axis_names(node_of(op), 4) == ("kernel height", "kernel width", "input channel", "output channel")
