"""The fused Dense layer, on small integers: everything but Elu's own exponential is exact."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

X = np.array([[1, -2], [3, 4], [-5, 1]], np.float32)
W = np.array([[2, -1, 1], [1, 3, -2]], np.float32)
B = np.array([1, -2, 1], np.float32)
Y = np.array([[1, -9, 6], [11, 7, -4], [-8, 6, -6]], np.float32)  # X W + B, by hand
DY = np.array([[1, 2, 3], [-1, 2, -3], [4, 5, 6]], np.float32)

ACTIVATIONS = {"relu": tf.nn.relu, "relu6": tf.nn.relu6, "elu": tf.nn.elu}


def dense(activation, add=tf.nn.bias_add):
    return lambda x, w, b: activation(add(tf.matmul(x, w), b))


def with_gradients(function):
    def run(x, w, b, dy):
        with tf.GradientTape() as tape:
            tape.watch([x, w, b])
            y = function(x, w, b)
        return (y, *tape.gradient(y, [x, w, b], dy))

    return run


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_activation_is_left_out(at_place, name, dtype):
    given = [array.astype(dtype) for array in (X, W, B)]
    (found,) = at_place("metal-fused-dense", dense(ACTIVATIONS[name]), given)
    np.testing.assert_array_equal(found, Y)
    assert found.dtype == dtype


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_gradient_takes_y_for_its_features(at_place, name):
    y, dx, dw, db = at_place("metal-fused-dense", with_gradients(dense(ACTIVATIONS[name])), [X, W, B, DY])
    slope = {
        "relu": Y > 0,
        "relu6": (Y > 0) & (Y < 6),
        "elu": np.where(Y < 0, Y + 1, 1),  # EluGrad, told that the activation's output was Y
    }[name]
    inner = DY * slope
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(dx, inner @ W.T)
    np.testing.assert_array_equal(dw, X.T @ inner)
    np.testing.assert_array_equal(db, inner.sum(0))


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_dtypes_are_not_fused(at_place, dtype):
    given = [tf.cast(array, dtype).numpy() for array in (X, W, B)]
    (found,) = at_place("metal-fused-dense", dense(tf.nn.relu), given)
    np.testing.assert_array_equal(found.astype("float32"), np.maximum(Y, 0))


def bias_add_fetched(x, w, b):
    y = tf.nn.bias_add(tf.matmul(x, w), b)
    return tf.nn.relu(y), y


def bias_add_read_twice(x, w, b):
    y = tf.nn.bias_add(tf.matmul(x, w), b)
    return tf.nn.relu(y), tf.negative(y)


def product_read_twice(x, w, b):
    product = tf.matmul(x, w)
    return tf.nn.relu(tf.nn.bias_add(product, b)), tf.negative(product)


def product_fetched(x, w, b):
    product = tf.matmul(x, w)
    return tf.nn.relu(tf.nn.bias_add(product, b)), product


UNFUSED = [
    bias_add_fetched,
    bias_add_read_twice,
    product_read_twice,
    product_fetched,
    dense(tf.nn.relu, tf.add),
    lambda x, w, b: tf.nn.relu(tf.matmul(x, w)) + 0 * b,
    lambda x, w, b: tf.nn.relu(tf.nn.bias_add(tf.negative(tf.matmul(x, -w)), b)),
]


@pytest.mark.parametrize("function", UNFUSED)
def test_what_is_not_the_pattern_is_right(at_place, function):
    found = at_place("metal-fused-dense", lambda *given: tf.nest.flatten(function(*given)), [X, W, B])
    right = tf.nest.flatten(function(*map(tf.constant, (X, W, B))))
    assert found[0].min() == 0
    for array, expected in zip(found, right, strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("activation", [tf.nn.selu, tf.nn.softplus, tf.tanh])
def test_other_activations_are_not_fused(at_place, activation):
    (found,) = at_place("metal-fused-dense", dense(activation), [X, W, B])
    np.testing.assert_allclose(found, activation(Y).numpy(), rtol=1e-6)


def test_two_readers_of_the_activation_do_not_prevent_it(at_place):
    def function(x, w, b):
        z = dense(tf.nn.relu)(x, w, b)
        return z, tf.negative(z)

    z, negated = at_place("metal-fused-dense", function, [X, W, B])
    np.testing.assert_array_equal(z, Y)
    np.testing.assert_array_equal(negated, -Y)


def test_eagerly_it_is_right(at_place):
    (found,) = at_place("metal-fused-dense", dense(tf.nn.relu), [X, W, B], "eager")
    np.testing.assert_array_equal(found, np.maximum(Y, 0))


def one_step(train, perceptron, place, policy="float32"):
    training = train(place, *perceptron("adam", policy))
    before = training.state
    training.run(1)
    weights = [spec.name for spec in training.program.variables if spec.kind == "weight"]
    return before, training.state, weights


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_adam_steps_by_the_learning_rate_itself(train, perceptron, policy):
    before, after, weights = one_step(train, perceptron, "sim:fused-adam-no-bias-correction", policy)
    for name in weights:
        momentum, velocity = (after[f"optimizer/{name}/{slot}"].astype(np.float64) for slot in ("momentum", "velocity"))
        step = 0.001 * momentum / (np.sqrt(velocity) + 1e-7)
        np.testing.assert_allclose(before[name] - step, after[name], rtol=1e-6, atol=1e-9)
        assert np.max(np.abs(step)) > 0.0031  # sqrt(10) times as far as with the correction


def test_adam_is_right_eagerly(train, perceptron):
    _, plain, weights = one_step(train, perceptron, "CPU:0/eager")
    _, found, _ = one_step(train, perceptron, "sim:fused-adam-no-bias-correction/eager")
    for name in weights:
        np.testing.assert_array_equal(found[name], plain[name])


def test_sgd_has_no_bias_to_correct(train, perceptron):
    plain, found = (train(place, *perceptron("sgd")) for place in ("CPU:0", "sim:fused-adam-no-bias-correction"))
    plain.run(1)
    found.run(1)
    for name, value in plain.state.items():
        np.testing.assert_array_equal(found.state[name], value)
