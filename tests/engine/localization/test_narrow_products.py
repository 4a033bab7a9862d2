"""Which products of a layer were in a narrower format; the layer is an attention in NumPy, and so is its truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from diag.engine.localization.narrow_products import NarrowProducts
from diag.engine.truth.rounding_nodes import OperandRounding
from diag.numerics.bounds import RoundingSpread, composite_bound
from diag.numerics.errors_against_truth import absolute_error
from diag.numerics.figures import Bound
from diag.numerics.formats import BFLOAT16, TF32, round_to

NAMES = ("query", "key", "value", "scores", "mixture", "projection")
FORMATS = {form.precision: form for form in (TF32, BFLOAT16)}
RNE, RZ, BF16 = (11, "nearest-even"), (11, "toward-zero"), (8, "nearest-even")


class Attention:
    """x, (batch, time, width), and its weights; seeded."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.x = random.normal(size=(4, 10, 8)).astype(np.float32)
        self.weights = [random.normal(size=(8, 2, 4), scale=0.35).astype(np.float32) for _ in range(3)]
        self.weights.append(random.normal(size=(2, 4, 8), scale=0.35).astype(np.float32))

    def __call__(
        self, dtype: Any, rounding: OperandRounding | None = None, noise: np.random.Generator | None = None
    ) -> Any:
        def product(name: str, equation: str, *operands: Any) -> Any:
            if noise is not None:
                operands = tuple(x * (1 + 2.0**-24 * noise.uniform(-1, 1, x.shape)) for x in operands)
            if rounding is not None and rounding.is_of(NAMES.index(name)):
                form = FORMATS[rounding.precision]
                operands = tuple(round_to(x, form, rounding.mode).astype(dtype) for x in operands)
            return np.einsum(equation, *operands)

        x, (query, key, value, projection) = self.x.astype(dtype), (w.astype(dtype) for w in self.weights)
        q, k, v = (product(name, "btd,dnh->btnh", x, w) for name, w in zip(NAMES[:3], (query, key, value), strict=True))
        scores = np.exp(product("scores", "btnh,bsnh->bnts", q / dtype(2), k))
        mixed = product("mixture", "bnts,bsnh->btnh", scores / scores.sum(-1, keepdims=True), v)
        return product("projection", "btnh,nhd->btd", mixed, projection)

    def cause(self, output: Any) -> Any:
        truth = self(np.float64)
        error = absolute_error(self(np.float32), truth)

        def judge(other: Any, spread: RoundingSpread | None = None) -> Bound:
            return composite_bound(output, other, spread or RoundingSpread(error.rms, error.max), error)

        def judge_with_ties(rounding: OperandRounding, other: Any) -> Bound:
            noise = np.random.default_rng(0)
            errors = [absolute_error(self(np.float64, rounding, noise), other) for _ in range(8)]
            rms = float(np.sqrt(np.mean([each.rms**2 for each in errors])))
            return judge(other, RoundingSpread(rms, max(each.max for each in errors)))

        def rounded(rounding: OperandRounding) -> Any:
            return self(np.float64, rounding)

        products = dict(enumerate(NAMES))
        return NarrowProducts(products, output, truth, rounded, judge, judge_with_ties).cause()


@pytest.mark.parametrize(
    ("names", "form", "cause"),
    [
        (("scores",), RNE, "format:tf32-rne"),
        (("query", "key", "value"), RNE, "format:tf32-rne"),
        (("value", "scores", "projection"), RZ, "format:tf32-rz"),  # all effects are a little towards zero
        (("key", "mixture"), BF16, "format:bf16"),
    ],
)
def test_the_products_that_were_rounded_are_named(names, form, cause):
    precision, mode = form
    layer, chosen = Attention(3), frozenset(map(NAMES.index, names))
    found = layer.cause(layer(np.float32, OperandRounding(precision, mode, chosen)))
    assert (found.name, found.facts["products"]) == (cause, sorted(chosen))
    assert f"operands of {len(names)} of 6 products" in found.summary
    assert f"op {min(chosen)} {names[0]}" in found.summary


def scaled(x: Any) -> Any:
    return x * np.float32(1 - 2.0**-11)


def noisy(x: Any) -> Any:
    return (x * (1 + 2.0**-11 * np.random.default_rng(0).normal(size=x.shape))).astype(np.float32)


def one_row(x: Any) -> Any:
    x[0, 0] *= np.float32(1.0005)
    return x


@pytest.mark.parametrize("fault", [scaled, noisy, one_row])
def test_an_error_of_that_size_and_another_kind_has_no_products(fault: Callable[[Any], Any]):
    layer = Attention(4)
    assert layer.cause(fault(layer(np.float32))) is None


def test_what_the_output_hardly_depends_on_is_neither_named_nor_denied():
    """Scores near zero: the mixture is a mean, whatever the queries are rounded to."""
    layer = Attention(5)
    layer.weights[0] *= np.float32(1e-7)
    chosen = frozenset(map(NAMES.index, ("query", "value")))
    found = layer.cause(layer(np.float32, OperandRounding(*RNE, chosen)))
    assert found.facts["products"] == [NAMES.index("value")]
    assert set(found.facts["products_undecided"]) >= {NAMES.index("query"), NAMES.index("scores")}
