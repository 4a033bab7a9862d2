"""One step up or down, in every format: held against the bits and against exact powers of two."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diag.numerics.formats import BFLOAT16, FLOAT16, FLOAT32
from diag.numerics.neighbours import moved_by_one_ulp

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
WORDS = {2: np.int16, 4: np.int32, 8: np.int64}


def moved(x, format=None, seed=0):
    return moved_by_one_ulp(x, np.random.default_rng(seed), format)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_element_moves_to_the_next_encoding(dtype):
    """The encodings of positive numbers are ordered as integers: one step is one."""
    x = np.random.default_rng(1).uniform(1e-3, 1e3, 500).astype(dtype)
    word = WORDS[x.dtype.itemsize]
    steps = moved(x).view(word).astype(int) - x.view(word).astype(int)
    assert set(steps) == {-1, 1}
    assert moved(x).dtype == x.dtype


@pytest.mark.parametrize("dtype, spacing", [(np.float16, 1), (ml_dtypes.bfloat16, 8), (np.float32, 2**-13)])
def test_one_step_where_the_spacing_is_known(dtype, spacing):
    """Between 2^10 and 2^11 the spacing of 11, 8 and 24 bits is 2^0, 2^3 and 2^-13."""
    x = np.full(64, 1536, dtype)
    assert set(np.abs(moved(x).astype(float) - 1536)) == {spacing}


def test_directions_are_drawn_from_the_generator():
    x = np.ones(1000, np.float32)
    assert np.array_equal(moved(x, seed=3), moved(x, seed=3))
    assert not np.array_equal(moved(x, seed=3), moved(x, seed=4))
    assert 400 < np.sum(moved(x) > 1) < 600


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_stays_and_the_largest_number_stays_finite(dtype):
    largest = ml_dtypes.finfo(dtype).max
    x = np.array([np.nan, np.inf, -np.inf, *[largest] * 20, *[-largest] * 20], dtype)
    result = moved(x)
    assert np.isnan(result[0]) and result[1] == np.inf and result[2] == -np.inf
    assert np.isfinite(result[3:]).all()
    assert (np.abs(result[3:]) < np.abs(x[3:])).all()


def test_zero_moves_to_the_smallest_subnormal_number():
    assert set(moved(np.zeros(64, np.float32))) == {np.float32(2.0**-149), np.float32(-(2.0**-149))}


@pytest.mark.parametrize("format, step", [(FLOAT16, 2.0**-10), (BFLOAT16, 2.0**-7)])
def test_a_coarser_format_sets_the_step(format, step):
    x = np.full(64, 1.5, np.float32)
    assert set(moved(x, format) - x) == {np.float32(step), np.float32(-step)}


def test_a_finer_format_changes_nothing():
    x = np.full(64, 1.5, np.float16)
    assert np.array_equal(moved(x, FLOAT32), moved(x))


@given(hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_no_number_lies_between(x):
    result = moved(x)
    low, high = np.minimum(x, result), np.maximum(x, result)
    assert np.array_equal(np.nextafter(low, high), high)
    assert np.all(low < high)


def test_integers_have_no_ulp():
    with pytest.raises(TypeError, match="int32"):
        moved(np.ones(3, np.int32))
