"""ULP against NumPy's own spacing and steps, values computed by hand, and the exact maxima of glibc."""

from __future__ import annotations

import ctypes
import math
import platform

import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diag.numerics.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, TF32, format_of
from diag.numerics.ulp import PairClass, classify, flush_subnormals, ulp, ulp_distance, ulp_error

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
MIN_NORMAL = 2.0**-126
FLT_MAX = np.finfo(np.float32).max

finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def array32(*values):
    return np.array(values, np.float32)


# spacing


def test_spacing_at_two_to_the_23_is_one_above_and_a_half_at_it():
    assert np.spacing(np.float32(1 << 23)) == 1
    assert ulp(float((1 << 23) + 1), FLOAT32) == 1
    assert ulp(float(1 << 23), FLOAT32) == 0.5  # the smaller of the neighbours'
    assert ulp(-float(1 << 23), FLOAT32) == 0.5


@pytest.mark.parametrize("format", [FLOAT16, BFLOAT16, TF32, FLOAT32, FLOAT64])
def test_spacing_at_the_ends_of_the_range(format):
    smallest = format.smallest_subnormal
    assert ulp(0.0, format) == smallest
    assert ulp(smallest, format) == smallest
    assert ulp(format.smallest_normal, format) == smallest
    assert ulp(2 * format.smallest_normal, format) == smallest
    assert ulp(3 * format.smallest_normal, format) == 2 * smallest
    assert ulp(format.largest, format) == math.ldexp(2 * format.unit_roundoff, format.max_exponent)
    assert np.isnan(ulp([math.inf, math.nan], format)).all()


@settings(max_examples=300)
@given(finite32)
def test_spacing_is_numpys_but_at_powers_of_two(value):
    assume(abs(value) < FLT_MAX)  # NumPy looks away from zero, where there is nothing more
    expected = abs(float(np.spacing(np.float32(value))))
    if abs(math.frexp(value)[0]) == 0.5:  # a power of two: OpenCL and we look towards zero
        expected = max(expected / 2, FLOAT32.smallest_subnormal)
    assert ulp(value, FLOAT32) == expected


# error against truth


@settings(max_examples=300)
@given(finite32, st.floats(-1e6, 1e6))
def test_error_is_the_difference_in_spacings(value, ulps):
    x = array32(value)
    truth = np.float64(value) + ulps * 2.0**-149 * (abs(value) / 2.0**-126 + 1)
    expected = (np.float64(value) - truth) / ulp(truth, FLOAT32)
    np.testing.assert_allclose(ulp_error(x, [truth], FLOAT32), [expected], rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_neighbours_of_a_number_are_one_ulp_off(dtype):
    format = format_of(dtype)
    truth = np.array([1.5, -1.5, 3.0, 1.0, format.largest, format.smallest_normal, 0.0])
    x = truth.astype(dtype)
    below = np.nextafter(x, dtype(-100000) if dtype != np.float16 else dtype(-60000))
    np.testing.assert_array_equal(ulp_error(x, truth, format), 0)
    np.testing.assert_array_equal(ulp_error(below, truth, format), -1)


def test_above_a_power_of_two_the_neighbour_is_two_of_the_smaller_spacings_off():
    above = np.nextafter(np.float32(1), np.float32(2))
    assert ulp_error(above, 1.0, FLOAT32) == 2


def test_float64_errors_do_not_overflow_on_the_way():
    largest = np.finfo(np.float64).max
    assert ulp_error(np.array(-largest), largest, FLOAT64) == -(2.0**54 - 2)
    assert ulp_error(np.array(5e-324), 0.0, FLOAT64) == 1
    assert ulp_error(np.array(largest), 0.0, FLOAT64) == np.inf


def test_error_by_class():
    inf, nan = math.inf, math.nan
    x = array32(nan, nan, 1, inf, -inf, inf, 1, -1, inf, inf)
    truth = np.array([nan, 1, nan, inf, inf, 1, inf, inf, 2.0**128, -(2.0**128)])
    np.testing.assert_array_equal(ulp_error(x, truth, FLOAT32), [0, nan, nan, 0, -inf, inf, -inf, -inf, 0, inf])


def test_flushed_errors_take_the_gap_around_zero_as_one_step():
    x = array32(0, MIN_NORMAL, -MIN_NORMAL, MIN_NORMAL, 1e-40, 1.5 * MIN_NORMAL)
    truth = np.array([MIN_NORMAL, 0, MIN_NORMAL, MIN_NORMAL, -1e-41, MIN_NORMAL])
    np.testing.assert_array_equal(ulp_error(x, truth, FLOAT32, flushed=True), [-1, 1, -2, 0, 0, 2.0**22])
    assert ulp_error(x, truth, FLOAT32)[0] == -(2.0**23)


# distance


def bits_of(dtype):
    return st.integers(0, (1 << (8 * np.dtype(dtype).itemsize)) - 1)


def finite_from_bits(dtype, *bits):
    x = np.array(bits, f"u{np.dtype(dtype).itemsize}").view(dtype)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return np.where(np.isfinite(x), x, dtype(1))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=100)
