"""Ragged and sparse tensors of a batch: held to what TensorFlow and NumPy make of the same rows, dense."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.step.arrays import array_of
from diag.engine.step.batch import Batch, joined, longest_of
from diag.engine.step.tracing import flat_batch, packed

ROWS = np.array([[0, 2, 0], [1, 0, 3], [0, 0, 0], [4, 5, 6]], np.float32)


def ragged(dense: np.ndarray) -> tf.RaggedTensor:
    return tf.ragged.constant([[number for number in row if number] for row in dense], dtype=tf.float32)


MADE = {
    "ragged": (ragged, lambda x: x.to_tensor(shape=(None, 3))),
    "sparse": (tf.sparse.from_dense, tf.sparse.to_dense),
}


@pytest.mark.parametrize("kind", MADE)
def test_rows_are_those_of_the_dense_array(kind):
    make, dense_of = MADE[kind]
    batch = Batch(array_of(make(ROWS)), np.arange(4))
    assert (batch.num_samples, batch.inputs.shape[0], batch.inputs.dtype) == (4, 4, np.float32)
    order = np.array([3, 0, 1])
    chosen = batch.mapped(lambda array: array[order])
    both = joined([chosen, batch])
    expected = dense_of(make(np.concatenate([ROWS[order], ROWS])))
    np.testing.assert_array_equal(dense_of(both.inputs.tensor()), expected)
    np.testing.assert_array_equal(both.targets, [3, 0, 1, 0, 1, 2, 3])
    again = pickle.loads(pickle.dumps(both.mapped(lambda array: array.astype("float64"))))
    assert dense_of(again.inputs.tensor()).dtype == tf.float64


@pytest.mark.parametrize("kind", MADE)
def test_a_step_is_given_them_whatever_their_length(kind):
    make, dense_of = MADE[kind]
    few, many = (Batch((array_of(make(rows)), None), np.zeros(len(rows))) for rows in (ROWS[:2], ROWS))
    given = tf.function(lambda *flat: dense_of(packed(few.data, flat)[0][0]))
    for batch, rows in ((few, ROWS[:2]), (many, ROWS)):
        np.testing.assert_array_equal(given(*flat_batch(batch)), dense_of(make(rows)))
    longest = longest_of([few, many])
    assert [x.shape for x in flat_batch(longest)] == [x.shape for x in flat_batch(many)]
    assert longest_of([few]) is few
