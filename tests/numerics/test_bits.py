"""Arrays held against each other bit by bit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from diag.numerics.bits import same_bits


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.int64, np.complex128])
def test_the_same_numbers_are_the_same_bits(dtype):
    a = np.arange(6, dtype=np.int8).reshape(2, 3).astype(dtype)
    assert same_bits(a, a.copy())
    assert same_bits(a.T, a.T.copy())  # wherever they lie
    b = a.copy()
    b[1, 2] += dtype(1)
    assert not same_bits(a, b)


def test_zeros_of_two_signs_are_not_and_a_nan_is_itself():
    assert not same_bits(np.array(0.0, np.float32), np.array(-0.0, np.float32))
    assert same_bits(np.array([np.nan]), np.array([np.nan]))
    assert not same_bits(np.array([np.nan]), np.array([-np.nan]))


def test_another_dtype_or_shape_is_another_array():
    assert not same_bits(np.zeros(2, np.float32), np.zeros(2, np.int32))
    assert not same_bits(np.zeros((2, 1)), np.zeros((1, 2)))
    assert same_bits(np.zeros((0, 3)), np.zeros((0, 3)))
    assert not same_bits(np.array(["a"], object), np.array(["b"], object))
