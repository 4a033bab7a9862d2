"""How weights came to be, made by NumPy alone."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from diag.causes.weights import explain_weight
from diag.numerics.statistics import relative_difference
from tests.causes.wrong_outputs import nearest_even, normal, truncated


def through(dtype: object, x: np.ndarray) -> np.ndarray:
    return x.astype(dtype).astype(np.float32)


def channels_first(x: np.ndarray) -> np.ndarray:
    """Rows of a dense layer on 3 x 4 images of 5 channels, flattened in the other order."""
    return x.reshape(12, 5, -1).swapaxes(0, 1).reshape(x.shape)


def gates(x: np.ndarray) -> np.ndarray:
    i, f, c, o = np.split(x, 4, axis=1)
    return np.concatenate([i, o, f, c], axis=1)


@pytest.mark.parametrize(
    ("made", "cause", "words"),
    [
        (lambda x: through(np.float16, x), "format:fp16", "the reference's rounded to float16, to nearest even"),
        (lambda x: through(ml_dtypes.bfloat16, x), "format:bf16", "rounded to bfloat16, to nearest even"),
        (lambda x: truncated(x, 16), "format:bf16-rz", "rounded to bfloat16, cut off"),
        (lambda x: through(np.float16, x).T.reshape(x.shape), "permuted",
         "written in the order axis 1 x axis 0; and rounded to float16, to nearest even"),
        (lambda x: x.T.reshape(x.shape), "permuted", "written in the order axis 1 x axis 0"),
        (gates, "permuted", "axis 1: its 4 parts in the order 0 3 1 2"),
        (channels_first, "permuted", "axis 0: 12 x 5 read as 5 x 12"),
        (lambda x: np.flip(x), "permuted", "axis 0 and axis 1: reversed"),
        (lambda x: x * np.float32(0.3), "scaled", "0.3 times the reference's"),
        (np.ones_like, "skipped-update", "every element is 1, as in a variable that was made and never loaded"),
        (lambda x: np.nextafter(x, np.float32(9)), "rounding", "each element within one ULP of the reference's"),
        (lambda x: x + 0.01 * normal(*x.shape, seed=1), "unknown", "as by more training (correlation 0.9999"),
        (lambda x: normal(*x.shape, seed=1), "unknown", "no more like the reference's than other random numbers"),
        (lambda x: normal(*x.shape, seed=2), "permuted", "it holds the reference's other"),
        (lambda x: np.where(np.arange(len(x))[:, None] == 7, 0, x).astype(np.float32), "wrong-elements", ""),
    ],
)  # fmt: skip
def test_how_a_weight_came_to_be(made, cause, words):
    a = normal(60, 16)
    b = np.ascontiguousarray(made(a))
    found = explain_weight(a, b, {"same": a, "other": normal(60, 16, seed=2)})
    assert found.name == cause and words in found.summary


def test_tf32_is_named_where_the_exponents_tell_it_from_float16():
    a = normal(60, 16)
    wide = np.where(np.arange(16) == 3, a * np.float32(2.0**20), a).astype(np.float32)
    assert explain_weight(a, nearest_even(a, 13), {}).name in ("format:fp16", "format:tf32-rne")
    assert explain_weight(wide, nearest_even(wide, 13), {}).name == "format:tf32-rne"


def test_weights_of_whole_numbers_have_no_format():
    a = np.arange(8, dtype=np.int8)
    assert explain_weight(a, a + np.int8(1), {}).evidence == {"num_differing": 8}


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [([3.0, 4.0], [3.0, 9.0], 1.0), ([0.0], [0.0], 0.0), ([0.0], [1e-30], np.inf), ([1.0, np.inf], [1.0, np.inf], 0.0),
     ([1.0], [np.nan], np.inf)],
)  # fmt: skip
def test_the_relative_difference_is_in_norm(a, b, expected):
    assert relative_difference(np.float32(a), np.float32(b)) == expected
