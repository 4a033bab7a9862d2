"""The truths that the ranges of formats make of a layer, and which of them an element is held to."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from diag.engine.lanes.step_results import UnitInputs
from diag.engine.step.batch import Batch
from diag.engine.step.tracing import flat_batch, trace
from diag.engine.step.units import whole_step
from diag.engine.truth.format_range import Way, nearest
from diag.engine.truth.unit_truth import UnitTruth


class Halves(keras.layers.Layer):
    """A cast that overflows, a product that does on the way, two results of one op, and an op named like the second."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        half = tf.cast(x, tf.float16)
        left, right = tf.split(half, 2, axis=-1)
        (whole,) = tf.split(x, 1, axis=-1)
        product = tf.cast(left * tf.cast(2, tf.float16) * right, tf.float32)
        return tf.concat([tf.cast(half, tf.float32), product, whole], -1)


def test_what_leaves_its_format_is_infinite_in_the_ops_as_written_and_kept_where_a_cast_is_left_out():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(Halves(name="halves")(inputs)))
    model.compile("sgd", "mse")
    x, ratio = [70_000.0, 40_000.0, 2.0**-10, 2.0**-10], 2.0**-9
    batch = Batch(tf.constant([x], tf.float32), tf.constant([[0.0]], tf.float32))
    program = trace(model, batch)
    unit = whole_step(program, tuple(program.layer_outputs["halves"]))
    truth = UnitTruth(unit, program.variables)
    handed_on = [tf.zeros(program.graph.shape(port), program.graph.dtype(port)) for port in unit.outputs]
    given = UnitInputs(flat_batch(batch), program.initial_state(), handed_on)
    position = unit.outputs.index(program.layer_outputs["halves"][0])
    found = {way: truth.outputs_in_range(given, way)[position][0] for way in Way}
    small, inf = 2.0**-10, np.inf
    assert truth.outputs(given)[position][0].tolist() == [inf, 40_000, small, small, inf, 40_000 * ratio, *x]
    assert found[Way.KEPT_WIDE].tolist() == [*x, 70_000 * ratio, 40_000 * ratio, *x]
    for way in (Way.AS_WRITTEN, Way.ANY_ORDER):
        assert found[way].tolist() == [inf, 40_000, small, small, inf, inf, *x]


def test_an_element_is_held_to_the_truth_nearest_to_it_and_to_infinity_only_where_a_format_comes_to_it():
    truth = np.array([1.0, 1.0, 1.0, 1.0, np.inf, np.inf])
    as_written = np.array([1.0, np.inf, np.inf, 0.0, 2.0, np.nan])
    x = np.array([np.inf, np.nan, 1.1, 0.1, 2.2, -np.inf], np.float16)
    assert np.array_equal(
        nearest(x, [truth, as_written]), [1.0, np.nan, 1.0, 0.0, 2.0, -np.inf], equal_nan=True
    )  # the first is infinite where nothing is: it stays wrong
