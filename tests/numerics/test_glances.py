"""A glance says of two tensors what full statistics say."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from diag.numerics.glances import EQUAL, glance
from diag.numerics.statistics import compare

FORMATS = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)


def assert_as_in_full(a, b):
    found, full = glance(a, b), compare(a, b)
    assert found.num_unequal == full.num_unequal
    assert found.num_mismatched == full.classes.num_mismatched
    assert found.normwise_relative_error == pytest.approx(full.normwise_relative_error, rel=1e-12, abs=0.0)
    return found


def pair(dtype, size=3000, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(size).astype(dtype)
    b = a.copy()
    b[::7] = (b[::7].astype(np.float64) * 1.25).astype(dtype)
    return a, b


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("size", [0, 1, 6, 1024, 1025, 3000])
def test_some_of_a_tensor_differ(dtype, size):
    assert_as_in_full(*pair(dtype, size))


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_same_bits_are_equal(dtype):
    a, _ = pair(dtype)
    assert glance(a, a.copy()) == EQUAL


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("there", [np.inf, -np.inf, np.nan, 0.0])
@pytest.mark.parametrize("here", [np.inf, np.nan, 1.0])
def test_what_is_not_finite(dtype, here, there):
    a, b = pair(dtype)
    a[5], b[5] = here, there
    assert_as_in_full(a, b)


@pytest.mark.parametrize("dtype", FORMATS)
def test_zeros_of_two_signs_are_equal_and_subnormals_are_not(dtype):
    a = np.array([0.0, -0.0, 0.0, 1.0], dtype)
    b = np.array([-0.0, 0.0, np.finfo(np.float64).tiny, 1.0], dtype)
    assert glance(a[:2], b[:2]) == EQUAL
    b[2] = ml_dtypes.finfo(dtype).smallest_subnormal
    assert assert_as_in_full(a, b).num_unequal == 1


def test_squares_out_of_range_and_a_reference_of_zeros():
    assert_as_in_full(np.array([1e200, 1.0]), np.array([1.5e200, 1.0]))
    assert_as_in_full(np.array([1e-200, 0.0]), np.array([1.5e-200, 0.0]))
    assert assert_as_in_full(np.zeros(3, np.float32), np.ones(3, np.float32)).normwise_relative_error == np.inf


def test_a_large_tensor_in_parts_and_one_with_strides():
    a, b = pair(np.float32, 1 << 20)
    assert_as_in_full(a, b)
    assert_as_in_full(a[::3].reshape(2, -1).T, b[::3].reshape(2, -1).T)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.bool_])
def test_integers(dtype):
    a = np.arange(10).astype(dtype)
    b = a.copy()
    assert glance(a, b) == EQUAL
    b[4] = not b[4]
    assert_as_in_full(a, b)


def test_what_statistics_refuse_is_refused():
    with pytest.raises(TypeError, match="one dtype"):
        glance(np.zeros(3, np.float32), np.zeros(3, np.float64))
    with pytest.raises(ValueError, match="element by element"):
        glance(np.zeros(3, np.float32), np.zeros(4, np.float32))
