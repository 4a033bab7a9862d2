"""Remarks on ops that are no fault: observations made by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from diag.numerics.figures import Bound
from diag.numerics.op_classes import ErrorClass
from diag.verdict.advisories import Advisories
from diag.verdict.findings import SHARED_ERROR, Observation, Relation, Verdict, Where
from diag.verdict.ladder import amplifying_ops


def bound(excess: float) -> Bound:
    return Bound(ErrorClass.CONTRACTION, excess, excess, excess, "by hand")


def op(index: int, verdict: Verdict = Verdict.ROUNDING, **more: Any) -> Observation:
    relative = more.pop("relative", 1e-7)
    where = Where(more.pop("step", 0), more.pop("phase", "forward"), "op", "dense", None, "MatMul", index, order=index)
    pair: Any = SimpleNamespace(normwise_relative_error=relative, num_unequal=int(relative > 0))
    return Observation(where, (2,), "float32", verdict, more.pop("bound", bound(0.1)), pair, **more)


def advisories(*ops: Observation) -> Advisories:
    found = Advisories()
    found.add(ops)
    return found


def test_benign_causes_are_noted_once_an_op():
    nondeterministic = [op(i, note="nondeterminism") for i in range(5)]
    found = advisories(*nondeterministic, op(2, step=1, note="nondeterminism"), op(9, note="decision-flip"))
    assert [each["cause"] for each in found.as_judged()["benign"]] == ["nondeterminism"] * 5 + ["decision-flip"]
    ties, bits = found.notes
    assert ties.startswith("op 9 MatMul of dense, step 0, forward: ties were decided the other way")
    assert "op 2 MatMul" in bits and "and 2 more ops" in bits and bits.endswith("no fault")


def test_what_diverges_is_not_benign():
    assert advisories(op(1, Verdict.DIVERGENCE, note="nondeterminism")).as_judged()["benign"] == ()


def test_an_op_that_differs_and_has_no_truth_is_inconclusive():
    unjudged = op(3, Verdict.UNJUDGED, bound=None)
    found = advisories(unjudged, op(4, Verdict.UNJUDGED, bound=None, relative=0.0), op(5))
    assert [each["op_index"] for each in found.as_judged()["inconclusive"]] == [3]
    assert found.notes == [
        "inconclusive: op 3 MatMul of dense, step 0, forward differ on the same inputs and have no float64 truth to be "
        "held against"
    ]
    assert advisories(op(3, Verdict.UNJUDGED, bound=None, note="random")).notes == []


def test_what_is_wrong_in_both_lanes_alike_is_told_and_no_divergence():
    found = advisories(op(7, Verdict.IDENTICAL, relative=0.0, bound=bound(70.0), note=SHARED_ERROR))
    (told,) = found.errors()["shared_errors"]
    assert (told["op_index"], told["excess"]) == (7, 70.0)
    assert found.errors()["reference_errors"] == ()
    assert "the computation is to blame, not the device" in found.notes[0]


def test_a_reference_that_is_further_from_truth():
    better = op(1, bound=bound(0.3), reference_bound=bound(0.2))
    worse = op(2, bound=bound(0.1), reference_bound=bound(0.4))
    worst = op(3, bound=bound(0.2), reference_bound=bound(3.0))
    same = op(4, Verdict.IDENTICAL, relative=0.0, bound=bound(0.1), reference_bound=bound(9.0))
    found = advisories(better, worse, worst, same)
    told = found.as_judged()["reference_less_accurate"]
    assert (told["num_outputs"], told["of_differing"], told["num_out_of_bound"]) == (2, 3, 1)
    assert (told["worst"]["op_index"], told["worst"]["excess"]) == (3, 3.0)
    (note,) = found.notes
    assert note.startswith("the reference is the one that is out of its bound in op 3")


def test_where_both_places_leave_the_range_the_reference_is_not_wrong():
    infinite = bound(math.inf)
    both = op(1, bound=bound(0.2), reference_bound=infinite, became_nonfinite=True)
    alone = op(2, bound=bound(0.2), reference_bound=infinite)
    assert [each["op_index"] for each in advisories(both, alone).errors()["reference_errors"]] == [2]


def test_with_nothing_to_say_there_are_no_notes():
    found = advisories(op(1), op(2))
    assert found.notes == []
    assert found.as_judged()["reference_less_accurate"]["worst"] is None


# ---- relations


@pytest.mark.parametrize(
    ("inherited", "produced", "verdict", "relation"),
    [
        (0.0, 0.0, Verdict.IDENTICAL, Relation.NONE),
        (1e-7, 0.0, Verdict.IDENTICAL, Relation.NONE),
        (0.0, 1e-7, Verdict.ROUNDING, Relation.INTRODUCED),
        (1e-7, 1e-3, Verdict.DIVERGENCE, Relation.INTRODUCED),
        (1e-7, 2e-6, Verdict.ROUNDING, Relation.INHERITED),
        (1e-7, 4e-6, Verdict.ROUNDING, Relation.AMPLIFIED),
    ],
)
def test_where_a_difference_comes_from(inherited, produced, verdict, relation):
    assert op(1, verdict, inherited=inherited, relative=produced).relation is relation


def test_ops_that_amplify():
    loud = op(1, inherited=1e-7, relative=1e-3, flipped="3 of 400 max-pool winners")
    update = op(2, inherited=1e-7, relative=1e-3, phase="optimizer")
    (found,) = amplifying_ops([op(0, inherited=1e-7, relative=1e-7), loud, update])
    assert (found.observation, found.flipped) == (loud, "3 of 400 max-pool winners")
    assert found.factor == pytest.approx(1e4)
