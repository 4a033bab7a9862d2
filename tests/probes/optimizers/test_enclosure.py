"""Intervals: what NumPy computes in the format lies inside, what is further off lies outside, exact is exact."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from diag.numerics.formats import FLOAT16, FLOAT32
from probes.optimizers.enclosure import PRECISION, Enclosure, constant, point

FORMATS = {np.float32: FLOAT32, np.float16: FLOAT16}


def numbers(dtype, size=200, seed=0, positive=False):
    x = np.random.default_rng(seed).normal(size=size) * 2.0 ** np.random.default_rng(seed + 1).integers(-6, 6, size)
    return (np.abs(x) if positive else x).astype(dtype)


def holds(enclosure: Enclosure, found) -> np.ndarray:
    wide = np.asarray(found).astype(np.float64)
    return (enclosure.low <= wide) & (wide <= enclosure.high)


OPERATIONS = {
    "sum": (lambda a, b: a + b, lambda a, b: a + b),
    "difference": (lambda a, b: a - b, lambda a, b: a - b),
    "product": (lambda a, b: a * b, lambda a, b: a * b),
    "quotient": (lambda a, b: a / b, lambda a, b: a / b),
    "square": (lambda a, b: a.square(), lambda a, b: a * a),
    "root": (lambda a, b: a.abs().sqrt(), lambda a, b: np.sqrt(np.abs(a))),
    "larger": (lambda a, b: a.maximum(b), np.maximum),
    "smaller": (lambda a, b: a.minimum(b), np.minimum),
    "chain": (lambda a, b: (a * b + b) / (a.square() + b.abs()), lambda a, b: (a * b + b) / (a * a + np.abs(b))),
}


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_numpy_computes_in_the_format_lies_inside_and_a_few_ulps_more_outside(name, dtype):
    ours, theirs = OPERATIONS[name]
    a, b = numbers(dtype), numbers(dtype, seed=5)
    with mpmath.workprec(PRECISION):
        enclosure = ours(point(a, FORMATS[dtype]), point(b, FORMATS[dtype]))
    found = theirs(a, b)
    assert found.dtype == dtype
    assert holds(enclosure, found).all()
    widest = np.max((enclosure.high - enclosure.low)[np.isfinite(enclosure.high)])
    assert widest < 0.02 * np.max(np.abs(found))
    assert not holds(enclosure, found.astype(np.float64) + 2 * widest + 1e-6).any()


def test_exact_is_a_rational_number_computed_apart():
    a, b = numbers(np.float32, 20), numbers(np.float32, 20, seed=5)
    with mpmath.workprec(PRECISION):
        made = (point(a, FLOAT32) * point(b, FLOAT32) + point(a, FLOAT32)).exact
    for x, y, exact in zip(a, b, made, strict=True):
        expected = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(x))
        assert Fraction(int(exact.man) * (-1) ** (exact < 0 and exact.man > 0)) * Fraction(2) ** exact.exp == expected


def test_a_sum_in_any_order_lies_inside():
    x = numbers(np.float16, 100, positive=True)
    enclosure = point(x, FLOAT16).sum()
    for seed in range(5):
        total = np.float16(0)
        for each in np.random.default_rng(seed).permutation(x):
            total = np.float16(total + each)
        assert holds(enclosure, total).all()
    assert not holds(enclosure, 1.2 * float(enclosure.exact[0])).any()


def test_nothing_is_said_of_what_may_overflow_divide_by_zero_or_have_no_root():
    huge, zero = point(np.float32([3e38]), FLOAT32), point(np.float32([0]), FLOAT32)
    one, third = point(np.float32([1]), FLOAT32), point(np.float32([1]), FLOAT32) / point(np.float32([3]), FLOAT32)
    for free in (huge + huge, one / zero, (zero - third).sqrt(), (huge * huge) * zero):
        assert np.isinf(free.low).all() and np.isinf(free.high).all()
    assert np.isfinite((one / third).high).all()


def test_a_float32_subnormal_may_be_flushed_and_a_float16_one_not():
    tiny = point(np.float32([1e-40]), FLOAT32)
    assert holds(tiny, 0.0).all() and holds(tiny * point(np.float32([2]), FLOAT32), 0.0).all()
    half = point(np.float16([1e-6]), FLOAT16) * point(np.float16([1]), FLOAT16)
    assert not holds(half, 0.0).any() and holds(half, np.float16(1e-6)).all()


def test_rounding_crosses_no_zero_and_1_stays_1_to_any_power():
    small = point(np.float16([2.0**-14]), FLOAT16)
    assert (small * small).low[0] == 0.0
    assert (constant(1.0, FLOAT16).power(constant(7, FLOAT16)).low == 1.0).all()


def test_a_constant_is_what_the_format_has_of_it():
    assert float(constant(1e-7, FLOAT16).exact[0]) == float(np.float16(1e-7)) == 2 * 2.0**-24
