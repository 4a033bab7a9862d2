"""What chance does to a curve, held against the tables of Student's t and against chance itself."""

import numpy as np
import pytest

from diag.study.band import RISK, band_of, left_at


def t_of_three(share):
    """Student's t of 3 degrees of freedom, from its distribution in closed form, by bisection."""
    low, high = 0.0, 100.0
    for _ in range(60):
        t = (low + high) / 2
        x = t / np.sqrt(3)
        below = 0.5 + (x / (1 + x * x) + np.arctan(x)) / np.pi < share
        low, high = (t, high) if below else (low, t)
    return low


def test_the_band_is_students_prediction_interval_for_a_mean():
    curves = np.array([[1.0], [2.0], [3.0], [4.0]])  # mean 2.5, s^2 = 5/3
    band = band_of(curves, num_further=2, num_questions=1)
    half = t_of_three(1 - RISK / 2) * np.sqrt(5 / 3) * np.sqrt(1 / 2 + 1 / 4)
    assert band.low[0] == pytest.approx(2.5 - half, rel=1e-4)
    assert band.high[0] == pytest.approx(2.5 + half, rel=1e-4)


def test_no_band_of_two_curves():
    assert band_of(np.ones((2, 5)), 1, 1) is None


def test_neighbours_make_the_spread_surer():
    curves = np.random.default_rng(0).standard_normal((6, 12))
    beside = band_of(curves, 3, 12)
    alone = [band_of(curves[:, [epoch]], 3, 12) for epoch in range(12)]
    assert np.mean(beside.high - beside.low) < 0.8 * np.mean([each.high - each.low for each in alone])


@pytest.mark.parametrize(("kept", "spikes", "most"), [(0.0, 1.0, RISK), (0.8, 1.0, 5 * RISK), (0.5, 3.0, 5 * RISK)])
def test_curves_of_one_kind_leave_as_seldom_as_was_promised(kept, spikes, most):
    rng, epochs, trials = np.random.default_rng(0), 12, 2000
    noise = rng.standard_normal((trials, 9, epochs))
    for epoch in range(1, epochs):
        noise[..., epoch] = kept * noise[..., epoch - 1] + np.sqrt(1 - kept**2) * noise[..., epoch]
    noise *= np.where(np.arange(epochs) % 4 == 2, spikes, 1.0)
    left = sum(left_at(each[6:], band_of(each[:6], 3, epochs)) is not None for each in noise)
    assert left <= trials * most + 3 * np.sqrt(trials * most)


@pytest.mark.parametrize("away", [-9.0, 9.0, np.nan, np.inf])
def test_the_epoch_at_which_a_curve_leaves(away):
    curves = np.random.default_rng(1).normal(0, 0.01, (6, 5))
    candidate = np.zeros((3, 5))
    candidate[1, 3:] = away
    assert left_at(candidate, band_of(curves, 3, 5)) == 3
    assert left_at(np.zeros((3, 5)), band_of(curves, 3, 5)) is None


def test_where_the_reference_is_not_finite_nobody_leaves():
    curves = np.random.default_rng(1).normal(0, 0.01, (6, 2))
    curves[0, 1] = np.inf
    assert left_at(np.full((3, 2), [0.0, np.nan]), band_of(curves, 3, 2)) is None
