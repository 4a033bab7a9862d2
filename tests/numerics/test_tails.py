"""Chances by counting and by a tail, against SciPy's distribution and by hand."""

from __future__ import annotations

import math

import pytest
from scipy.stats import expon, genpareto

from diag.numerics.tails import LEAST_EXTRAPOLATED, ParetoTail, TailedSample

TAIL = ParetoTail(threshold=3.0, share=0.25, shape=0.4, scale=1.5)


@pytest.mark.parametrize("x", [3.0, 3.5, 10.0, 1e5])
def test_the_chance_beyond_a_threshold_is_scipys(x):
    assert TAIL.chance(x) == pytest.approx(0.25 * genpareto(0.4, 3.0, 1.5).sf(x))
    exponential = ParetoTail(3.0, 0.25, 0.0, 1.5)
    assert exponential.chance(x) == pytest.approx(0.25 * expon(3.0, 1.5).sf(x))


def test_what_was_seen_is_counted_and_never_less_likely_than_the_sample_supports():
    sample = TailedSample((1.0, 2.0, 3.0, 4.0), TAIL)
    assert [sample.num_at_least(x) for x in (0, 1, 3.5, 4, 5)] == [4, 4, 1, 1, 0]
    assert [sample.chance(x) for x in (0, 4, 5, math.inf)] == pytest.approx([1, 2 / 5, 1 / 5, 1 / 5])


def test_beyond_the_sample_the_tail_goes_on():
    sample = TailedSample((1.0, 2.0, 3.0, 4.0), TAIL)
    assert sample.extrapolated(4.0) is None
    assert sample.extrapolated(10.0) == pytest.approx(TAIL.chance(10.0))
    assert sample.extrapolated(4.1) == pytest.approx(min(TAIL.chance(4.1), 1 / 5))
    assert sample.extrapolated(math.inf) is None and TailedSample((1.0,)).extrapolated(5.0) is None
    assert TailedSample((1.0,), ParetoTail(1.0, 0.5, 0.0, 0.01)).extrapolated(1e6) == LEAST_EXTRAPOLATED
