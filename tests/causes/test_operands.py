"""Operands misread, weighed wrongly or left out: made wrong here by hand, with what numpy gives as the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from diag.causes.causes import explain
from diag.numerics.figures import Bound
from diag.numerics.op_classes import ErrorClass
from tests.causes.wrong_outputs import case, normal, product

ONCE = ErrorClass.ROUNDED_ONCE
X, BIAS = normal(16, 8), normal(8, seed=1)


def added(output, **more):
    wide = [X.astype(np.float64), BIAS.astype(np.float64)]
    return case(output, wide[0] + wide[1], ONCE, inputs=wide, recompute=lambda x: x[0] + x[1], **more)


def test_a_bias_that_is_added_twice_counts_twice():
    cause = explain(added(X + BIAS + BIAS))
    assert cause.name == "scaled"
    assert (cause.evidence["operand"], cause.evidence["factor"]) == (1, 2.0)


def test_a_bias_that_is_subtracted_counts_minus_once():
    cause = explain(added(X - BIAS))
    assert (cause.name, cause.evidence["factor"]) == ("scaled", -1.0)


def test_a_sum_that_is_cut_off_counts_no_operand_once():
    """Each result within a step of the right one: no weight explains more than one does."""
    wide = [1024 * X.astype(np.float64), BIAS.astype(np.float64)]
    exact = wide[0] + wide[1]
    nearest = exact.astype(np.float32)
    output = np.where(np.abs(nearest) > np.abs(exact), np.nextafter(nearest, np.float32(0)), nearest)
    output[0, 0] = np.nextafter(output[0, 0], np.float32(np.inf))  # so that it is not the format's rounding
    found = case(output, exact, ONCE, bits=24, inputs=wide, recompute=lambda x: x[0] + x[1])
    assert 1 < found.bound.excess <= 2 and explain(found).name != "scaled"


def test_a_result_that_is_an_operand_was_not_computed():
    cause = explain(added(X.copy(), op_type="BiasAdd"))
    assert cause.name == "missing-op"
    assert (cause.evidence["operand"], cause.evidence["missing"]) == (0, ["BiasAdd"])


def test_an_operand_of_zeros_is_weighed_by_nothing():
    wide = [X.astype(np.float64), np.zeros(8)]
    found = case(X * np.float32(3), wide[0], ONCE, inputs=wide, recompute=lambda x: x[0] + x[1])
    cause = explain(found)
    assert (cause.name, cause.evidence["factor"]) == ("scaled", 3.0)
    assert "operand" not in cause.evidence


SQUARE = normal(8, 8, seed=2)
MISREAD = {
    "operand 1 with axes 0 and 1 exchanged": SQUARE.T,
    "operand 1 reversed along axis 0": SQUARE[::-1],
    "operand 1 with the halves of axis 0 swapped": np.roll(SQUARE, 4, 0),
    "operand 1 moved by 1 along axis 0, zeros behind it": np.concatenate([np.zeros((1, 8)), SQUARE[:-1]]),
}


@pytest.mark.parametrize("words", MISREAD)
def test_an_operand_in_another_order(words):
    output = (X.astype(np.float64) @ MISREAD[words]).astype(np.float32)
    cause = explain(product(X, SQUARE, output))
    assert (cause.name, cause.evidence["summary"]) == ("permuted", words)


def test_a_product_read_with_its_axes_stored_the_other_way_round():
    kernel = normal(8, 6, seed=3)
    output = (X.astype(np.float64) @ kernel.T.reshape(8, 6)).astype(np.float32)
    cause = explain(product(X, kernel, output))
    assert cause.name == "permuted"
    assert "stored the other way round" in cause.evidence["summary"]


def test_a_transposed_matrix_whose_columns_are_far_larger_than_its_rows():
    """Sums of the columns, 1e6 times those of the rows: rounding of so large sums is no part of the small ones."""
    x = (np.abs(normal(8, 8, seed=5)) * np.logspace(0, -9, 8)[:, None]).astype(np.float32)
    x[0] *= np.float32(1e-9)
    wide = x.astype(np.float64)
    output = (wide.sum(0) * (1 + 2.0**-22)).astype(np.float32)

    def held(other, scale):
        rest = float((np.abs(output - other) / (2.0**-21 * scale)).max())
        return Bound(ErrorClass.CONTRACTION, rest, 0.0, rest, "a share of the terms", (0,))

    found = case(
        output, wide.sum(1), inputs=[wide], recompute=lambda x: x[0].sum(1),
        judge=lambda other: held(other, wide.sum(1)),
        judge_given=lambda inputs, other: held(other, np.abs(inputs[0]).sum(1)),
    )  # fmt: skip
    cause = explain(found)
    assert (cause.name, cause.evidence["summary"]) == ("permuted", "operand 0 with axes 0 and 1 exchanged")


def test_an_image_with_its_channels_first_read_as_if_they_came_last():
    one, other = normal(2, 3, 4, 5, seed=3), normal(2, 3, 4, 5, seed=4)
    wide = [one.astype(np.float64), other.astype(np.float64)]
    output = one + other.transpose(0, 3, 1, 2).reshape(other.shape)
    cause = explain(case(output, wide[0] + wide[1], ONCE, inputs=wide, recompute=lambda x: x[0] + x[1]))
    words = "operand 1 read as if its axes were stored in the order 0 3 1 2"
    assert (cause.name, cause.evidence["summary"]) == ("permuted", words)


def test_operands_in_each_others_place():
    wide = [X.astype(np.float64), normal(16, 8, seed=4).astype(np.float64)]
    found = case(
        (np.square(wide[1]) - wide[0]).astype(np.float32), np.square(wide[0]) - wide[1], ONCE, inputs=wide,
        recompute=lambda x: np.square(x[0]) - x[1],
    )  # fmt: skip
    cause = explain(found)
    assert (cause.name, cause.evidence["summary"]) == ("permuted", "operands 0 and 1 in each other's place")


def test_the_branches_of_a_selection_in_each_others_place():
    chosen, wide = normal(16, 8) > 0, [normal(16, 8, seed=at).astype(np.float64) for at in (1, 2)]
    given = {"inputs": [chosen, *wide], "recompute": lambda x: np.where(*x)}
    found = case(np.where(chosen, *wide[::-1]).astype(np.float32), np.where(chosen, *wide), ErrorClass.EXACT, **given)
    cause = explain(found)
    assert (cause.name, cause.evidence["summary"]) == ("permuted", "operands 1 and 2 in each other's place")


def test_an_image_that_lies_one_pixel_off():
    """A sum over a plane of two taps in a corner, written out in integers: the oracle is slicing."""
    image = np.random.default_rng(6).integers(-8, 9, (2, 6, 6, 3)).astype(np.float64)

    def corner(x):  # each place minus twice the one behind it in both axes
        behind = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
        return x - 2 * behind

    off = np.pad(image, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
    cause = explain(
        case(corner(off).astype(np.float32), corner(image), inputs=[image], recompute=lambda x: corner(x[0]))
    )
    assert cause.name == "permuted"
    assert cause.evidence["summary"] == "operand 0 moved by -1 along axes 1 and 2, zeros behind it"


def test_noise_is_no_other_order():
    output = (X @ SQUARE) + normal(16, 8, seed=5)
    assert explain(product(X, SQUARE, output)).name == "unknown"


def test_elements_wrong_by_one_factor_and_where_their_inputs_are_negative():
    x = normal(32, 8)
    wide = x.astype(np.float64)
    right, leaky = np.where(wide > 0, wide, 0.25 * wide), np.where(wide > 0, wide, 0.5 * wide)
    cause = explain(case(leaky.astype(np.float32), right, ONCE, inputs=[wide]))
    assert (cause.name, cause.evidence["factor"]) == ("wrong-elements", 2.0)
    largest = float(f"{wide[wide > 0].min():.6g}")
    assert cause.evidence["values"] == f"all where input 0 is below {largest:.6g}, and nowhere else"


def test_results_on_a_grid_are_said_to_be():
    truth = normal(32, 8).astype(np.float64)
    cause = explain(case((np.round(truth * 256) / 256).astype(np.float32), truth, ONCE, bits=22))
    assert cause.evidence["grid"] == "all results are multiples of 2^-8"


def test_results_of_full_width_are_on_no_grid():
    truth = normal(32, 8).astype(np.float64)
    assert "grid" not in explain(case((truth + normal(32, 8, seed=9)).astype(np.float32), truth, ONCE)).evidence


def test_a_cast_that_cuts_off():
    truth = normal(64).astype(np.float64)
    bits = truth.astype(np.float32).view(np.uint32)
    cut = (bits & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float16)  # float16 keeps ten bits of the fraction
    cause = explain(case(cut, truth, ONCE, bits=14))
    assert cause.name == "format:fp16-rz"