@given(data=st.data())
def test_distance_is_a_metric_on_the_line(dtype, data):
    a, b, c = finite_from_bits(dtype, *(data.draw(bits_of(dtype)) for _ in range(3))).reshape(3, 1)
    ab, bc, ac = int(ulp_distance(a, b)[0]), int(ulp_distance(b, c)[0]), int(ulp_distance(a, c)[0])
    assert ab == ulp_distance(b, a)
    assert (ab == 0) == bool(a == b)
    most = np.iinfo(np.int64).max
    assert ac <= ab + bc
    low, middle, high = sorted((a, b, c), key=lambda v: float(v[0]))
    assert ulp_distance(low, high) == min(int(ulp_distance(low, middle)[0]) + int(ulp_distance(middle, high)[0]), most)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60)
@given(data=st.data())
def test_nextafter_is_one_step_away_even_across_zero(dtype, data):
    x = finite_from_bits(dtype, data.draw(bits_of(dtype)))
    towards = np.array([data.draw(st.sampled_from([-1, 0, 1]))], dtype)
    step = 0 if x == towards else 1
    assert ulp_distance(x, np.nextafter(x, towards)) == step


def test_distance_is_numpys_number_of_ulps():
    # NumPy's count is right between finite values of one sign: across zero it wraps (NumPy 2.4), and it is
    # rounded to their dtype, which float16 overflows.
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        a, b = (rng.standard_normal(1000).astype(dtype) for _ in range(2))
        b = np.copysign(b, a)
        close = np.nextafter(np.nextafter(a, dtype(9)), dtype(9))
        assert (ulp_distance(a, close) == 2).all()
        steps = np.testing.assert_array_max_ulp(a, b, maxulp=2**63)
        np.testing.assert_array_equal(ulp_distance(a, b).astype(dtype), steps.reshape(-1))


def test_hand_computed_distances():
    a = array32(0.0, -0.0, 1, -(2.0**-149), 0.0, 1, -1, FLT_MAX, 2.0**-149)
    b = array32(-0.0, 0.0, 2, 2.0**-149, MIN_NORMAL, 1, 1, -FLT_MAX, 0.0)
    expected = [0, 0, 1 << 23, 2, 1 << 23, 0, 2 * 0x3F800000, 2 * 0x7F7FFFFF, 1]
    np.testing.assert_array_equal(ulp_distance(a, b), expected)


def test_flushed_distances():
    a = array32(MIN_NORMAL, -MIN_NORMAL, -MIN_NORMAL, 1e-40, MIN_NORMAL, 1, 1, -1)
    b = array32(0, 0, MIN_NORMAL, -1e-44, 1e-40, 2, 0, 1)
    expected = [1, 1, 2, 0, 1, 1 << 23, 0x3F800000 - 0x7FFFFF, 2 * (0x3F800000 - 0x7FFFFF)]
    np.testing.assert_array_equal(ulp_distance(a, b, flushed=True), expected)


def test_no_distance_from_or_to_what_is_not_finite():
    # np.testing counts NaN from NaN as 0 and FLT_MAX as 1 from infinity.
    values = array32(math.inf, -math.inf, math.nan, FLT_MAX)
    for a in values[:3]:
        assert (ulp_distance(np.full_like(values, a), values) == -1).all()


def test_float64_distances_beyond_int64_are_its_largest():
    largest = np.array([np.finfo(np.float64).max])
    assert ulp_distance(largest, -largest) == np.iinfo(np.int64).max
    assert ulp_distance(largest, np.zeros(1)) == 0x7FEFFFFFFFFFFFFF


def test_shapes_strides_and_refusals():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert ulp_distance(x.T, x.T).shape == (4, 3)
    assert ulp_distance(x[:, ::2], x[:, 1::2])[0, 0] == 0x3F800000
    assert ulp_distance(np.float32(1), np.float32(1)).shape == ()
    assert ulp_distance(x[:0], x[:0]).shape == (0, 4)
    with pytest.raises(TypeError, match="a=float32, b=float64"):
        ulp_distance(x, x.astype(np.float64))
    with pytest.raises(ValueError, match=r"a.shape=\(3, 4\), b.shape=\(4, 3\)"):
        ulp_distance(x, x.T)


# classes


