"""Errors counted by hand; two halves add up to the whole; edges of overflow and underflow as OpenCL counts them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from diag.machine.places import Place
from diag.numerics.allowances import DERIVED, MEASURED, PUBLISHED, AllowanceRow
from diag.numerics.formats import FLOAT16, FLOAT32
from probes.accuracy.allowed import FLUSHED_TERMS, Limits, excess_error, kinds_of, limits_of, num_beyond
from probes.accuracy.elementwise import UNARY
from probes.accuracy.subnormals import subnormal_facts
from probes.accuracy.tally import Tally, tally
from probes.accuracy.ulp_measurements import TalliedErrors, measurement

BY_OP = {function.op: function for function in UNARY}
TWO = Limits(AllowanceRow("Square", "float32", "opencl", 2.0, PUBLISHED, "a book: page 1"))
WIDER = Limits(TWO.promised, AllowanceRow("Square", "float32", "opencl", 9.0, MEASURED, "a bench"))
FLT_MAX = float(np.finfo(np.float32).max)


def squares(*steps: int) -> Tally:
    """Squares of 1.5, off by so many ULP: 2.25 has a spacing of 2^-22."""
    x = np.full(len(steps), 1.5, np.float32)
    y = np.array([2.25 + 2.0**-22 * step for step in steps], np.float32)
    return tally(BY_OP["Square"], [x], y, np.square(x.astype(np.float64)), TWO)


def test_errors_are_counted():
    found = squares(0, 1, -3, 5)
    assert (found.num_inputs, found.num_unequal, found.num_beyond) == (4, 3, 2)
    assert (found.max_ulp, found.held_ulp, found.sum_ulp) == (5.0, 5.0, 9.0)
    assert found.worst is not None and found.worst.got == 2.25 + 5 * 2.0**-22 and found.worst.right == 2.25


def test_halves_add_up_to_the_whole_whatever_is_in_between():
    whole, halves = squares(0, 1, -3, 5), squares(0, 1).plus(squares(-3, 5))
    assert halves == whole
    assert Tally.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    assert Tally().plus(whole) == whole


@pytest.mark.parametrize(
    ("steps", "limits", "status"), [((1, 2), TWO, "pass"), ((1, 3), TWO, "fail"), ((1, 3), WIDER, "note"),
                                    ((1, 10), WIDER, "fail"), ((99,), Limits(None), "note")]
)  # fmt: skip
def test_beyond_what_is_promised_and_what_was_measured_is_a_failure(steps, limits, status):
    x = np.full(len(steps), 1.5, np.float32)
    y = np.array([2.25 + 2.0**-22 * step for step in steps], np.float32)
    found = tally(BY_OP["Square"], [x], y, np.square(x.astype(np.float64)), limits)
    errors = TalliedErrors(BY_OP["Square"], "float32", found, limits)
    made = measurement(errors, "", Place("CPU:0", "eager"))
    assert made.status == status
    assert bool(made.reproducer) == (status == "fail")
    assert made.figures["x_hex"] == "0x3fc00000"


def test_overflow_counts_as_the_next_power_of_two():
    y = np.array([FLT_MAX, np.inf, np.inf, FLT_MAX], np.float32)
    truth = np.array([FLT_MAX * (1 + 2.0**-23), FLT_MAX, 1e300, np.inf])
    # a ULP there is 2^104; FLT_MAX is 2^128 - 2^104; overflow where truth has none, and none at a pole
    assert excess_error(y, truth, FLOAT32).tolist() == [pytest.approx(1.0, rel=1e-6), 1.0, 0.0, math.inf]


def test_nan_for_a_number_is_beyond_everything():
    y, truth = np.array([np.nan, 1.0, np.nan, -np.inf], np.float32), np.array([1.0, np.nan, np.nan, np.inf])
    error = excess_error(y, truth, FLOAT32)
    assert error.tolist() == [math.inf, math.inf, 0.0, math.inf]
    assert num_beyond(error, 1e9) == 3


def test_flushed_terms_explain_what_is_below_some_smallest_normal_numbers_in_float32_only():
    small = 2.0**-120  # a power of two: one ULP is 2^-144, the spacing below it
    y = np.array([small + FLUSHED_TERMS * 2.0**-126, small + 2 * FLUSHED_TERMS * 2.0**-126], np.float32)
    assert excess_error(y, np.full(2, small), FLOAT32).tolist() == [0.0, 4 * 2.0**18]
    lost = excess_error(np.array([0.0], np.float16), np.array([2.0**-15]), FLOAT16)
    assert lost.tolist() == [512.0]


def test_cancelling_terms_are_the_unit_where_they_are_larger():
    y, truth = np.array([2.0**-23], np.float32), np.array([0.0])
    assert excess_error(y, truth, FLOAT32, scale=np.array([1.5]))[0] == pytest.approx(1.0, rel=1e-6)


def test_places_are_held_to_rows_of_their_kind():
    assert kinds_of(Place("CPU:0", "eager"))[0] == "tensorflow-cpu"
    assert kinds_of(Place("CPU:0", "xla"))[0] == "xla-cpu"
    assert kinds_of(Place("GPU:0", "xla"))[0] == "xla-gpu"
    assert kinds_of(Place("CPU:0", "graph", None, "tf32", "sim"))[0] == "tensorflow-cpu"


def test_what_nobody_publishes_is_held_to_the_formulas_own_roundings():
    assert limits_of("NoSuchOp", "float32", Place("CPU:0", "eager")).promised is None
    formula = limits_of("NoSuchOp", "float32", Place("CPU:0", "eager"), terms_ulp=6)
    assert formula.ulp == 6 and formula.promised is not None and formula.promised.basis == DERIVED


@pytest.mark.parametrize(
    ("flush_in", "flush_out", "words"),
    [
        (False, False, {"subnormals_out": "kept", "subnormals_in": "kept"}),
        (True, False, {"subnormals_out": "kept", "subnormals_in": "flushed"}),
        (False, True, {"subnormals_out": "flushed", "subnormals_in": "kept"}),
    ],
)
def test_subnormals_are_seen_to_be_flushed_in_or_out(flush_in, flush_out, words):
    x = np.array([2.0**-130, 2.0**-127, 2.0**127, 1.5 * 2.0**126], np.float32)  # 1 / x is normal, or is not
    taken = np.where(np.abs(x) < 2.0**-126, 0, x) if flush_in else x
    with np.errstate(all="ignore"):
        y = (1 / taken.astype(np.float64)).astype(np.float32)
        y = np.where(np.abs(y) < 2.0**-126, np.float32(0), y) if flush_out else y
        facts = subnormal_facts(np.reciprocal, x.astype(np.float64), 1 / x.astype(np.float64), y, FLOAT32)
    assert facts == words
