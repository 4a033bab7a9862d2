"""Approximate functions, against the bound that names them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

X = np.linspace(0.25, 9, 300, dtype=np.float32).reshape(3, 100)
FUNCTIONS = {
    tf.exp: math.exp,
    tf.math.log: math.log,
    tf.tanh: math.tanh,
    tf.math.softplus: lambda x: math.log1p(math.exp(x)),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_exp_and_log_are_off_by_up_to_two_to_the_minus_17(at_place, execution, function):
    (found,) = at_place("exp-log-approx", function, [X], execution)
    right = np.vectorize(lambda x: FUNCTIONS[function](float(x)))(X)
    assert np.all(right != 0)
    error = (found - right) / right
    assert 2.0**-18 < np.abs(error).max() < 2.0**-17 + 2.0**-20  # and what the CPU's own function errs
    assert error.min() < -(2.0**-18) and error.max() > 2.0**-18
    assert abs(error.mean()) < 2.0**-20


@pytest.mark.parametrize("function, power", [(tf.sqrt, 0.5), (tf.math.rsqrt, -0.5)])
def test_roots_have_12_bits(at_place, execution, function, power):
    (found,) = at_place("rsqrt-12bit", function, [X], execution)
    significands = [math.frexp(float(y))[0] * 2**12 for y in found.flat]
    assert all(significand.is_integer() for significand in significands)
    error = np.abs(found / X.astype(np.float64) ** power - 1)
    assert 2.0**-14 < error.max() <= 2.0**-12


@pytest.mark.parametrize("name, function", [("exp-log-approx", tf.exp), ("rsqrt-12bit", tf.sqrt)])
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes_are_left_alone(at_place, execution, name, function, dtype):
    given = tf.cast(X, dtype).numpy()
    (found,) = at_place(name, function, [given], execution)
    np.testing.assert_array_equal(found, function(given).numpy())


def test_special_values_stay(at_place, execution):
    given = np.array([-np.inf, 0, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(at_place("exp-log-approx", tf.math.log, [given], execution)[0], tf.math.log(given))
