"""Generators that stand still, or draw from another stream."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.faults.catalogue import catalogue


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
    np.testing.assert_array_equal(at_place(simulation, smaller, [np.array([1, 1])], execution, 1)[0], first[:2])
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


def test_the_other_stream_is_another_and_uniform(at_place, execution):
    draw = lambda seed: tf.random.stateless_uniform((4000,), seed)  # noqa: E731
    (first,) = at_place("rng-other-stream", draw, [np.array([1, 0])], execution)
    (again,) = at_place("rng-other-stream", draw, [np.array([1, 0])], execution)
    (later,) = at_place("rng-other-stream", draw, [np.array([1, 1])], execution, step=1)
    np.testing.assert_array_equal(first, again)
    right = tf.random.stateless_uniform((4000,), [1, 0]).numpy()
    for drawn, other in ((first, right), (first, later), (later, right)):
        assert not np.any(drawn == other)
        # The largest gap to the uniform distribution function: 1.95 / sqrt(n) is its 0.1% quantile.
        assert np.max(np.abs(np.sort(drawn) - (np.arange(4000) + 0.5) / 4000)) < 1.95 / np.sqrt(4000)


def test_the_other_stream_of_a_seed_given_as_such(at_place, execution):
    draw = lambda seed: tf.raw_ops.StatelessRandomNormal(shape=[50], seed=seed)  # noqa: E731
    seed = np.array([1, 2])
    (found,) = at_place("rng-other-stream", draw, [seed], execution)
    assert not np.any(found == draw(seed))
    assert np.all(np.abs(found) < 6)


def test_the_other_stream_of_a_stateful_generator(at_place, execution):
    draw = lambda: tf.raw_ops.RandomUniform(shape=[50], dtype=tf.float32, seed=1, seed2=2)  # noqa: E731
    (right,) = at_place("rng-frozen", draw, [], execution)
    (found,) = at_place("rng-other-stream", draw, [], execution)
    assert not np.any(found == right)
    assert np.all((found >= 0) & (found < 1))
