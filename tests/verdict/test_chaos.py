"""Hand-made curves, one for each rung of the table."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from diag.verdict.chaos import Curve, Exit, GrowthOutcome, Trajectories, exit_of

ENVELOPE = (1e-6, 2e-6, 4e-6, 8e-6)


def trajectories(distances, envelope=ENVELOPE, **changes):
    nothing = [0.0] * len(distances)
    candidate = Curve("candidate", 0.0, list(distances), nothing)
    twin = Curve("twin 1", 1e-7, [e / 10 for e in envelope], nothing)
    return replace(Trajectories(candidate, (twin,), tuple(envelope)), **changes)


@pytest.mark.parametrize(
    "distances, envelope, outcome",
    [
        ((0, 0, 0, 0), ENVELOPE, GrowthOutcome.IDENTICAL),
        ((0, 1e-7, 3e-6, 8e-6), ENVELOPE, GrowthOutcome.LIKE_CHAOS),
        ((0, 1e-7, 5e-6, 6e-6), ENVELOPE, GrowthOutcome.OUTSIDE),
        ((1e-5, 0, 0, 0), ENVELOPE, GrowthOutcome.OUTSIDE),
        ((0, 0, 0, math.inf), ENVELOPE, GrowthOutcome.OUTSIDE),
        ((0, 1e-7, math.nan, math.nan), ENVELOPE, GrowthOutcome.UNKNOWN),
        ((0, 1e-3, 1e-3, 1e-3), (0, 0, 0, 0), GrowthOutcome.UNKNOWN),
        ((1, 1, 1, 1), (1e-7, math.inf, math.inf, math.inf), GrowthOutcome.OUTSIDE),
        ((1e-8, 1, 1, 1), (1e-7, math.inf, math.inf, math.inf), GrowthOutcome.LIKE_CHAOS),
    ],
)
def test_outcome(distances, envelope, outcome):
    assert trajectories(distances, envelope).outcome is outcome


def test_where_and_by_how_much_the_envelope_is_left():
    found = exit_of([1e-6, 8e-6, 1e-4, 8e-6], ENVELOPE)
    assert found == Exit(1, pytest.approx(4.0), pytest.approx(25.0), 2)


def test_steps_are_counted_as_the_run_counts_them():
    found = trajectories([1e-6, 8e-6, 1e-4, 8e-6], first_step=40).exit
    assert found is not None
    assert (found.step, found.largest_at) == (41, 42)


def test_a_limit_that_is_no_number_says_nothing():
    assert exit_of([1.0, 1.0, math.nan], [0.0, math.inf, 1.0]) is None


def test_outside_is_inconclusive_until_a_divergence_explains_it():
    outside = trajectories([1e-3] * 4)
    assert outside.is_inconclusive
    assert not replace(outside, is_explained=True).is_inconclusive
    assert not trajectories([1e-7] * 4).is_inconclusive


def test_disagreement_over_all_steps():
    curve = Curve("candidate", 0.0)
    for share in (0.0, 0.25, 0.5):
        curve.add(0.0, 0.0, share)
    assert curve.mean_disagreement == 0.25
    regression = Curve("candidate", 0.0)
    regression.add(0.0, 0.0, None)
    assert regression.mean_disagreement is None
