"""Bounds: what rounding explains, on cases computed by hand or in another way."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from diag.numerics import passes
from diag.numerics.bounds import (
    RoundingSpread,
    allowance_bound,
    composite_bound,
    contraction_bound,
    contraction_error,
    exact_bound,
    lost_in_order,
    where_both_overflow,
)
from diag.numerics.errors_against_truth import absolute_error
from diag.numerics.figures import AbsoluteError
from diag.numerics.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from diag.numerics.op_classes import ErrorClass, allowance_ulp
from diag.numerics.statistics import against_truth
from diag.numerics.terms import Terms

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
    ("ulp", "allowance", "explained"), [(1, 1.0, True), (1, 0.5, False), (3, 3.0, True), (4, 3.0, False)]
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


def equal_terms(value: float, count: int) -> Terms:
    left = np.full((3, count), np.float32(value), np.float64)
    return Terms(left, np.ones_like(left), (("row", count),))


def test_equal_terms_lose_more_than_any_law_says_and_no_more_than_a_sum_in_order():
    """16384 times 0.1f, one after the other, by a loop of float32 additions."""
    count, total = 16384, np.float32(0)
    for _ in range(count):
        total += np.float32(0.1)
    truth = np.full(3, float(np.float32(0.1)) * count)
    x = np.full(3, total)
    lost = abs(float(total) - truth[0]) / (U * truth[0])
    assert lost > 500
    assert contraction_bound(x, truth, truth, count, FLOAT32).excess > 1
    plain = lost_in_order(equal_terms(0.1, count), FLOAT32)
    assert lost <= plain.rms == pytest.approx(plain.max)
    assert plain.max <= count / 2  # half a rounding of the whole sum at each addition
    assert contraction_bound(x, truth, truth, count, FLOAT32, plain).excess <= 1 / 2 + 1e-9
    wrong = np.full(3, np.float32(truth[0] * (1 - 32 / count)))  # 32 terms left out
    assert contraction_bound(wrong, truth, truth, count, FLOAT32, plain).excess > 1


def test_a_sum_of_float64_numbers_is_in_float64():
    """It loses as many units, of a far smaller unit; in float32 they would be 2^29 times as many."""
    terms = np.full((1, 4096), 0.1)
    lost = lost_in_order(Terms(terms, np.ones_like(terms), ()), FLOAT64)
    assert 0 < lost.max < 4096


def test_a_sum_in_order_of_narrow_numbers():
    """In float16 0.1 can be added to a total of 256 no more."""
    lost = lost_in_order(equal_terms(0.0999755859375, 8192), FLOAT16)
    assert 0.99 * (819 - 256) / 819 * 2**11 <= lost.max <= 2**11


def test_ones_between_two_large_terms_that_cancel():
    """1 cannot be added to 2^26, whose spacing is 8: one after the other, all 199 of them are lost."""
    left = np.ones((1, 512))
    left[0, 100], left[0, 300] = 2.0**26, -(2.0**26)
    terms = Terms(left, np.ones_like(left), (("row", 512),))
    lost = lost_in_order(terms, FLOAT32).max * U * np.abs(left).sum()
    assert 195 <= lost <= 510


def test_an_outlier_is_one_however_long_the_sum():
    terms = equal_terms(0.1, 16384)
    truth = np.full(100, terms.products[0].sum())
    x = truth.astype(np.float32)
    x[7] *= np.float32(1 + 2.0**-14)
    bound = contraction_bound(x, truth, truth, 16384, FLOAT32, lost_in_order(terms, FLOAT32))
    assert (bound.excess > 1, bound.worst_index) == (True, (7,))


def test_a_sum_is_judged_by_what_its_own_order_may_lose_from_either_end():
    """72 squares, the last first: 8.2 u were reported of a healthy kernel, of one sum."""
    terms = np.r_[np.full(40, 2.0**-20), 1.0][None]  # the ones that come behind the large one are lost
    backwards = lost_in_order(Terms(terms, np.ones_like(terms), ()), BFLOAT16)
    assert backwards.max == pytest.approx(40 * 2.0**-20 / (2.0**-8 * terms.sum()), rel=1e-6)
    truth, u = np.array([[1.0]]), 2.0**-24
    assert contraction_bound(floats(1 + 8.19 * u)[None], truth, truth, 72, FLOAT32).is_explained
    assert not contraction_bound(floats(1 + 16 * u)[None], truth, truth, 72, FLOAT32).is_explained
    cancelled = np.array([[0.125]])  # an eighth of the terms is left: no total comes near to their sum
    assert not contraction_bound(floats(0.125 + 9 * u)[None], cancelled, truth, 72, FLOAT32).is_explained
    many = np.ones((100, 100))
    assert not contraction_bound(np.full_like(many, 1 + 10 * u, np.float32), many, many, 72, FLOAT32).is_explained


# ---- narrow results of wide sums


def narrow_product(dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    a, b = (random.standard_normal(shape).astype(dtype).astype(np.float64) for shape in ((32, 64), (64, 16)))
    return a, b, a @ b


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_a_narrow_result_is_rounded_once(dtype):
    a, b, truth = narrow_product(dtype)
    scale = np.abs(a) @ np.abs(b)
    x = truth.astype(np.float32).astype(dtype)
    bound = contraction_bound(x, truth, scale, 64, FLOAT32)
    assert bound.excess < 0.1
    assert contraction_error(x, truth, scale, FLOAT32).max() == pytest.approx(bound.max, rel=1e-6)


def test_a_narrow_result_of_narrow_sums_passes_only_as_such():
    a, b, truth = narrow_product(np.float16)
    scale = np.abs(a) @ np.abs(b)
    total = np.zeros((32, 16), np.float16)
    for k in range(64):
        total = (total.astype(np.float32) + np.outer(a[:, k], b[k]).astype(np.float32)).astype(np.float16)
    assert contraction_bound(total, truth, scale, 64, FLOAT32).excess > 100
    assert contraction_bound(total, truth, scale, 64, FLOAT16).is_explained


def test_overflow_of_a_narrow_result_is_no_error():
    x, truth = np.array([np.inf, 1], np.float16), np.array([70000.0, 1.0])
    assert contraction_bound(x, truth, np.array([1e5, 1.0]), 64, FLOAT32).excess == 0.0


def float16_sums(spread: float, num_terms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(results, truth, |A||B|) of sums kept in float32 with normal errors of `spread` u|A||B|, rounded to float16."""
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.5, 2, 1_000_000)
    truth = rng.normal(size=scale.size) * scale / math.sqrt(num_terms)
    return (truth + spread * U * scale * rng.normal(size=scale.size)).astype(np.float16), truth, scale


