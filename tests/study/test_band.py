"""What chance does to a curve, held against the tables of Student's t and against chance itself."""

import numpy as np
import pytest

from diag.study.band import RISK, band_of, left_at


def test_the_band_is_students_prediction_interval_for_a_mean():
    curves = np.array([[1.0], [2.0], [3.0], [4.0]])  # mean 2.5, s^2 = 5/3
    band = band_of(curves, num_further=2, num_questions=1)
    half = 5.8409 * np.sqrt(5 / 3) * np.sqrt(1 / 2 + 1 / 4)  # t of 3 degrees of freedom, 0.995: printed tables
    assert band.low[0] == pytest.approx(2.5 - half, rel=1e-4)
    assert band.high[0] == pytest.approx(2.5 + half, rel=1e-4)


def test_no_band_of_two_curves():
    assert band_of(np.ones((2, 5)), 1, 1) is None


def test_curves_of_one_kind_leave_as_seldom_as_was_promised():
    rng, epochs, left = np.random.default_rng(0), 10, 0
    for _ in range(1000):
        curves = rng.standard_normal((9, epochs))
        band = band_of(curves[:6], 3, epochs)
        left += left_at(curves[6:], band) is not None
    assert left <= 1000 * RISK + 3 * np.sqrt(1000 * RISK)


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
