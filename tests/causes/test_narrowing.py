"""Formats of operands, of whole ops, and of subnormals: made by masking bits or by NumPy's and ml_dtypes' casts."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from scipy import special

from diag.causes.causes import explain
from diag.numerics.op_classes import ErrorClass
from tests.causes.wrong_outputs import case, nearest_even, normal, product, truncated


def multiplied(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)


A, B = normal(16, 64), normal(64, 8, seed=1)


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        (lambda x: nearest_even(x, 13), lambda x: truncated(x, 13), "format:tf32-rne+tf32-rz"),
        (lambda x: nearest_even(x, 16), lambda x: x, "format:bf16+none"),
        (lambda x: x, lambda x: truncated(x, 13), "format:none+tf32-rz"),
    ],
)
def test_each_operand_in_its_own_way(first, second, name):
    assert explain(product(A, B, multiplied(first(A), second(B)))).name == name


@pytest.mark.parametrize(
    ("dropped", "how", "name"),
    [
        (12, truncated, "format:12bit-rz"), (12, nearest_even, "format:12bit-rne"), (14, truncated, "format:10bit-rz"),
        (18, nearest_even, "format:6bit-rne"),
    ],
)  # fmt: skip
def test_widths_that_no_format_has(dropped, how, name):
    assert explain(product(A, B, multiplied(how(A, dropped), how(B, dropped)))).name == name


@pytest.mark.parametrize(
    ("dtype", "name"), [(ml_dtypes.float8_e4m3fn, "format:e4m3"), (ml_dtypes.float8_e5m2, "format:e5m2")]
)
def test_eight_bits_are_known_by_their_range(dtype, name):
    """Operands from 2^-12 on lie below both."""
    small = A * np.exp2(-np.arange(64, dtype=np.float32) / 2)
    assert explain(product(small, B, multiplied(small.astype(dtype), B.astype(dtype)))).name == name
    rounded = explain(product(A, B, multiplied(nearest_even(A, 20), nearest_even(B, 20))))
    assert rounded.name == "format:4bit-rne"
    tiny = A * np.float32(2.0**-14)  # a result that was never written is not for want of range
    assert explain(product(tiny, B, np.zeros((16, 8), np.float32))).name == "wrong-elements"


@pytest.mark.parametrize(("dropped", "how", "name"), [(16, nearest_even, "bf16"), (13, truncated, "tf32-rz")])
def test_operands_of_an_op_that_is_no_sum(dropped, how, name):
    """A softmax that reads its logits in another format."""
    logits = 4 * normal(8, 9)
    output = special.softmax(how(logits, dropped).astype(np.float64), -1).astype(np.float32)

    def recompute(inputs):
        return special.softmax(inputs[0], -1)

    given = {"inputs": [logits.astype(np.float64)], "recompute": recompute}
    found = case(output, recompute(given["inputs"]), ErrorClass.COMPOSITE, **given)
    assert explain(found).name == f"format:{name}"


def test_eleven_bits_cut_off_are_tf32_truncated():
    """Of a significand with its hidden bit, 11 bits are TF32's: the two are one and the same."""
    cause = explain(product(A, B, multiplied(truncated(A, 13), truncated(B, 13))))
    assert cause.name == "format:tf32-rz"
    assert cause.evidence["summary"] == "operands cut off at 11 significand bits"


def test_operands_of_three_bfloat16_products():
    """Small whole numbers times powers of two, so that the two parts of each are exact."""
    parts = []
    for x in (A, B):
        high = nearest_even(x, 16)
        parts.append((high, nearest_even(x - high, 16)))
    (a, c), (b, d) = parts
    wide = [x.astype(np.float64) for x in (a, b, c, d)]
    output = (wide[0] @ wide[1] + wide[0] @ wide[3] + wide[2] @ wide[1]).astype(np.float32)
    found = product(A, B, output, bits=23)
    assert found.bound.excess > 1
    assert explain(found).name == "format:bf16x3"


# ---- a whole op in another dtype


@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "format:fp16"), (ml_dtypes.bfloat16, "format:bf16")])
def test_an_op_that_ran_in_another_dtype(dtype, name):
    a, b = normal(200), normal(200, seed=1)
    output = (a.astype(dtype) * b.astype(dtype)).astype(np.float32)
    wide = [a.astype(np.float64), b.astype(np.float64)]
    found = case(
        output, wide[0] * wide[1], ErrorClass.ROUNDED_ONCE, inputs=wide, recompute=lambda x: x[0] * x[1], op_type="Mul"
    )
    cause = explain(found)
    assert (cause.name, cause.evidence["computed_in"]) == (name, np.dtype(dtype).name)
    assert cause.evidence["flushed"] is False


