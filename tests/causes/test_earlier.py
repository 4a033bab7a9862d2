"""Results that depend on more than their inputs: other runs and other steps, made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diag.causes.causes import explain
from diag.causes.wrong_output import EarlierExecution
from diag.numerics.op_classes import ErrorClass
from tests.causes.wrong_outputs import case, normal


def sums(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64).sum(axis=0)


def stale_case(rows: np.ndarray, output: np.ndarray, **more):
    return case(output, sums(rows), inputs=[rows.astype(np.float64)], recompute=lambda x: x[0].sum(axis=0), **more)


def test_right_by_itself_and_wrong_where_the_place_remembers():
    truth = normal(6)
    cause = explain(case(truth + 1, truth, ErrorClass.COMPOSITE, isolated=truth.copy(), repeated=truth + 1))
    assert cause.name == "stale-data"
    assert cause.evidence["num_wrong"] == 6


def test_wrong_by_itself_as_well_is_no_history():
    truth = normal(6)
    found = case(truth + 1, truth, ErrorClass.COMPOSITE, isolated=truth + 1, repeated=truth + 1)
    assert explain(found).name == "unknown"


def test_what_the_op_gave_at_the_step_before():
    old, truth = normal(6, seed=1), normal(6)
    earlier = EarlierExecution(4, [normal(6).astype(np.float64)], old.astype(np.float64))
    cause = explain(case(old, truth, ErrorClass.COMPOSITE, earlier=lambda: [earlier]))
    assert (cause.name, cause.evidence["of_step"]) == ("stale-data", 4)
    assert cause.evidence["summary"] == "what the op gave at step 4"


def test_rows_of_a_larger_batch_that_are_still_summed():
    before, now = normal(8, 5, seed=1), normal(3, 5)
    output = sums(np.concatenate([now, before[3:]])).astype(np.float32)
    earlier = EarlierExecution(6, [before.astype(np.float64)], sums(before))
    for more in ({}, {"isolated": sums(now).astype(np.float32)}):
        cause = explain(stale_case(now, output, earlier=lambda: [earlier], **more))
        assert cause.name == "stale-data"
        assert cause.evidence["summary"] == "rows 3 to 7 of step 6's larger batch still summed"
    assert "isolated" in cause.evidence


def test_rows_of_a_larger_batch_in_a_mean():
    """The divisor is that of the 3 rows, the sum that of 8."""
    before, now = normal(8, 5, seed=1), normal(3, 5)
    output = (sums(np.concatenate([now, before[3:]])) / 3).astype(np.float32)
    earlier = EarlierExecution(6, [before.astype(np.float64)], sums(before) / 8)
    found = case(
        output, sums(now) / 3, inputs=[now.astype(np.float64)], recompute=lambda x: x[0].mean(axis=0),
        earlier=lambda: [earlier],
    )  # fmt: skip
    assert explain(found).evidence["of_step"] == 6


def test_rows_of_another_batch_do_not_explain_it():
    before, now = normal(8, 5, seed=1), normal(3, 5)
    output = sums(np.concatenate([now, normal(5, 5, seed=9)])).astype(np.float32)
    earlier = EarlierExecution(6, [before.astype(np.float64)], sums(before))
    assert explain(stale_case(now, output, earlier=lambda: [earlier])).name == "unknown"


def test_earlier_executions_are_asked_for_only_where_nothing_else_explains_it():
    truth = normal(20)
    cause = explain(case(truth * 2, truth, ErrorClass.EXACT, before=truth * 2, earlier=lambda: pytest.fail("asked")))
    assert cause.name == "skipped-update"


def test_wrong_in_one_run_and_right_in_the_next():
    truth = normal(6)
    cause = explain(case(truth + 1, truth, ErrorClass.COMPOSITE, repeated=truth.copy(), isolated=truth.copy()))
    assert cause.name == "nondeterminism"


def test_wrong_in_both_runs_and_never_the_same_is_a_race_lost_elsewhere():
    truth = normal(20)
    runs = [np.where(np.arange(20) % 7 == which, np.float32(9), truth) for which in (1, 2)]
    found = case(runs[0], truth, repeated=runs[1])
    for judge in (found.judge, lambda other: replace(found.bound, excess=np.inf)):  # the other run is no nearer
        cause = explain(replace(found, judge=judge))
        assert cause.name == "nondeterminism" and "in each run" in cause.evidence["summary"]
    reordered = runs[0] * np.float32(1 + 2.0**-23)  # wrong in the same places: a fixed fault, summed in another order
    assert explain(case(runs[0], truth, repeated=reordered)).name == "wrong-elements"


def test_wrong_in_both_runs_each_in_its_own_way_has_another_cause():
    truth = normal(20)
    cause = explain(case(truth * 2, truth, ErrorClass.COMPOSITE, repeated=truth * np.float32(2.001)))
    assert cause.name == "scaled"
