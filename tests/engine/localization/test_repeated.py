"""A wrong unit run again: a place that answers what it is told to here, so that no graph is compiled."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.localization.repeated import chance_of
from diag.verdict.findings import Verdict

RIGHT, WRONG, WRONG_OTHERWISE = (np.full(3, value, np.float32) for value in (1, 7, 9))


def telescope(answers):
    """Its next runs of any unit give these, one after the other; what is not RIGHT is out of its bound."""
    left = iter(answers)

    def run_units(run, units):
        yield SimpleNamespace(candidate=[tf.constant(next(left))], run=run, unit=units[0])

    def judge(unit_run, truth_wanted, propagated):
        is_right = np.array_equal(unit_run.candidate[0], RIGHT)
        verdict = Verdict.ROUNDING if is_right else Verdict.DIVERGENCE
        return [SimpleNamespace(where=SimpleNamespace(output=0), verdict=verdict)]

    return SimpleNamespace(run_units=run_units, judge=SimpleNamespace(judge=judge))


def chance_after(*answers):
    wrong = SimpleNamespace(candidate=[tf.constant(WRONG)], run=None, unit=None)
    return chance_of(telescope(answers), wrong, 0)


@pytest.mark.parametrize("again", [(RIGHT, RIGHT, RIGHT), (WRONG, RIGHT, WRONG)])
def test_what_is_right_in_another_run_is_chance(again):
    cause = chance_after(*again)
    assert cause.name == "nondeterminism"
    num_right = sum(answer is RIGHT for answer in again)
    assert cause.evidence["num_right"] == num_right and f"right in {num_right} of 3 more" in cause.summary


@pytest.mark.parametrize("again", [(WRONG, WRONG, WRONG), (WRONG_OTHERWISE, WRONG, WRONG_OTHERWISE)])
def test_what_is_never_right_is_none(again):
    assert chance_after(*again) is None