def test_an_op_that_ran_in_another_dtype_without_its_subnormals():
    """1e-7 is a subnormal of float16, and 0 where there are none."""
    a = np.array([1e-7, 3e-5, 0.5, 2.0], np.float32)
    output = np.array([0.0, 0.0, 0.5, 2.0], np.float32)
    found = case(
        output, a, ErrorClass.EXACT, bits=30, inputs=[a.astype(np.float64)], recompute=lambda x: x[0],
        op_type="Identity",
    )  # fmt: skip
    cause = explain(found)
    assert (cause.name, cause.evidence["flushed"]) == ("format:fp16", True)


def test_zeros_are_numbers_of_every_format():
    """A square that float16 has none for was not computed in float16 because nothing was written."""
    x = 1e-5 * A
    squares = np.square(x.astype(np.float64))
    cause = explain(
        case(np.zeros_like(x), squares, ErrorClass.ROUNDED_ONCE, inputs=[x.astype(np.float64)],
             recompute=lambda inputs: np.square(inputs[0]))
    )  # fmt: skip
    assert (cause.name, cause.evidence["values"]) == ("unknown", "all results are zero")


def test_a_coarse_result_of_exact_inputs_is_another_matter():
    """Only the result is rounded: no dtype of the op's own would leave the inputs alone."""
    a, b = normal(200), normal(200, seed=1)
    output = (a * b).astype(np.float16).astype(np.float32)
    wide = [a.astype(np.float64), b.astype(np.float64)]
    found = case(
        output, wide[0] * wide[1], ErrorClass.ROUNDED_ONCE, inputs=wide, recompute=lambda x: x[0] * x[1], op_type="Mul"
    )
    cause = explain(found)
    assert (cause.name, cause.evidence["summary"]) == ("format:fp16", "the result is rounded to float16")
    assert "computed_in" not in cause.evidence


def test_a_cast_through_a_narrower_format_has_not_run_in_it():
    x = normal(200)
    through = x.astype(ml_dtypes.bfloat16).astype(np.float16)
    found = case(
        through, x, ErrorClass.ROUNDED_ONCE, inputs=[x.astype(np.float64)], recompute=lambda x: x[0], op_type="Cast"
    )
    cause = explain(found)
    assert (cause.name, cause.in_other_dtype) == ("format:bf16", False)


# ---- subnormals

TINY = 2.0**-14  # the smallest normal number of float16


def halves(*values: float) -> np.ndarray:
    return np.array(values, np.float16)


def test_subnormal_results_are_flushed():
    truth = halves(1.0, TINY / 2, -TINY / 4, 3 * TINY, 2.0, 0.0)
    cause = explain(case(halves(1.0, 0, 0, 3 * TINY, 2.0, 0.0), truth, ErrorClass.EXACT, bits=30))
    assert (cause.name, cause.evidence["num_results"]) == ("subnormal-flush", 2)


def test_subnormal_inputs_are_flushed():
    x = halves(1.0, TINY / 2, 2 * TINY, TINY / 8)
    wide = x.astype(np.float64)
    output = np.array([1024.0, 0, 2048 * TINY, 0]).astype(np.float16)
    found = case(
        output, 1024 * wide, ErrorClass.ROUNDED_ONCE, bits=30, inputs=[wide], recompute=lambda y: 1024 * y[0],
        op_type="Mul",
    )  # fmt: skip
    cause = explain(found)
    assert (cause.name, cause.evidence["num_inputs"]) == ("subnormal-flush", 2)
    assert cause.evidence["summary"] == "subnormal inputs are taken for zero"


def test_a_lost_normal_number_is_no_flush():
    truth = halves(1.0, TINY, 2.0, 4.0, TINY / 2)
    assert explain(case(halves(1.0, 0, 2.0, 4.0, 0), truth, ErrorClass.EXACT, bits=30)).name == "wrong-elements"


def test_one_number_may_be_a_narrow_one_by_chance():
    """The square root of 0.0316..., cut to 12 bits, which 11 bits hold as well."""
    x = np.array([0.001], np.float32)
    output = truncated(np.sqrt(x), 13)
    found = case(
        output, np.sqrt(x.astype(np.float64)), ErrorClass.ROUNDED_ONCE, bits=22, inputs=[x.astype(np.float64)],
        recompute=lambda y: np.sqrt(y[0]), op_type="Sqrt",
    )  # fmt: skip
    cause = explain(found)
    assert cause.name == "approximate-function"
    assert cause.evidence["also_explained_by"] == ["format:fp16"]
