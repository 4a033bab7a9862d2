"""Rows of a larger batch, on integers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.faults.catalogue import catalogue

random = np.random.default_rng(0)
LARGE, SMALL = (random.integers(-9, 9, (rows, 3)).astype(np.float32) for rows in (4, 2))
BUFFER = np.concatenate([SMALL, LARGE[2:]])

SUMS = {
    "bias": (lambda x: tf.raw_ops.BiasAddGrad(out_backprop=x), BUFFER.sum(0)),
    "sum": (lambda x: tf.reduce_sum(x, 0), BUFFER.sum(0)),
    "sum of all": (tf.reduce_sum, BUFFER.sum()),
    "mean": (lambda x: tf.reduce_mean(x, 0), BUFFER.sum(0) / 2),
    "product": (lambda x: tf.matmul(x, x, transpose_a=True), BUFFER.T @ BUFFER),
    "other axis": (lambda x: tf.reduce_sum(x, 1), SMALL.sum(1)),
    "other product": (lambda x: tf.matmul(x, x, transpose_b=True), SMALL @ SMALL.T),
}


@pytest.mark.parametrize("name", SUMS)
def test_the_old_rows_are_summed_too(at_place, execution, name):
    function, expected = SUMS[name]
    simulation = catalogue()["stale-partial-batch"]()
    np.testing.assert_array_equal(at_place(simulation, function, [LARGE], execution)[0], function(LARGE))
    for step in (1, 2):
        (found,) = at_place(simulation, function, [SMALL], execution, step)
        np.testing.assert_array_equal(found, expected.astype(np.float32))
    np.testing.assert_array_equal(at_place(simulation, function, [LARGE], execution, 3)[0], function(LARGE))


def test_a_kernels_gradient(at_place, execution):
    images = {rows: random.integers(-9, 9, (rows, 2, 2, 1)).astype(np.float32) for rows in (3, 1)}
    gradient = lambda x: tf.raw_ops.Conv2DBackpropFilter(  # noqa: E731
        input=x, filter_sizes=[1, 1, 1, 1], out_backprop=x, strides=[1, 1, 1, 1], padding="VALID"
    )
    simulation = catalogue()["stale-partial-batch"]()
    at_place(simulation, gradient, [images[3]], execution)
    (found,) = at_place(simulation, gradient, [images[1]], execution, 1)
    assert found.item() == np.sum(images[1] ** 2) + np.sum(images[3][1:] ** 2)


def test_by_itself_the_op_is_right(at_place, execution):
    (found,) = at_place("stale-partial-batch", tf.reduce_sum, [SMALL], execution)
    assert found == SMALL.sum()
