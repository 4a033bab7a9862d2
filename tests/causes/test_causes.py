"""Causes: outputs made wrong here, in a known way, and what is said of them.

The products are summed in integers or in float64; formats are made by masking bits, so that nothing of
diag.numerics.formats is its own judge.  A rule of ours decides here what "explained" means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diag.causes.causes import explain
from diag.causes.wrong_output import WrongOutput
from diag.numerics.figures import Bound
from diag.numerics.op_classes import ErrorClass
from tests.causes.wrong_outputs import case, nearest_even, normal, product, truncated

# ---- formats of the inputs

FORMATS = {
    "format:tf32-rne": lambda x: nearest_even(x, 13),
    "format:tf32-rz": lambda x: truncated(x, 13),
    "format:bf16": lambda x: nearest_even(x, 16),
    "format:bf16-rz": lambda x: truncated(x, 16),
}


def product_case(round_inputs: Any) -> WrongOutput:
    a, b = normal(16, 64), normal(64, 8, seed=1)
    wide = [a.astype(np.float64), b.astype(np.float64)]
    narrow = round_inputs(a).astype(np.float64) @ round_inputs(b).astype(np.float64)
    return case(narrow.astype(np.float32), wide[0] @ wide[1], inputs=wide, recompute=lambda x: x[0] @ x[1])


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_that_a_product_reads(name):
    cause = explain(product_case(FORMATS[name]))
    assert cause.name == name
    assert cause.evidence["remaining_excess"] < 1
    assert name not in cause.evidence.get("also_explained_by", [])


def nearest_away(x: np.ndarray, dropped: int) -> np.ndarray:
    return truncated((x.view(np.uint32) + np.uint32(1 << (dropped - 1))).view(np.float32), dropped)


@pytest.mark.parametrize(("name", "rounded"), [("format:tf32-rna", nearest_away), ("format:tf32-rne", nearest_even)])
def test_where_ties_go_is_told_by_operands_that_have_some(name, rounded):
    """A convolution on an H100 sends them away from zero; all its other results are as to nearest even."""
    a, b = nearest_even(normal(16, 64), 12), normal(64, 8, seed=1)  # a bit more than TF32 has: half of them are ties
    wide = [a.astype(np.float64), b.astype(np.float64)]
    output = (rounded(a, 13).astype(np.float64) @ rounded(b, 13).astype(np.float64)).astype(np.float32)
    found = explain(case(output, wide[0] @ wide[1], inputs=wide, recompute=lambda x: x[0] @ x[1]))
    assert found.name == name


def test_float16_inputs_are_told_from_tf32_by_what_they_lose():
    # 2^-18 keeps all 11 bits in TF32; float16, with a spacing of 2^-24 down there, drops its last ones.
    a = (normal(16, 64) * np.float32(2.0**-18)).astype(np.float32)
    b = normal(64, 8, seed=1)
    narrow = a.astype(np.float16).astype(np.float64) @ b.astype(np.float16).astype(np.float64)
    wide = [a.astype(np.float64), b.astype(np.float64)]
    found = case(narrow.astype(np.float32), wide[0] @ wide[1], inputs=wide, recompute=lambda x: x[0] @ x[1])
    assert explain(found).name == "format:fp16"


def test_integer_inputs_are_not_rounded():
    """A gather: the table is rounded, the indices are whole numbers and stay what they are."""
    table, indices = normal(300, 4), np.array([257, 299, 3])
    output = nearest_even(table, 16)[indices]
    found = case(output, table[indices], inputs=[table.astype(np.float64), indices], recompute=lambda x: x[0][x[1]])
    assert explain(found).name == "format:bf16"


def test_a_format_that_does_not_explain_the_data_is_not_named():
    found = product_case(lambda x: truncated(x, 18))  # five bits: coarser than any of the table
    assert explain(found).name == "unknown"


def test_a_width_that_no_format_has_is_not_named_before_one_that_exists():
    """A single sum in float16, term by term: operands cut off at ten bits, of all widths, come as near by chance."""
    terms = np.float32(0.01) * normal(1, 256, seed=11) ** 2
    total = np.float16(0)
    for term in terms[0].astype(np.float16):
        total = np.float16(total + term)
    cause = explain(product(terms, np.ones((256, 1), np.float32), np.array([[total]], np.float32)))
    assert cause.name == "accumulate:fp16"
    assert "format:10bit-rz" in cause.evidence["also_explained_by"]


def test_only_contractions_have_operands():
    """The same numbers, wrong by the same amount, in an op that sums nothing."""
    a = normal(64)
    found = case(nearest_even(a, 14), a, ErrorClass.COMPOSITE, inputs=[a.astype(np.float64)], recompute=lambda x: x[0])
    assert explain(found).name == "unknown"


# ---- updates


def test_a_variable_that_holds_what_it_held():
    before, step = normal(4, 3), normal(4, 3, seed=1)
    cause = explain(case(before.copy(), before.astype(np.float64) - step, before=before))
    assert cause.name == "skipped-update"
    assert cause.evidence["update_not_written"] == pytest.approx(float(np.abs(step).max()))


def test_a_variable_that_should_stay_is_no_skipped_update():
    before = normal(4, 3)
    wrong = before.copy()
    wrong[0, 0] += 1
    assert explain(case(wrong, before, before=before)).name != "skipped-update"


def test_a_scaled_update_is_scaled_from_where_it_started():
    before, step = normal(4, 3), normal(4, 3, seed=1)
    output = (before.astype(np.float64) - 2.0 * step).astype(np.float32)
    cause = explain(case(output, before.astype(np.float64) - step, ErrorClass.ROUNDED_ONCE, before=before))
    assert cause.name == "scaled"
    assert cause.evidence["factor"] == pytest.approx(2.0, rel=1e-5)


def test_a_scaled_update_is_itself_rounded_before_it_cancels():
    """1.1 times the step all but cancels the variable: half a step of what is left is less than that rounding."""
    before, step = normal(4, 3), normal(4, 3, seed=1)
    output = before - np.float32(1.1) * step
    output[0, 0], before[0, 0] = 0, np.float32(1.1) * step[0, 0]  # and one does, but for what was rounded away
    truth = before.astype(np.float64) - step

    def held(other):
        rest = np.abs(output - other) / (0.5 * np.spacing(np.maximum(np.abs(output), np.float32(1e-20))))
        return Bound(ErrorClass.ROUNDED_ONCE, float(rest.max()), 0.0, float(rest.max()), "half an ULP", (0, 0))

    cause = explain(case(output, truth, ErrorClass.ROUNDED_ONCE, before=before, judge=held))
    assert (cause.name, cause.evidence["factor"]) == ("scaled", pytest.approx(1.1))


# ---- factors, approximations


@pytest.mark.parametrize("factor", [0.5, -1.0, 1024.0])
def test_a_constant_factor(factor):
    truth = normal(20)
    cause = explain(case((truth * np.float32(factor)), truth, ErrorClass.COMPOSITE))
    assert (cause.name, cause.evidence["factor"]) == ("scaled", pytest.approx(factor))


def test_results_that_are_cut_off_have_no_factor():
    """They are all too small, by up to a step of the format: "1 times what is right" explains nothing."""
    exact = np.abs(normal(20, seed=3)).astype(np.float64) * (1 + 2.0**-24 - 2.0**-30)  # just below the next number
    output = np.abs(normal(20, seed=3))
    output[7] = np.nextafter(output[7], np.float32(9))  # but for one, so that it is not the format's rounding
    assert explain(case(output, exact, ErrorClass.ROUNDED_ONCE, bits=25)).name != "scaled"


@pytest.mark.parametrize("size", [3, 20])
def test_a_scalar_that_was_rounded_is_a_factor_and_no_approximation(size):
    """0.001 in bfloat16, times a few numbers as well as many."""
    scalar, x = np.float32(0.001), normal(size)
    output = x * nearest_even(np.full(1, scalar), 16)
    cause = explain(case(output, x.astype(np.float64) * scalar, ErrorClass.ROUNDED_ONCE, bits=23))
    assert cause.name == "scaled"
    assert cause.evidence["factor"] == pytest.approx(float(nearest_even(np.full(1, scalar), 16)[0] / scalar), rel=1e-6)


def test_a_factor_next_to_one_is_said_in_digits_that_tell_it_from_one():
    truth = normal(20)
    cause = explain(case((truth * (1 - 2.0**-17)).astype(np.float32), truth, ErrorClass.COMPOSITE, bits=23))
    assert cause.name == "scaled" and cause.summary.startswith("1 - 7.6")


def test_all_zeros_are_not_scaled_by_zero():
    assert explain(case(np.zeros(20, np.float32), normal(20), ErrorClass.COMPOSITE)).name == "unknown"


def test_a_function_with_twelve_right_bits():
    truth = np.exp(normal(200).astype(np.float64))
    sign = np.where(np.arange(200) % 2, 1.0, -1.0)
    cause = explain(case((truth * (1 + sign * 2.0**-12)).astype(np.float32), truth, ErrorClass.FUNCTION))
    assert cause.name == "approximate-function"
    assert cause.evidence["correct_bits"] == pytest.approx(12.0, abs=0.01)


def test_an_approximation_is_told_where_results_are_not_zero():
    """Most quotients of an embedding's gradient are 0, however they are divided."""
    truth = np.where(np.arange(200) % 8 == 0, normal(200).astype(np.float64), 0.0)
    sign = np.where(np.arange(200) % 16, 1.0, -1.0)
    cause = explain(case((truth * (1 + sign * 2.0**-12)).astype(np.float32), truth, ErrorClass.ROUNDED_ONCE))
    assert cause.name == "approximate-function"


