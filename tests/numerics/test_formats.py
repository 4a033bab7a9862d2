"""`round_to` against the casts of NumPy and ml_dtypes, and against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import get_args

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diag.numerics.formats import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    TF32,
    Format,
    Rounding,
    float32_with_precision,
    format_of,
    round_to,
)

float32_bits = st.integers(0, 2**32 - 1)
float64_bits = st.integers(0, 2**64 - 1)


MODES = get_args(Rounding)


def from_bits(bits, dtype):
    return np.array([bits], f"u{np.dtype(dtype).itemsize}").view(dtype)


def rounded_exactly(value: float, format: Format, mode: str) -> float:
    """The definition, in exact arithmetic: the neighbouring multiples of the spacing, and the nearer."""
    exact = abs(Fraction(value))
    exponent = format.min_exponent
    while exact >= Fraction(2) ** (exponent + 1):
        exponent += 1
    spacing = Fraction(2) ** (exponent - format.precision + 1)
    below = exact // spacing
    rest = exact - below * spacing
    tie_goes_up = mode == "nearest-away" or below % 2 == 1
    up = mode != "toward-zero" and (rest * 2 > spacing or (rest * 2 == spacing and tie_goes_up))
    result = (below + up) * spacing
    if result > Fraction(2) ** (format.max_exponent + 1) - Fraction(2) ** (format.max_exponent - format.precision + 1):
        result = Fraction(format.largest) if mode == "toward-zero" else math.inf
    return math.copysign(float(result), value)


@pytest.mark.parametrize(
    ("format", "dtype"),
    [(FLOAT64, np.float64), (FLOAT32, np.float32), (FLOAT16, np.float16), (BFLOAT16, ml_dtypes.bfloat16)],
)
def test_constants_are_those_of_finfo(format, dtype):
    finfo = ml_dtypes.finfo(dtype)
    assert format_of(dtype) == format_of(np.dtype(dtype)) == format
    assert format.precision == finfo.nmant + 1
    assert format.unit_roundoff == float(finfo.eps) / 2
    assert format.smallest_normal == float(finfo.smallest_normal)
    assert format.smallest_subnormal == float(finfo.smallest_subnormal)
    assert format.largest == float(finfo.max)


def test_tf32_has_the_precision_of_float16_and_the_range_of_float32():
    assert TF32.precision == FLOAT16.precision
    assert (TF32.min_exponent, TF32.max_exponent) == (FLOAT32.min_exponent, FLOAT32.max_exponent)
    assert float32_with_precision(11) == Format("float32:11bit", 11, -126, 127)


def test_what_is_no_format_is_refused():
    with pytest.raises(TypeError, match="Received: dtype=int32"):
        format_of(np.int32)
    with pytest.raises(TypeError, match="Received: dtype=float16"):
        round_to(np.zeros(2, np.float16), BFLOAT16)
    with pytest.raises(ValueError, match="Received: mode='up'"):
        round_to(np.zeros(2), BFLOAT16, "up")
    with pytest.raises(ValueError, match="Received: bits=25"):
        float32_with_precision(25)


@settings(max_examples=300)
@given(float32_bits)
def test_float32_rounds_as_numpy_and_ml_dtypes_cast(bits):
    x = from_bits(bits, np.float32)
    for format, dtype in ((FLOAT16, np.float16), (BFLOAT16, ml_dtypes.bfloat16)):
        with np.errstate(over="ignore", invalid="ignore"):
            expected = x.astype(dtype).astype(np.float32)
        np.testing.assert_array_equal(round_to(x, format), expected)
        assert np.signbit(round_to(x, format)) == np.signbit(x)


def test_every_tie_and_neighbour_of_float16_rounds_as_numpy_casts():
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (halves[:-1] + halves[1:]) / 2
    x = np.concatenate([ties, np.nextafter(ties, 0), np.nextafter(ties, 1e9), [65519.996, 65520, 65536, 1e9]])
    x = np.concatenate([x, -x]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(round_to(x, FLOAT16), expected)


@settings(max_examples=300)
@given(float64_bits)
@example(int(np.float64(2.0**128 * (1 - 2.0**-25)).view(np.uint64)))  # the tie between largest and infinity
@example(int(np.float64(2.0**-150).view(np.uint64)))  # the tie between 0 and the smallest subnormal
@example(int(np.float64(3 * 2.0**-150).view(np.uint64)))
def test_float64_rounds_as_it_casts_to_float32(bits):
    x = from_bits(bits, np.float64)
    with np.errstate(over="ignore", under="ignore"):
        expected = x.astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(round_to(x, FLOAT32), expected)


@settings(max_examples=200, deadline=None)
@given(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from([TF32, BFLOAT16, FLOAT16, float32_with_precision(12), float32_with_precision(1)]),
    st.sampled_from(MODES),
    st.sampled_from([np.float32, np.float64]),
)
@example(3.0, float32_with_precision(1), "nearest-even", np.float32)  # a tie whose one-bit significands are both odd
@example(65519.0, FLOAT16, "nearest-even", np.float32)
@example(65520.0, FLOAT16, "nearest-even", np.float32)
@example(65520.0, FLOAT16, "toward-zero", np.float32)
@example(65520.0, FLOAT16, "nearest-away", np.float32)
@example(-1 - 2.0**-11, TF32, "nearest-away", np.float32)
@example(2.0**-25, FLOAT16, "nearest-away", np.float32)  # half the smallest subnormal
@example(float(np.finfo(np.float32).max), TF32, "toward-zero", np.float32)
@example(float(np.finfo(np.float32).max), TF32, "nearest-even", np.float32)
@example(2.0**-149, TF32, "nearest-even", np.float32)
@example(3.401992901712019e38, FLOAT16, "nearest-even", np.float32)  # up to 2^128, which float32 lacks
def test_rounding_is_the_definition_in_exact_arithmetic(value, format, mode, dtype):
    result = round_to(np.array(value, dtype), format, mode)
    assert result.dtype == dtype
    assert result.shape == ()
    assert float(result) == rounded_exactly(value, format, mode)
    assert math.copysign(1, float(result)) == math.copysign(1, value)


@settings(max_examples=100)
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([FLOAT32, TF32, FLOAT16]))
def test_truncation_of_float64_is_the_definition(value, format):
    assert float(round_to(np.array(value), format, "toward-zero")) == rounded_exactly(value, format, "toward-zero")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("format", [FLOAT16, BFLOAT16, TF32, FLOAT32])
def test_what_is_not_finite_stays(dtype, mode, format):
    x = np.array([np.inf, -np.inf, np.nan, -0.0, 0.0], dtype)
    result = round_to(x, format, mode)
    assert result.tobytes() == x.tobytes()


def test_a_nan_with_payload_in_the_dropped_bits_alone_stays_a_nan():
    x = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    for mode in MODES:
        assert np.isnan(round_to(x, BFLOAT16, mode)).all()


def test_a_wider_format_changes_nothing_and_the_argument_is_never_written():
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32).T
    before = x.copy()
    for format in (FLOAT64, FLOAT32, TF32, FLOAT16):
        result = round_to(x, format)
        assert not np.shares_memory(result, x)
        assert result.shape == x.shape
    np.testing.assert_array_equal(round_to(x, FLOAT64), before)
    np.testing.assert_array_equal(x, before)
    assert not np.array_equal(round_to(x, TF32), before)


def test_hand_computed_values():
    # TF32 has 10 bits after the point: 1 + 2^-11 is a tie and goes to the even 1, 1 + 3 2^-11 to 1 + 2^-9.
    x = np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-11 + 2.0**-23, 2 - 2.0**-12], np.float32)
    np.testing.assert_array_equal(round_to(x, TF32), np.float32([1, 1 + 2.0**-9, 1 + 2.0**-10, 2]))
    np.testing.assert_array_equal(round_to(x, TF32, "toward-zero"), np.float32([1, 1 + 2.0**-10, 1, 2 - 2.0**-10]))
    np.testing.assert_array_equal(
        round_to(x, TF32, "nearest-away"), np.float32([1 + 2.0**-10, 1 + 2.0**-9, 1 + 2.0**-10, 2])
    )
