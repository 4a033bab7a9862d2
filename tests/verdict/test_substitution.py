"""Whether a loss came back; the curves are made by hand."""

from __future__ import annotations

import math

from diag.verdict.substitution import Substitution, SubstitutionOutcome, distances

REFERENCE = (2.0, 1.0, 0.5)
TWINS = ((2.000002, 1.000002, 0.500002), (1.999998, 0.999998, 0.499998), (2.000001, 1.000001, 0.500001))


def found(candidate, substituted):
    return Substitution("dense", 4, 7, REFERENCE, candidate, substituted, TWINS)


def test_restored_where_only_the_substituted_stays_with_the_twins():
    seen = found((2.0, 1.2, 0.9), (2.0, 1.000001, 0.500001))
    assert seen.outcome is SubstitutionOutcome.RESTORED
    assert seen.candidate_left is not None and seen.candidate_left.step == 1


def test_not_restored_where_both_leave():
    assert found((2.0, 1.2, 0.9), (2.0, 1.0, 0.6)).outcome is SubstitutionOutcome.NOT_RESTORED
    assert found((2.0, 1.2, 0.9), (2.0, 1.0, math.nan)).outcome is SubstitutionOutcome.NOT_RESTORED


def test_nothing_to_restore_where_the_candidate_never_left():
    assert found((2.000001, 1.000001, 0.5), (2.0, 1.0, 0.5)).outcome is SubstitutionOutcome.NOTHING_TO_RESTORE


def test_distances_are_relative_and_say_where_only_the_loss_is_not_finite():
    assert distances((1.0, 3.0, math.nan, 0.0, 1.0), (2.0, 2.0, 1.0, 0.0, 0.0)) == [0.5, 0.5, math.inf, 0.0, math.inf]
    assert math.isnan(distances((1.0,), (math.nan,))[0])


def test_the_last_bit_of_a_loss_is_no_departure():
    same = ((1.0, 1.0),) * 3  # twins that have not moved
    one_bit = 1.0 + 2.0**-23
    assert Substitution("a", 1, 0, (1.0, 1.0), (one_bit, 1.0), (1.0, 1.0), same).candidate_left is None
    assert Substitution("a", 1, 0, (1.0, 1.0), (1.0001, 1.0), (1.0, 1.0), same).candidate_left is not None


def test_a_twin_whose_loss_crosses_the_reference_s_allows_no_more_than_before():
    twins = ((1.000002, 1.000002), (1.000001, 1.000000001), (0.999998, 0.999998))
    seen = Substitution("a", 1, 0, (1.0, 1.0), (1.0, 1.001), (1.0, 1.0), twins)
    assert seen.limits[1] == seen.limits[0] < 1e-5  # 2e-6 times their spread or 3.6, the larger
    assert seen.outcome is SubstitutionOutcome.RESTORED
