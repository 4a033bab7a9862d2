"""Widths, roundings, extra bits and products of adders that are made by hand."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from probes.fingerprint.arithmetic import arithmetic_of
from tests.probes.adders import product_sum, products_of, rounded_fma, sequential, tensor_core, terms_of

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def to_odd(x: np.ndarray) -> np.ndarray:
    """The odd one of the two neighbours where x is not whole."""
    down = np.floor(x)
    return np.where(down == x, x, np.where(down % 2 == 1, down, down + 1))


def ties_away(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float16), BFLOAT16], ids=str)
@pytest.mark.parametrize(
    ("block", "bits", "extra", "whole", "says"),
    [
        (4, 24, 2, np.trunc, "float32 accumulate truncated, blocks of 4 added as one, 2 extra bits"),
        (4, 24, 0, np.trunc, "float32 accumulate truncated, blocks of 4 added as one, 0 extra bits"),
        (8, 24, 1, np.trunc, "float32 accumulate truncated, blocks of 8 added as one, 1 extra bit"),
        (16, 24, 2, np.trunc, "float32 accumulate truncated, blocks of 16 added as one, 2 extra bits"),
        (8, 24, 3, np.rint, "float32 accumulate, blocks of 8 added as one, 3 extra bits"),
        (8, 14, 0, np.rint, "14 bits accumulate, blocks of 8 added as one, 0 extra bits"),
    ],
)  # fmt: skip
def test_tensor_cores_are_told_apart(
    dtype: np.dtype, block: int, bits: int, extra: int, whole: Callable[[np.ndarray], np.ndarray], says: str
) -> None:
    found = arithmetic_of(products_of(tensor_core(block, bits, extra, whole), 32, dtype))
    assert (found.width.fewest, found.width.most, found.extra_bits) == (bits, bits, extra)
    assert found.terms_added_as_one == block
    assert says in found.line()


@pytest.mark.parametrize(
    ("whole", "rounding"),
    [
        (np.rint, "to nearest even"),
        (np.trunc, "truncated"),
        (np.floor, "down"),
        (np.ceil, "up"),
        (to_odd, "to odd"),
        (ties_away, "to nearest, ties away from zero"),
    ],
)  # fmt: skip
def test_roundings_are_told_apart(whole: Callable[[np.ndarray], np.ndarray], rounding: str) -> None:
    """Rounding up or to odd, a large number does not absorb a small one, and no tree is to be had."""
    found = arithmetic_of(product_sum(rounded_fma(20, whole), 16, np.float32))
    assert found.rounding == rounding
    assert (found.width.fewest, found.width.most) == (20, 20)
    assert (found.order.tree is None) is (rounding in ("up", "to odd"))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("dtype", "bits"), [(np.dtype(np.float32), 24), (np.dtype(np.float16), 11), (BFLOAT16, 8)])
def test_rounded_products_are_told_from_exact_ones(dtype: np.dtype, bits: int, fused: bool) -> None:
    found = arithmetic_of(product_sum(rounded_fma(bits, np.rint, fused), 16, dtype))
    assert found.exact_products is fused
    assert (found.width.fewest, found.width.most) == (bits, bits)


def test_sums_rounded_to_float16_between_blocks() -> None:
    def add(x: np.ndarray) -> np.ndarray:
        total = np.zeros(len(x), np.float32)
        for start in range(0, 32, 8):
            block = sequential(x[:, start : start + 8].astype(np.float32))
            with np.errstate(all="ignore"):
                total = (total + block).astype(np.float16).astype(np.float32)
        return total

    found = arithmetic_of(products_of(add, 32, np.float16))
    assert (found.width.fewest, found.width.most, found.rounded_every) == (11, 24, 8)
    assert "float32 sums rounded to float16 every 8 terms" in found.line()


@pytest.mark.parametrize(("whole", "conversion"), [(np.rint, "to nearest even"), (np.trunc, "truncated")])
def test_the_conversion_of_the_result(whole: Callable[[np.ndarray], np.ndarray], conversion: str) -> None:
    """float32 sums made bfloat16 on the way out."""

    def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = sequential((a * b).astype(np.float32)).astype(np.float64)
        place = np.ldexp(1.0, np.frexp(np.where(total == 0, 1.0, total))[1] - 8)
        return np.asarray(whole(total / place) * place)

    assert arithmetic_of(product_sum(add, 16, BFLOAT16)).conversion == conversion


@pytest.mark.parametrize("flushed", [True, False])
def test_subnormals_of_sums(flushed: bool) -> None:
    smallest = np.float32(2.0**-126)

    def add(x: np.ndarray) -> np.ndarray:
        total = np.zeros(len(x), np.float32)
        for k in range(x.shape[1]):
            term = np.where(flushed & (np.abs(x[:, k]) < smallest), np.float32(0), x[:, k])
            total = total + term
            total = np.where(flushed & (np.abs(total) < smallest), np.float32(0), total)
        return total

    expected = "flushed" if flushed else "kept"
    found = arithmetic_of(terms_of(add, 8)).subnormals
    assert (found.inputs, found.products, found.sums) == (expected, "", expected)


@pytest.mark.parametrize(("flush_in", "flush_out"), [(True, False), (False, True), (False, False)])
def test_subnormals_of_products(flush_in: bool, flush_out: bool) -> None:
    smallest = 2.0**-14

    def flushed(x: np.ndarray, do: bool) -> np.ndarray:
        return np.where(do & (np.abs(x) < smallest), 0.0, x)

    def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return flushed(sequential((flushed(a, flush_in) * flushed(b, flush_in)).astype(np.float32)), flush_out)

    found = arithmetic_of(product_sum(add, 8, np.float16)).subnormals
    said = {True: "flushed", False: "kept"}
    assert (found.inputs, found.products) == (said[flush_in], said[flush_out])
