"""Adam's formula and its sensitivity, against mpmath, against a search, and against hand-made lanes."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from diag.numerics.adam import Adam, AdamLane, judge_adam
from diag.numerics.formats import FLOAT32

BETA_1, BETA_2, EPSILON, RATE = 0.9, 0.999, 1e-7, 1e-3
RANDOM = np.random.default_rng(0)


def adam(momentum, velocity, iteration=7, epsilon=EPSILON):
    momentum, velocity = np.asarray(momentum, float), np.asarray(velocity, float)
    return Adam(momentum, velocity, BETA_1, BETA_2, epsilon, RATE, iteration)


def at_rest(size=1):
    return adam(np.zeros(size), np.zeros(size), iteration=1)


def by_mpmath(m, v, g, iteration, epsilon=EPSILON):
    """The paper's algorithm 1, with the bias corrections where it has them but epsilon in the form of section 2."""
    with mpmath.workdps(60):
        b1, b2 = mpmath.mpf(BETA_1), mpmath.mpf(BETA_2)
        m, v, g = mpmath.mpf(float(m)), mpmath.mpf(float(v)), mpmath.mpf(g) if not isinstance(g, mpmath.mpf) else g
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        rate = mpmath.mpf(RATE) * mpmath.sqrt(1 - b2**iteration) / (1 - b1**iteration)
        return -rate * m / (mpmath.sqrt(v) + mpmath.mpf(epsilon))


CASES = [
    (m, v, g, iteration)
    for m, v in ((0.0, 0.0), (1e-3, 1e-5), (-2e-2, 1e-6), (1e-9, 1e-15))
    for g in (-1.5, 3e-4, -1e-8, 1e-12)
    for iteration in (1, 40)
]


@pytest.mark.parametrize("m, v, g, iteration", CASES)
def test_update_is_the_papers(m, v, g, iteration):
    found = adam([m], [v], iteration).update(np.array([g]))[0]
    # 1 - 0.999 cancels in float64: 3 digits of 16 are gone
    assert found == pytest.approx(float(by_mpmath(m, v, g, iteration)), rel=1e-12)


@pytest.mark.parametrize("m, v, g, iteration", CASES)
def test_condition_is_the_derivative(m, v, g, iteration):
    with mpmath.workdps(60):
        update = by_mpmath(m, v, g, iteration)
        slope = mpmath.diff(lambda x: by_mpmath(m, v, x, iteration), mpmath.mpf(g), h=mpmath.mpf(abs(g)) * 1e-15)
        expected = abs(mpmath.mpf(g) * slope / update)
    found = adam([m], [v], iteration).condition(np.array([g]))[0]
    assert found == pytest.approx(float(expected), rel=1e-6, abs=1e-12)


def test_the_first_step_is_the_sign_of_the_gradient():
    gradient = np.array([1e-3, -1e-3, 7.0, -5e-4])
    update = at_rest(4).update(gradient)
    assert update == pytest.approx(-RATE * np.sign(gradient), rel=1e-2, abs=0)
    assert at_rest(4).condition(gradient) == pytest.approx(EPSILON / (math.sqrt(1e-3) * np.abs(gradient) + EPSILON))


def test_condition_where_there_is_nothing_to_divide_by():
    """No gradient yet: the update is linear in it.  m' = 0 by cancellation: its sign hangs on any error."""
    assert at_rest().condition(np.array([0.0])) == [1.0]
    cancelling = Adam(np.array([-1.0]), np.array([1.0]), 0.5, 0.5, EPSILON, RATE, 3)
    assert cancelling.condition(np.array([1.0])) == [math.inf]


@pytest.mark.parametrize("epsilon", [1e-7, 1e-3, 1.0])
def test_reach_is_the_largest_change_within_the_error(epsilon):
    """Against a search of 4,001 points; a maximum inside the interval is not missed."""
    size, error = 300, 1.0
    momentum, velocity = RANDOM.normal(size=size) * 0.05, RANDOM.uniform(0, 1e-3, size)
    gradient = RANDOM.normal(size=size)
    before = adam(momentum, velocity, epsilon=epsilon)
    points = np.linspace(-1, 1, 4001)[:, None]
    searched = np.max(np.abs(before.update(gradient + error * points) - before.update(gradient)), axis=0)
    ends = np.max(np.abs(before.update(gradient + error * points[[0, -1]]) - before.update(gradient)), axis=0)
    found = before.reach(gradient, error)
    assert np.all(found >= searched * (1 - 1e-12))
    assert found == pytest.approx(searched, rel=1e-3, abs=0)
    assert np.any(found > ends * 1.01) or epsilon == 1.0  # so large that the root does not count


