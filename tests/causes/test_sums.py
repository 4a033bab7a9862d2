"""How a sum was summed: sums made in NumPy's own float16 and ml_dtypes' bfloat16, or with terms left out."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from diag.causes.causes import explain
from diag.numerics.figures import Bound
from diag.numerics.formats import FLOAT32
from diag.numerics.op_classes import ErrorClass
from diag.numerics.terms import Terms
from tests.causes.wrong_outputs import case, normal, product


def summed_in(a: np.ndarray, b: np.ndarray, dtype: type, every: int) -> np.ndarray:
    """a @ b with the running total in a narrow dtype; a group of terms is added up in float32."""
    total = np.zeros((a.shape[0], b.shape[1]), dtype)
    for start in range(0, a.shape[1], every):
        group = a[:, start : start + every].astype(np.float32) @ b[start : start + every].astype(np.float32)
        total = (total.astype(np.float32) + group).astype(dtype)
    return total


@pytest.mark.parametrize(
    ("dtype", "name", "every"),
    [(np.float16, "fp16", 1), (np.float16, "fp16", 8), (np.float16, "fp16", 32), (ml_dtypes.bfloat16, "bf16", 4)],
)
def test_partial_sums_in_a_narrow_format(dtype, name, every):
    a, b = (x.astype(dtype).astype(np.float32) for x in (normal(24, 100), normal(100, 16, seed=1)))
    output = summed_in(a, b, dtype, every).astype(np.float32)
    cause = explain(product(a, b, output))
    assert (cause.name, cause.evidence["every"]) == (f"accumulate:{name}", every)
    assert cause.evidence["reproduced"] > 0.9
    assert "also_explained_by" not in cause.evidence


def test_a_narrow_result_of_narrow_sums():
    """The result is float16 itself, so that one rounding is allowed it anyway."""
    a, b = (x.astype(np.float16) for x in (normal(24, 64), normal(64, 16, seed=1)))
    output = summed_in(a, b, np.float16, 8)
    cause = explain(product(a, b, output, sums_in=FLOAT32, bits=12))
    assert (cause.name, cause.evidence["every"]) == ("accumulate:fp16", 8)


def test_sums_rounded_in_another_order_are_not_claimed():
    """Every second term first: not the order of memory."""
    a, b = (x.astype(np.float16).astype(np.float32) for x in (normal(24, 100), normal(100, 16, seed=1)))
    order = np.concatenate([np.arange(0, 100, 2), np.arange(1, 100, 2)])
    output = summed_in(a[:, order], b[order], np.float16, 4).astype(np.float32)
    assert explain(product(a, b, output)).name == "unknown"


# ---- left out


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (np.s_[:96], "inner dimension from 96 to the end (the last 4, in the unfinished tile of 32)"),
        (np.s_[8:], "inner dimension before 8"),
        ([k for k in range(100) if not 32 <= k < 64], "inner dimension 32 to 63"),
        ([k for k in range(100) if k != 41], "inner dimension 41"),
    ],
)
def test_a_block_left_out(kept, words):
    a, b = normal(12, 100), normal(100, 8, seed=1)
    cause = explain(product(a, b, (a.astype(np.float64)[:, kept] @ b.astype(np.float64)[kept]).astype(np.float32)))
    assert (cause.name, cause.evidence["summary"]) == ("wrong-elements", f"the sum leaves out {words}")


def test_a_block_counted_twice():
    a, b = normal(12, 100), normal(100, 8, seed=1)
    wide = a.astype(np.float64), b.astype(np.float64)
    output = wide[0] @ wide[1] + wide[0][:, 64:] @ wide[1][64:]
    cause = explain(product(a, b, output.astype(np.float32)))
    assert cause.evidence["summary"].startswith("the sum counts twice inner dimension from 64 to the end")
    assert (cause.evidence["num_terms"], cause.evidence["of"]) == (36, 100)


def test_scattered_terms_are_found_where_there_are_enough_elements():
    a, b = normal(30, 12), normal(12, 9, seed=1)
    kept = [0, 1, 2, 4, 5, 7, 8, 9, 11]
    cause = explain(product(a, b, (a.astype(np.float64)[:, kept] @ b.astype(np.float64)[kept]).astype(np.float32)))
    assert cause.evidence["summary"] == "the sum leaves out inner dimension 3, 6, 10"


def test_the_tail_of_each_row_of_a_sum_over_two_axes():
    """Sums over 5 rows of 40: without the last 8 of every row, whole numbers throughout."""
    x = np.random.default_rng(0).integers(-50, 50, (6, 5, 40)).astype(np.float64)
    output = x[..., :32].sum(axis=(1, 2)).astype(np.float32)

    def terms(at: np.ndarray) -> Terms:
        left = x[at[:, 0]].reshape(len(at), -1)
        return Terms(left, np.ones_like(left), (("row", 5), ("column", 40)))

    found = case(output, x.sum(axis=(1, 2)), inputs=[x], recompute=lambda y: y[0].sum(axis=(1, 2)), terms=terms)
    cause = explain(found)
    assert cause.evidence["summary"] == (
        "the sum leaves out columns from 32 to the end (the last 8, in the unfinished tile of 32)"
    )
    assert cause.evidence["remaining_excess"] == 0.0


def test_everything_left_out():
    a, b = normal(12, 20), normal(20, 8, seed=1)
    cause = explain(product(a, b, np.zeros((12, 8), np.float32)))
    assert (cause.name, cause.evidence["summary"]) == ("wrong-elements", "the sum leaves out all 20 terms")


def test_a_wrong_sum_with_nothing_left_out():
    a, b = normal(12, 100), normal(100, 8, seed=1)
    output = a @ b + normal(12, 8, seed=2)
    assert explain(product(a, b, output)).name == "unknown"


def test_one_wrong_element_is_not_held_against_every_block():
    """With a thousand blocks to choose from, one of them comes near anything."""
    a, b = normal(12, 2000), normal(2000, 8, seed=1)
    output = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    output[3, 4] += 1.0
    cause = explain(product(a, b, output))
    assert (cause.name, cause.evidence["where"]) == ("wrong-elements", "all in row 3; column 4")
    assert "summary" not in cause.evidence


def test_what_is_not_summed_has_no_terms():
    output = normal(8)
    found = case(output, output + 1, ErrorClass.COMPOSITE, terms=lambda at: pytest.fail("asked for terms"))
    assert isinstance(found.bound, Bound)
    assert explain(found).name == "unknown"


def test_a_sum_of_everything_is_a_scalar():
    x = np.random.default_rng(0).integers(1, 50, 40).astype(np.float64)

    def terms(at: np.ndarray) -> Terms:
        assert at.shape == (1, 0)
        return Terms(x[None], np.ones((1, 40)), (("row", 40),))

    output = np.array(x[:32].sum(), np.float32)
    found = case(output, np.array(x.sum()), inputs=[x], recompute=lambda y: y[0].sum(), terms=terms)
    assert explain(found).evidence["summary"].startswith("the sum leaves out rows from 32 to the end")
