"""What a layer is held to where rounding has no say: integers, and branches that a format decides."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.truth.own_decisions import OWN_DECISION
from diag.engine.truth.unit_judge import _exact_bound, _OutputJudgement
from diag.numerics.figures import Bound
from diag.numerics.op_classes import ErrorClass


@pytest.mark.parametrize(
    ("x", "other", "truth", "is_explained"),
    [
        ([1, 2], [1, 2], [7, 7], True),
        ([1, 2], [1, 3], [1, 2], True),
        ([1, 2], [0, 2], [1, 7], True),  # an element is truth's, the other one the lane's
        ([1, 2], [1, 3], [1, 3], False),
        ([1, 2], [1, 2], [1, 2, 3], True),  # float64 finds more of them
        ([1, 3], [1, 2], [1, 3, 5], False),
        ([3, 3], [1, 2], [3], False),
    ],
)
def test_integers_are_the_other_lanes_or_truths(x, other, truth, is_explained):
    assert _exact_bound(tf.constant(x), tf.constant(other), np.array(truth)).is_explained is is_explained


def judgement(candidate: float, reference: float) -> _OutputJudgement:
    bounds = (Bound(ErrorClass.COMPOSITE, excess, 0.0, 0.0, "") for excess in (candidate, reference))
    return _OutputJudgement(next(bounds), of_reference=next(bounds))


@pytest.mark.parametrize(
    ("plain", "own", "note", "is_explained"),
    [
        ((0.5, 0.5), (9.0, 9.0), "", True),
        ((0.5, 9.0), (9.0, 0.5), "", True),  # each lane took another branch
        ((9.0, 0.5), (0.5, 9.0), OWN_DECISION, True),
        ((9.0, 0.5), (math.inf, 0.5), "", False),
        ((9.0, 9.0), (0.5, 9.0), OWN_DECISION, False),
    ],
)
def test_each_lane_is_held_to_the_branch_that_explains_it(plain, own, note, is_explained):
    found = judgement(*plain).or_by(judgement(*own), OWN_DECISION)
    assert (found.note, found.is_explained) == (note, is_explained)