@pytest.mark.parametrize(("spread", "num_terms"), [(0.5, 64), (5, 64), (1, 9248), (6, 9248)])
def test_errors_that_the_last_rounding_hides_are_known_by_how_often_they_show(spread, num_terms):
    """A healthy H100 came to 14 u|A||B| in a float16 gradient of which the rms of what shows was 0.15."""
    x, truth, scale = float16_sums(spread, num_terms)
    bound = contraction_bound(x, truth, scale, num_terms, FLOAT32)
    assert bound.is_explained and bound.rms < spread / 2
    for wrong in (1, 20):
        y = x.copy()
        y[:wrong] += np.float16(0.01)  # about as large as a result
        assert contraction_bound(y, truth, scale, num_terms, FLOAT32).excess > 5


# ---- subnormals


def test_float16_keeps_its_subnormals_where_float32_may_lose_them():
    tiny16, tiny32 = np.array([1.0, 2.0**-16]), np.array([1.0, 2.0**-128])
    lost16, lost32 = np.array([1, 0], np.float16), floats(1, 0)
    assert not exact_bound(lost16, tiny16.astype(np.float16)).is_explained
    assert exact_bound(lost32, tiny32.astype(np.float32)).is_explained
    assert not contraction_bound(lost16, tiny16, tiny16, 4, FLOAT16).is_explained
    assert contraction_bound(lost32, tiny32, tiny32, 4, FLOAT32).is_explained
    assert not composite_bound(lost16[1:], tiny16[1:], RoundingSpread(0.0, 0.0), NONE).is_explained
    assert composite_bound(lost32[1:], tiny32[1:], RoundingSpread(0.0, 0.0), NONE).is_explained


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
    spread = RoundingSpread(rms=1.0, max=1.0)
    bound = composite_bound(x, truth, spread, NONE)
    assert bound.excess == pytest.approx(32 / 16)  # the largest; its rms is 16, just allowed
    assert (bound.rms, bound.max, bound.worst_index) == (16.0, 32.0, (3,))
    helped = composite_bound(x, truth, spread, AbsoluteError(1.0, 1.0, (0,)))
    assert helped.excess == pytest.approx(1.0)


