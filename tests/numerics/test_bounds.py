"""Bounds: what rounding explains, on cases computed by hand or in another way."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from diag.numerics.bounds import (
    AbsoluteError,
    Yardstick,
    absolute_error,
    allowance_bound,
    composite_bound,
    contraction_bound,
    exact_bound,
    is_suspect,
    where_both_overflow,
)
from diag.numerics.formats import BFLOAT16, FLOAT16, FLOAT32
from diag.numerics.op_classes import ErrorClass, allowance_ulp
from diag.numerics.statistics import against_truth

U = 2.0**-24
NONE = AbsoluteError(0.0, 0.0, None)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


# ---- exact


def test_equal_bits_and_what_counts_as_equal():
    x = floats(1, -0.0, np.nan, np.inf, 0)
    bound = exact_bound(x, floats(1, 0.0, np.nan, np.inf, -0.0))
    assert (bound.excess, bound.is_explained, bound.worst_index) == (0.0, True, None)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (floats(1, 2), np.nextafter(floats(1, 2), floats(1, 9))),
        (floats(1, np.nan), floats(1, 2)),
        (floats(1, 2), floats(1, np.nan)),
        (floats(1, np.inf), floats(1, -np.inf)),
        (np.array([1, 2], np.int32), np.array([1, 3], np.int32)),
        (np.array([True, True]), np.array([True, False])),
    ],
)
def test_anything_else_is_out_of_the_exact_bound(x, expected):
    bound = exact_bound(x, expected)
    assert (bound.excess, bound.rms, bound.worst_index) == (math.inf, 0.5, (1,))
    assert not bound.is_explained


def test_a_flushed_subnormal_is_exact_but_a_lost_normal_is_not():
    smallest = np.float32(2.0**-126)
    assert exact_bound(floats(0.0), floats(2.0**-127)).is_explained
    assert not exact_bound(floats(0.0), np.array([smallest])).is_explained


def test_an_exact_scalar():
    assert exact_bound(np.array(2, np.int32), np.array(3, np.int32)).worst_index == ()


# ---- allowances


@pytest.mark.parametrize(
    ("ulp", "allowance", "explained"),
    [(1, 1.0, True), (1, 0.5, False), (3, 3.0, True), (4, 3.0, False)],
)
def test_allowances_are_in_ulp_of_the_truth(ulp, allowance, explained):
    truth = np.array([1.5, 1.25, 1.75])
    x = floats(1.5, 1.25, 1.75 + ulp * 2.0**-23)  # 2^-23 is one ULP in [1, 2)
    bound = allowance_bound(against_truth(x, truth), allowance, ErrorClass.FUNCTION)
    assert bound.is_explained is explained
    assert bound.excess == pytest.approx(ulp / allowance, rel=1e-5)
    assert (bound.max, bound.worst_index) == (ulp, (2,))


def test_half_an_ulp_is_rounding_to_nearest():
    truth = np.array([1 + 2.0**-24, 1 + 2.0**-30])  # a tie, and a number that float32 has not
    assert allowance_bound(against_truth(floats(1, 1), truth), 0.5, ErrorClass.ROUNDED_ONCE).is_explained


def test_a_correctly_rounded_difference_correctly_squared_is_allowed():
    """A relative 2^-24 / m of the difference, m near sqrt(2), is 2 m * 2^-24 = sqrt(2) ULP of a square near 2."""
    random = np.random.default_rng(0)
    a, b = (random.uniform(*limits, 10**5).astype(np.float32) for limits in ((2.0, 2.5), (0.9, 1.0)))
    difference = a - b
    truth = np.square(a.astype(np.float64) - b.astype(np.float64))
    statistics = against_truth(difference * difference, truth)
    assert 1.5 < statistics.max < 0.5 + math.sqrt(2)
    allowance = allowance_ulp("SquaredDifference")
    assert allowance_bound(statistics, allowance, ErrorClass.ROUNDED_ONCE).is_explained


@pytest.mark.parametrize(("x", "truth"), [(np.nan, 1.0), (np.inf, 1.0), (1.0, np.nan)])
def test_no_allowance_covers_what_is_not_finite(x, truth):
    statistics = against_truth(floats(1, x), np.array([1.0, truth]))
    assert allowance_bound(statistics, 1e9, ErrorClass.FUNCTION).excess == math.inf


# ---- contractions

K = 2048


def product_of_k_terms() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    a = random.standard_normal((32, K)).astype(np.float32)
    b = random.standard_normal((K, 16)).astype(np.float32)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    return a, b, wide_a @ wide_b, np.abs(wide_a) @ np.abs(wide_b)


def in_order(a: np.ndarray, b: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The product summed one term after the other, in float32."""
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for k in order:
        total += np.outer(a[:, k], b[k])
    return total


