"""What a table of trials means; the tables are made by hand."""

from __future__ import annotations

import math

import pytest

from diag.verdict.attribution import Trial, TrialOutcome, blame_of, implied, outcome, pairs_to_try, smallest_cures

FUSED = Trial((), unit=500.0, step=900.0)  # ops innocent: none was flagged
KERNEL = Trial((), op=30.0, unit=20.0, step=10.0)
PASSES = ("remapping=off", "constant_folding=off")


def right(*switches: str, op: float | None = None) -> Trial:
    return Trial(switches, op, 0.1, 0.2)


def wrong(*switches: str, op: float | None = None) -> Trial:
    return Trial(switches, op, 500.0, 900.0)


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (right("a"), TrialOutcome.CURES),
        (wrong("a"), TrialOutcome.DIVERGES),
        (Trial(("a",), unit=0.1, step=2.0), TrialOutcome.HELPS),
        (Trial(("a",), unit=2.0, step=0.1), TrialOutcome.DIVERGES),
        (Trial(("a",), unit=math.nan, step=0.1), TrialOutcome.DIVERGES),
        (Trial(("a",), unit=1.0, step=1.0), TrialOutcome.CURES),  # on the bound is within it
        (Trial(("a",), reason="no such device"), TrialOutcome.NOT_RUN),
        (Trial(("a",), op=0.1), TrialOutcome.UNDECIDED),
    ],
)
def test_what_a_trial_says_of_a_wrong_unit(trial, expected):
    assert outcome(trial, FUSED) is expected


def test_a_trial_that_makes_something_else_wrong_cures_nothing():
    only_the_unit = Trial((), unit=5.0, step=0.5)
    assert outcome(Trial(("a",), unit=0.5, step=3.0), only_the_unit) is TrialOutcome.HELPS
    assert outcome(Trial(("a",), unit=0.5, step=0.5), only_the_unit) is TrialOutcome.CURES


def test_an_op_that_a_trial_cannot_see_is_judged_by_what_it_can():
    assert outcome(Trial(("execution=xla",), None, 0.5, 0.5), KERNEL) is TrialOutcome.CURES
    only_the_op = Trial((), op=30.0, unit=0.5, step=0.5)
    assert outcome(Trial(("execution=xla",), None, 0.5, 0.5), only_the_op) is TrialOutcome.UNDECIDED


def test_a_trial_that_could_not_run_is_no_cure():
    assert smallest_cures([Trial(("a",), reason="XLA cannot compile this step")], FUSED) == ()


def test_the_smallest_sets_are_named_alone():
    trials = [wrong("a"), right("b"), right("c"), right("a", "b")]
    assert smallest_cures(trials, FUSED) == ("b", "c")
    assert smallest_cures([wrong("a"), wrong("b"), right("a", "b")], FUSED) == ("a + b",)


def test_pairs_are_tried_only_where_no_single_switch_cures():
    eager, tf32, onednn = wrong("execution=eager"), wrong("tf32=off"), wrong("onednn=off")
    assert pairs_to_try([right("execution=eager"), tf32, onednn], FUSED) == []
    half = Trial(("onednn=off",), unit=2.0, step=3.0)
    pairs = pairs_to_try([eager, wrong("remapping=off"), wrong("grappler=off"), tf32, half], FUSED)
    assert pairs[0] == ("onednn=off", "execution=eager")  # what left the least error first
    assert {frozenset(pair) for pair in pairs} == {
        frozenset({"onednn=off", "execution=eager"}),
        frozenset({"onednn=off", "tf32=off"}),
        frozenset({"execution=eager", "tf32=off"}),
    }
    assert pairs_to_try([eager, Trial(("tf32=off",), reason="no GPU")], FUSED) == []


@pytest.mark.parametrize(
    ("trials", "execution", "blame"),
    [
        ([right("execution=eager"), right("grappler=off"), wrong("remapping=off")], "graph", "graph-rewriter"),
        ([right("execution=eager"), wrong("grappler=off")], "graph", "graph-rewriter"),
        ([right("execution=eager"), right("remapping=off"), right("onednn=off")], "graph", "graph-rewriter"),
        ([right("execution=eager"), right("execution=graph"), wrong("grappler=off")], "xla", "xla"),
        ([right("execution=eager"), wrong("execution=graph")], "xla", "xla"),
        ([right("execution=eager"), right("remapping=off")], "xla", "graph-rewriter"),
        ([wrong("execution=eager"), right("tf32=off")], "graph", "kernel"),
        ([right("execution=eager"), right("remapping=off"), right("tf32=off")], "graph", "kernel"),
        ([wrong("execution=eager"), right("deterministic=on")], "graph", "kernel"),
        ([wrong("execution=eager"), wrong("tf32=off")], "graph", None),
        ([right("execution=xla"), wrong("execution=eager")], "graph", None),
        ([Trial(("execution=eager",), reason="died")], "graph", None),
        ([right("execution=eager", "onednn=off")], "graph", None),  # a pair points at two parts
    ],
)
def test_blame_where_the_ops_are_innocent(trials, execution, blame):
    found, why = blame_of(trials, FUSED, execution, PASSES)
    assert found == blame
    assert why


def test_no_rewriter_is_blamed_for_an_op_that_is_wrong_by_itself():
    cured = [Trial(("remapping=off",), 0.1, 0.1, 0.1), Trial(("execution=eager",), 30.0, 0.1, 0.1)]
    assert blame_of(cured, KERNEL, "graph", PASSES)[0] is None
    assert blame_of([Trial(("tf32=off",), 0.1, 0.1, 0.1)], KERNEL, "graph", PASSES)[0] == "kernel"


def test_a_pass_is_not_tried_once_more_than_it_was_no_cure():
    """All of grappler off takes every pass away, and eager execution all of grappler."""
    assert "grappler=off" in implied("remapping=off", PASSES, [wrong("grappler=off")], FUSED)
    assert "execution=eager" in implied("grappler=off", PASSES, [wrong("execution=eager")], FUSED)
    assert implied("remapping=off", PASSES, [right("grappler=off"), wrong("constant_folding=off")], FUSED) == ""
    assert implied("execution=eager", PASSES, [wrong("grappler=off")], FUSED) == ""
    assert implied("remapping=off", PASSES, [Trial(("grappler=off",), reason="died")], FUSED) == ""
    assert implied("tf32=off", PASSES, [wrong("execution=eager"), wrong("grappler=off")], FUSED) == ""