def in_float32(before, gradient, weight):
    """One step as TensorFlow's kernels do it, each operation rounded to float32."""
    f = np.float32
    m, v, g = (x.astype(f) for x in (before.momentum, before.velocity, gradient))
    m = m + (g - m) * f(1 - BETA_1)
    v = v + (g * g - v) * f(1 - BETA_2)
    t = f(before.iteration)
    alpha = f(RATE) * np.sqrt(f(1) - np.power(f(BETA_2), t)) / (f(1) - np.power(f(BETA_1), t))
    return AdamLane(m, v, weight - m * alpha / (np.sqrt(v) + f(EPSILON)), gradient)


@pytest.mark.parametrize("iteration", [1, 2, 10, 1000])
def test_what_float32_adds_is_within_the_bound_and_not_far_below(iteration):
    size = 20_000
    started = iteration > 1
    momentum = (RANDOM.normal(size=size) * 1e-3 * started).astype(np.float32).astype(float)
    velocity = (RANDOM.uniform(0, 1e-5, size) * started).astype(np.float32).astype(float)
    gradient = (RANDOM.normal(size=size) * 10.0 ** RANDOM.uniform(-9, 0, size)).astype(np.float32).astype(float)
    weight = RANDOM.normal(size=size).astype(np.float32)
    before = adam(momentum, velocity, iteration)
    lane = in_float32(before, gradient, weight)
    found = judge_adam("w", before, 0.0, weight, lane, lane)
    for excess in (found.momentum, found.velocity, found.update):
        assert 0.05 < excess <= 1.0
    assert found.other_sign == 0.0


def test_errors_of_alpha_cancel_early_and_not_late():
    """1 - 0.999 in float32 has lost three digits, and its root half of them."""
    early, late = (adam([1.0], [1.0], iteration).rounding(np.array([1.0]), FLOAT32)[2][0] for iteration in (1, 10_000))
    assert early > 100 * late


# -- two lanes, by hand ----------------------------------------------------------------------------


def lane(before, gradient, used):
    """A lane that worked in float64 with `used` where truth is `gradient`."""
    used = np.asarray(used)
    return AdamLane(before.next_momentum(used), before.next_velocity(used), before.update(used), np.asarray(gradient))


def test_signs_that_differ_and_those_that_are_noise():
    """Of five elements two are noise, and one of these falls to the other side; one that is none does, too."""
    truth = np.array([1e-12, 1.0, 2.0, -1e-12, 3.0])
    before = at_rest(5)
    reference = lane(before, truth, truth)
    candidate = lane(before, truth, [-2e-12, -1.0, 2.0, -2e-12, 3.0])
    found = judge_adam("w", before, 1e-10, np.zeros(5), reference, candidate)
    assert (found.other_sign, found.of_noise) == (0.4, 0.2)
    assert found.unexplained_sign == pytest.approx(0.2)
    assert found.from_rest
    assert found.worst_index == (1,)


def test_a_lane_is_held_against_its_own_decisions():
    """Each lane is right by its own truth; the other's is another gradient."""
    mine, theirs = np.array([0.5, 1.0]), np.array([0.7, 1.0])
    before = at_rest(2)
    found = judge_adam("w", before, 1e-9, np.zeros(2), lane(before, mine, mine), lane(before, theirs, theirs))
    assert max(found.momentum, found.velocity, found.update) < 1e-3


def test_an_update_not_written_is_far_outside():
    truth = np.array([0.5, -1.0])
    before = at_rest(2)
    good = lane(before, truth, truth)
    skipped = AdamLane(good.momentum, good.velocity, np.zeros(2), truth)
    found = judge_adam("w", before, 1e-9, np.zeros(2), good, skipped)
    assert found.momentum < 1e-3 and found.update > 1000


def test_momentum_decides_the_sign_once_there_is_some():
    """g is noise, but m is not: no sign hangs on it."""
    before = adam([1.0], [1.0])
    reference, candidate = (lane(before, [1e-12], [g]) for g in (1e-12, -1e-12))
    found = judge_adam("w", before, 1e-10, np.zeros(1), reference, candidate)
    assert (found.other_sign, found.from_rest) == (0.0, False)
