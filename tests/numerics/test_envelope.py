"""The envelope of hand-made curves, and of a map whose growth is known."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from diag.numerics.envelope import OWN_ROUNDING, Envelope, relative_distance, share_disagreeing
from diag.numerics.neighbours import moved_by_one_ulp

NO_SPREAD = math.sqrt(13)  # twins that agree: a candidate that rounds five times as coarsely is explained


def limits(*steps):
    envelope = Envelope()
    return [envelope.add(distances) for distances in steps]


def test_twins_that_agree_leave_room_for_coarser_rounding():
    assert OWN_ROUNDING == NO_SPREAD
    assert limits([1e-7] * 3) == [pytest.approx(NO_SPREAD * 1e-7, rel=1e-12)]


def test_the_spread_of_the_twins_is_added_above_the_largest():
    """Twins at 1, 2 and 8: eight times apart, so that 64 is explained."""
    assert limits([1.0, 2.0, 8.0]) == [pytest.approx(64.0, rel=1e-12)]


def test_what_twins_have_shown_stays():
    found = limits([1.0, 10.0], [1.0, 1.0], [5.0, 5.0], [20.0, 20.0])
    assert found == pytest.approx([100.0, 100.0, 100.0, 200.0])


def test_no_twin_moved_explains_nothing_and_infinity_explains_all():
    assert limits([0.0, 0.0]) == [0.0]
    assert limits([0.0, 1.0]) == [pytest.approx(NO_SPREAD)]
    assert limits([1.0, math.inf], [1.0, 1.0]) == [math.inf, math.inf]
    assert limits([1e300, 1e-300]) == [math.inf]  # the spread reaches beyond float64


# -- distances -------------------------------------------------------------------------------------


def test_relative_distance_is_over_all_tensors_together():
    """|(0, 3), (4)| = 5 against |(6, 8), (0)| = 10."""
    reference = [np.array([6.0, 8.0], np.float32), np.array([[0.0]], np.float32)]
    values = [np.array([6.0, 11.0], np.float32), np.array([[4.0]], np.float32)]
    assert relative_distance(values, reference) == 0.5


def test_relative_distance_does_not_round_in_the_tensors_own_dtype():
    """2^-7 beside 256 is lost in bfloat16, and squares of 2^-20 underflow in float16."""
    reference = [np.full(4, 256, ml_dtypes.bfloat16), np.full(4, 2.0**-20, np.float16)]
    values = [np.full(4, 258, ml_dtypes.bfloat16), np.full(4, 2.0**-20, np.float16)]
    assert relative_distance(values, reference) == pytest.approx(2 / 256, rel=1e-12)


@pytest.mark.parametrize(
    "values, reference, expected",
    [([1, np.nan], [1, 1], math.inf), ([1, np.inf], [1, 1], math.inf), ([1, 1], [1, np.inf], math.nan),
     ([np.inf, 1], [np.inf, 1], math.nan), ([0, 0], [0, 0], 0.0), ([0, 1], [0, 0], math.inf)],
)  # fmt: skip
def test_what_is_not_finite(values, reference, expected):
    found = relative_distance([np.array(values, np.float32)], [np.array(reference, np.float32)])
    assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_disagreement_is_of_the_largest_score():
    reference = np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    predictions = np.array([[0.4, 0.6], [0.1, 0.9], [0.6, 0.4], [0.1, 0.9]])
    assert share_disagreeing(predictions, reference) == 0.5
    assert share_disagreeing(reference[:0], reference[:0]) == 0.0


# -- a training that is chaos: the logistic map ----------------------------------------------------

STATES = np.random.default_rng(0).uniform(0.1, 0.9, 200)


def logistic(x):
    return 4.0 * x * (1.0 - x)


def other_rounding(x):
    """The same map in exact arithmetic."""
    return 4.0 * x - 4.0 * (x * x)


def faulty(x):
    return 3.9999 * x * (1.0 - x)


def path(step, start=STATES, num_steps=60):
    states = [start]
    for _ in range(num_steps):
        states.append(step(states[-1]))
    return states


def curve(states):
    return [relative_distance([x], [r]) for x, r in zip(states, path(logistic), strict=True)]


@pytest.fixture(scope="module")
def twins():
    starts = [moved_by_one_ulp(STATES, np.random.default_rng(seed)) for seed in (1, 2, 3)]
    return [curve(path(logistic, start)) for start in starts]


def test_twins_of_the_logistic_map_double_their_distance_each_step(twins):
    """Its Lyapunov exponent is log 2; in the norm, steep elements count more."""
    for twin in twins:
        assert 0.9 < (math.log2(twin[30]) - math.log2(twin[5])) / 25 < 1.4
        assert twin[60] > 0.5  # no memory of the start is left


def test_another_rounding_stays_within_and_a_fault_does_not(twins):
    found = limits(*zip(*twins, strict=True))
    assert all(d <= e for d, e in zip(curve(path(other_rounding)), found, strict=True))
    outside = [d > e for d, e in zip(curve(path(faulty)), found, strict=True)]
    assert outside[1] and all(outside[1:15])
    assert not any(outside[55:])  # chaos hides what it has swallowed
