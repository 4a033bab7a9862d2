"""Generators that stand still, or draw from another stream."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.simulated import catalogue


def uniform(seed):
    return tf.random.stateless_uniform((4, 3), seed)


def test_frozen_repeats_what_the_first_step_drew(at_place, execution):
    simulation = catalogue()["rng-frozen"]()
    drawn = [at_place(simulation, uniform, [np.array([1, k])], execution, step=k)[0] for k in range(3)]
    np.testing.assert_array_equal(drawn[0], tf.random.stateless_uniform((4, 3), [1, 0]))
    np.testing.assert_array_equal(drawn[1], drawn[0])
    np.testing.assert_array_equal(drawn[2], drawn[0])


def test_frozen_is_cut_to_a_smaller_batch(at_place, execution):
    simulation = catalogue()["rng-frozen"]()
    (first,) = at_place(simulation, uniform, [np.array([1, 0])], execution)
    smaller = lambda seed: tf.random.stateless_uniform((2, 3), seed)  # noqa: E731
    larger = lambda seed: tf.random.stateless_uniform((5, 3), seed)  # noqa: E731
    np.testing.assert_array_equal(
        at_place(simulation, smaller, [np.array([1, 1])], execution, 1)[0], first[:2]
    )
    np.testing.assert_array_equal(
        at_place(simulation, larger, [np.array([1, 1])], execution, 1)[0], np.concatenate([first, first[:1]])
    )


def test_two_ops_are_frozen_each_in_its_own_draw(at_place, execution):
    simulation = catalogue()["rng-frozen"]()
    pair = lambda seed: (uniform(seed), uniform(seed + 10))  # noqa: E731
    first = at_place(simulation, pair, [np.array([1, 0])], execution)
    second = at_place(simulation, pair, [np.array([1, 5])], execution, step=1)
    assert not np.array_equal(*first)
    np.testing.assert_array_equal(second, first)


@pytest.mark.parametrize("place, same", [("sim:rng-frozen", True), ("CPU:0", False)])
def test_dropout_has_the_same_mask_in_every_step(train, perceptron, execution, place, same):
    training = train(f"{place}/{execution}", *perceptron("sgd", between=[keras.layers.Dropout(0.5)]))
    training.run(3)
    repeated = [changed.outputs[0] for changed in training.changed]
    assert [changed.call.step for changed in training.changed] == ([1, 2] if same else [])
    if same:
        np.testing.assert_array_equal(repeated[0], repeated[1])
        assert not np.array_equal(repeated[0], training.changed[0].call.outputs[0])