def tf32(x: np.ndarray) -> np.ndarray:
    return (x.view(np.uint32) + np.uint32(0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
def test_a_long_product_passes_in_any_order(order):
    a, b, truth, scale = product_of_k_terms()
    orders = {
        "forward": np.arange(K), "backward": np.arange(K)[::-1], "shuffled": np.random.default_rng(1).permutation(K),
    }  # fmt: skip
    x = in_order(a, b, orders[order])
    assert np.abs(x / truth - 1).max() > 1e-5  # what a relative tolerance would have to allow
    assert contraction_bound(x, truth, scale, K, FLOAT32).is_explained


def test_tf32_inputs_fail_by_far():
    a, b, truth, scale = product_of_k_terms()
    x = (tf32(a).astype(np.float64) @ tf32(b).astype(np.float64)).astype(np.float32)
    assert contraction_bound(x, truth, scale, K, FLOAT32).excess > 2


def test_float16_sums_fail_as_float32_and_pass_as_float16():
    _, _, truth, scale = product_of_k_terms()
    x = truth.astype(np.float16)
    assert contraction_bound(x, truth, scale, K, FLOAT16).is_explained
    assert not contraction_bound(x.astype(np.float32), truth, scale, K, FLOAT32).is_explained


def test_one_wrong_element_among_many_is_enough():
    _, _, truth, scale = product_of_k_terms()
    x = truth.astype(np.float32)
    assert contraction_bound(x, truth, scale, K, FLOAT32).is_explained
    row, column = np.unravel_index(np.argmax(np.abs(truth)), truth.shape)
    x[row, column] *= np.float32(1 + 2.0**-10)  # bit 13 flipped, in one element of 512
    bound = contraction_bound(x, truth, scale, K, FLOAT32)
    assert bound.excess > 1
    assert bound.worst_index == (row, column)


def test_the_units_are_u_times_the_products_magnitude():
    truth, scale = np.array([10.0, 20.0]), np.array([100.0, 200.0])
    x = floats(10.0, 20.0 + 8 * 2.0**-19)  # an error of 2^-16, and u |A||B| is 200 * 2^-24
    bound = contraction_bound(x, truth, scale, 4, FLOAT32)
    assert bound.max == pytest.approx(2.0**-16 / (200 * U), rel=1e-6)
    assert bound.rms == pytest.approx(bound.max / math.sqrt(2), rel=1e-6)
    assert bound.worst_index == (1,)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e-3])
def test_no_error_is_rounding_where_nothing_was_multiplied(value):
    bound = contraction_bound(floats(1, value), np.array([1.0, 0.0]), np.array([1.0, 0.0]), 4, FLOAT32)
    assert bound.excess > 1e30  # four smallest normals are granted for underflow
    assert bound.worst_index == (1,)


def test_a_coarse_arithmetic_with_a_fine_result_is_judged_by_the_coarse():
    truth, scale = np.array([1.0]), np.array([1.0])
    x = floats(1 + 2.0**-9)
    assert not contraction_bound(x, truth, scale, 4, FLOAT32).is_explained
    assert contraction_bound(x, truth, scale, 4, BFLOAT16).is_explained


# ---- composites


def test_a_composite_is_held_against_spread_and_the_references_own_error():
    truth = np.zeros(4)  # a size of zero, so that no ULP of the result is granted
    x = floats(0, 0, 0, 32.0)
    spread = Yardstick(rms=1.0, max=1.0)
    bound = composite_bound(x, truth, spread, NONE)
    assert bound.excess == pytest.approx(32 / 16)  # the largest; its rms is 16, just allowed
    assert (bound.rms, bound.max, bound.worst_index) == (16.0, 32.0, (3,))
    helped = composite_bound(x, truth, spread, AbsoluteError(1.0, 1.0, (0,)))
    assert helped.excess == pytest.approx(1.0)


def test_a_composites_few_ulp():
    truth = np.full(4, 1.0)
    within, beyond = 1 + 2 * 2.0**-23, 1 + 5 * 2.0**-23  # 2 ULP of 1 and 5
    nothing = Yardstick(0.0, 0.0)
    assert composite_bound(np.full(4, within, np.float32), truth, nothing, NONE).is_explained
    assert not composite_bound(np.full(4, beyond, np.float32), truth, nothing, NONE).is_explained


def test_a_wild_reference_lends_its_error_to_nobody():
    truth, spread = np.ones(4), Yardstick(1e-6, 1e-6)
    wild = AbsoluteError(1.0, 1.0, (0,))
    assert is_suspect(wild, spread, U)
    assert not is_suspect(AbsoluteError(1e-5, 1e-5, (0,)), spread, U)
    assert not composite_bound(np.full(4, 2.0, np.float32), truth, spread, wild).is_explained


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_composite_must_be_finite(value):
    bound = composite_bound(floats(1, value), np.ones(2), Yardstick(1e9, 1e9), NONE)
    assert (bound.excess, bound.worst_index) == (math.inf, (1,))


# ---- absolute errors


def test_absolute_error_by_hand():
    error = absolute_error(floats(1, 2, 3, 8), np.array([1.0, 2.0, 3.0, 4.0]))
    assert error == AbsoluteError(2.0, 4.0, (3,))  # rms sqrt(16 / 4)


def test_absolute_error_counts_what_overflows_as_overflowed():
    x = np.array([np.inf, -np.inf, 1], np.float16)
    assert absolute_error(x, np.array([70000.0, -70000.0, 1.0])).max == 0.0
    assert absolute_error(x, np.array([70000.0, 70000.0, 1.0])).max == math.inf
    assert absolute_error(x, np.array([60000.0, -70000.0, 1.0])).max == math.inf


def test_absolute_error_of_nan():
    assert absolute_error(floats(np.nan, 1), np.array([np.nan, 1.5])) == AbsoluteError(
        math.sqrt(0.125), 0.5, (1,)
    )
    assert absolute_error(floats(np.nan, 1), np.array([0.0, 1.0])).worst_index == (0,)


def test_absolute_error_of_nothing():
    assert absolute_error(np.zeros((0, 3), np.float32), np.zeros((0, 3))) == NONE


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_absolute_error_of_narrow_formats(dtype):
    assert absolute_error(np.array([1.5, 3], dtype), np.array([1.0, 3.0])).max == 0.5


# ---- overflow shared by both lanes


def test_an_overflow_that_both_lanes_have_is_truth():
    x, reference = floats(np.inf, np.nan, np.inf, 1, np.inf), floats(np.inf, np.nan, 2, np.inf, -np.inf)
    truth = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    np.testing.assert_array_equal(where_both_overflow(x, reference, truth), [np.inf, np.nan, 3, 4, 5])
    np.testing.assert_array_equal(truth, [1, 2, 3, 4, 5])