def test_each_class():
    inf, nan, tiny = math.inf, math.nan, 1e-40
    cases = [
        (nan, nan, PairClass.NAN_NAN),
        (nan, inf, PairClass.NAN_NUMBER),
        (1, nan, PairClass.NAN_NUMBER),
        (inf, inf, PairClass.INF_INF),
        (-inf, inf, PairClass.INF_OPPOSITE),
        (FLT_MAX, inf, PairClass.INF_FINITE),
        (-inf, 0, PairClass.INF_FINITE),
        (0.0, -0.0, PairClass.BOTH_ZERO),
        (1, -1, PairClass.OPPOSITE_SIGNS),
        (tiny, -tiny, PairClass.OPPOSITE_SIGNS),
        (tiny, 0, PairClass.SUBNORMAL),
        (1, tiny, PairClass.SUBNORMAL),
        (-0.0, 1, PairClass.ORDINARY),
        (MIN_NORMAL, 1, PairClass.ORDINARY),
    ]
    a, b, codes = zip(*cases, strict=True)
    result = classify(array32(*a), array32(*b))
    assert result.dtype == np.uint8
    assert [PairClass(code) for code in result] == list(codes)


def test_truth_that_overflows_equals_infinity_and_remains_a_number_to_numbers():
    tie = float(FLT_MAX) + 2.0**103  # rounds to infinity; anything below it to FLT_MAX
    truth = np.array([tie, math.nextafter(tie, 0), -tie, tie])
    x = array32(math.inf, math.inf, math.inf, FLT_MAX)
    expected = [PairClass.INF_INF, PairClass.INF_FINITE, PairClass.INF_OPPOSITE, PairClass.ORDINARY]
    assert [PairClass(code) for code in classify(truth, x, FLOAT32)] == expected
    np.testing.assert_array_equal(ulp_error(x, truth, FLOAT32)[[0, 3]], [0, -0.5])


@pytest.mark.parametrize("dtype", DTYPES)
def test_flush_keeps_the_sign_the_dtype_and_the_rest(dtype):
    format = format_of(dtype)
    normal, subnormal = format.smallest_normal, format.smallest_subnormal
    x = np.array([subnormal, -subnormal, normal, -normal, 0, np.inf, np.nan], dtype)
    flushed = flush_subnormals(x, format)
    assert flushed.dtype == x.dtype
    np.testing.assert_array_equal(flushed.astype(np.float64), [0, 0, normal, -normal, 0, np.inf, np.nan])
    assert np.signbit(flushed)[:2].tolist() == [False, True]


# the exact maxima of glibc 2.36, over all 2^32 inputs

# name, encoding of the input, largest error in ULP: from shared/data/glibc-2.36-binary32.txt
GLIBC_MAXIMA = [
    ("exp", 0xBBE7328F, 0.501637),
    ("log", 0x3F830083, 0.817664),
    ("sin", 0x3F0602E6, 0.560697),
    ("cos", 0x597F9410, 0.560720),
    ("tan", 0x631D36F8, 1.475501),
    ("tanh", 0x3E6EE50C, 2.188555),
    ("expm1", 0x3EB9C703, 0.812797),
    ("log1p", 0x3ED413DA, 1.293279),
    ("erf", 0x3F563109, 0.967919),
    ("sinh", 0x42B2C4C6, 1.889404),
    ("cosh", 0x42B2C4C6, 1.889404),
    ("atan", 0x3F3133B9, 0.852108),
    ("log2", 0x3F802BFC, 0.751762),
    ("exp2", 0xBC23CAFC, 0.501636),
    ("log10", 0x3F7B74EB, 2.064216),
    ("asin", 0x3F0063E6, 0.897694),
    ("acos", 0xBF053BFA, 0.898019),
]
EXACT = {"log2": lambda x: mpmath.log(x, 2), "exp2": lambda x: mpmath.power(2, x)}


@pytest.mark.skipif(
    platform.libc_ver() != ("glibc", "2.36") or platform.machine() != "x86_64",
    reason=f"the maxima are those of glibc 2.36 on x86_64, not of {platform.libc_ver()} {platform.machine()}",
)
@pytest.mark.parametrize(("name", "encoding", "expected"), GLIBC_MAXIMA)
def test_glibc_errs_by_its_known_maximum(name, encoding, expected):
    function = getattr(ctypes.CDLL("libm.so.6"), name + "f")
    function.argtypes, function.restype = [ctypes.c_float], ctypes.c_float
    x = np.array(encoding, np.uint32).view(np.float32)
    got = np.array(function(float(x)), np.float32)
    with mpmath.workprec(200):
        truth = float(EXACT.get(name, getattr(mpmath, name, None))(mpmath.mpf(float(x))))
    assert abs(ulp_error(got, truth, FLOAT32)) == pytest.approx(expected, abs=0.5e-4)