def test_a_composites_few_ulp():
    truth = np.full(4, 1.0)
    within, beyond = 1 + 2 * 2.0**-23, 1 + 5 * 2.0**-23  # 2 ULP of 1 and 5
    nothing = RoundingSpread(0.0, 0.0)
    assert composite_bound(np.full(4, within, np.float32), truth, nothing, NONE).is_explained
    assert not composite_bound(np.full(4, beyond, np.float32), truth, nothing, NONE).is_explained


def test_a_wild_reference_lends_its_error_to_nobody():
    truth, spread = np.ones(4), RoundingSpread(1e-6, 1e-6)
    wild = AbsoluteError(1.0, 1.0, (0,))
    assert not composite_bound(np.full(4, 2.0, np.float32), truth, spread, wild).is_explained


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_composite_must_be_finite(value):
    bound = composite_bound(floats(1, value), np.ones(2), RoundingSpread(1e9, 1e9), NONE)
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
    assert absolute_error(floats(np.nan, 1), np.array([np.nan, 1.5])) == AbsoluteError(math.sqrt(0.125), 0.5, (1,))
    assert absolute_error(floats(np.nan, 1), np.array([0.0, 1.0])).worst_index == (0,)


def test_absolute_error_is_the_formula_in_blocks_and_threads(monkeypatch):
    rng = np.random.default_rng(0)
    size = 2 * passes._MIN_ELEMENTS_PER_THREAD + 777
    x = rng.standard_normal(size).astype(np.float32)
    truth = x + rng.normal(0.0, 1e-6, size)
    x[3], truth[3] = np.nan, np.nan
    x[-5], truth[-5] = np.inf, 1e39
    finite = np.isfinite(x)
    expected = np.abs(x[finite] - truth[finite])
    for num_cores in (1, 2, 3):
        monkeypatch.setattr(passes, "_num_cores", lambda num_cores=num_cores: num_cores)
        error = absolute_error(x, truth)
        assert error.max == expected.max()
        assert abs(x[error.worst_index] - truth[error.worst_index]) == expected.max()
        assert error.rms == pytest.approx(np.sqrt(np.sum(expected**2) / size), rel=1e-12)
        below = truth[np.abs(truth) < np.finfo(np.float32).max]
        assert error.truth_rms == pytest.approx(np.sqrt(np.mean(below**2)), rel=1e-12)
        assert error.truth_max == np.abs(below).max()


def test_the_limit_of_a_format_hides_no_error_beside_it():
    """The value of an empty segment, say: a constant, of which 2 ULP are 4e31."""
    lowest = np.finfo(np.float32).min
    error = absolute_error(floats(lowest, 1.0, 2.0), np.array([lowest, 1.0, 2.5]))
    assert (error.max, error.truth_max) == (0.5, 2.5)


def test_the_size_of_truth_is_that_of_its_finite_numbers():
    error = absolute_error(floats(3, np.inf, np.nan, 4), np.array([3.0, np.inf, np.nan, -4.0]))
    assert (error.rms, error.truth_rms, error.truth_max) == (4.0, math.sqrt(12.5), 4.0)


def test_absolute_error_of_integers():
    assert absolute_error(np.array([[1, 2], [3, 7]], np.int32), np.array([[1.0, 2.0], [3.0, 3.0]])).worst_index == (
        1,
        1,
    )


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