def test_a_function_with_four_right_bits_is_not_approximate():
    truth = np.exp(normal(200).astype(np.float64))
    sign = np.where(np.arange(200) % 2, 1.0, -1.0)
    found = case((truth * (1 + sign * 2.0**-4)).astype(np.float32), truth, ErrorClass.FUNCTION)
    assert explain(found).name == "unknown"


# ---- places of elements


@pytest.mark.parametrize("move", [lambda x: np.roll(x, 1, axis=1), lambda x: x[::-1], lambda x: x.T.reshape(8, 6)])
def test_the_right_values_in_wrong_places(move):
    truth = normal(8, 6)
    cause = explain(case(np.ascontiguousarray(move(truth)), truth, ErrorClass.EXACT))
    assert cause.name == "permuted"
    assert cause.evidence["num_moved"] == cause.evidence["num_wrong"] > 0


def test_values_that_were_lost_are_not_permuted():
    truth = normal(8, 6)
    output = np.roll(truth, 1, axis=1)
    output[0] = 7.0
    assert explain(case(output, truth, ErrorClass.EXACT)).name == "unknown"


def test_the_last_channel_left_out():
    truth = normal(2, 3, 3, 5)
    output = truth.copy()
    output[..., 4] = 0
    cause = explain(case(output, truth, ErrorClass.COMPOSITE))
    assert cause.name == "wrong-elements"
    assert (cause.evidence["num_wrong"], cause.evidence["where"]) == (18, "all in axis-3 index 4 (the last of 5)")
    assert cause.evidence["holds"] == {"axis-3 index 4": "zeros"}


def test_the_worst_element_is_quoted():
    truth = normal(8, 6)
    output = truth.copy()
    output[2, 5] += 100.0
    cause = explain(case(output, truth, ErrorClass.COMPOSITE))
    assert cause.evidence["worst"] == {
        "index": [2, 5], "value": float(output[2, 5]), "truth": float(truth[2, 5]), "reference": float(truth[2, 5]),
    }  # fmt: skip


# ---- not a number


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_where_truth_is(value):
    truth = normal(4, 8)
    output = truth.copy()
    output[:, 3] = value
    cause = explain(case(output, truth, ErrorClass.COMPOSITE, axes=("row", "column")))
    assert cause.name == "nonfinite"
    assert (cause.evidence["num_nonfinite"], cause.evidence["where"]) == (4, "all in column 3")


# ---- nothing explains it


def test_unknown_shows_the_pattern():
    truth = normal(6, 10)
    cause = explain(case(normal(6, 10, seed=9), truth, ErrorClass.COMPOSITE))
    assert cause.name == "unknown"
    assert cause.evidence["size"] == 60
    assert cause.evidence["num_wrong"] == 60
    assert len(cause.evidence["worst"]["index"]) == 2
