"""Which products of a compiled unit read their operands in a narrower format than they were given.

A compiler chooses a kernel for each product: of one layer, some may run on tensor cores and others not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.causes.narrowing import AS_GOOD, INPUT_FORMATS, WORDS
from diag.engine.graphs.graph import Graph
from diag.engine.graphs.reachability import called_functions
from diag.engine.truth.rounding_nodes import OperandRounding
from diag.numerics.figures import Bound
from diag.numerics.op_classes import is_product
from diag.verdict.findings import Cause

Wide = npt.NDArray[np.float64]


def _ways() -> dict[OperandRounding, str]:
    """Formats by what they do to numbers in the range of all of them; of two that do the same, the first is named."""
    ways: dict[OperandRounding, str] = {}
    for name, form, mode in INPUT_FORMATS:
        ways.setdefault(OperandRounding(form.precision, mode), name)
    return ways


WAYS = _ways()
# Each try builds a graph and runs it, 30 ms for the attention of a small transformer.
MOST_TRIES = 200
# Elements that effects are told apart by: many more than a unit has products.
SAMPLE = 4096
# The right products leave what rounding does, and the operands that it tips to the next number of the narrow format: a
# few hundredths of the error in rms.  Of few elements, wrong ones leave less than half by chance.
AT_MOST_LEFT = 0.125
# The output shows whether a product is rounded where the error would at least double otherwise.
DECIDED = 2.0


@dataclass(frozen=True)
class _Tried:
    """One rounding of operands: the output's bound, and a sample of the truth."""

    bound: Bound
    truth: Wide


def products_upstream(graph: Graph, functions: dict[str, Graph], upstream: Collection[str]) -> dict[int, str]:
    """The products among some nodes and in what these call: op index -> op type, in the order of the step."""
    nodes = [node for node in graph if node.name in upstream]
    nodes += [node for name in called_functions(nodes, functions) for node in functions[name]]
    found = {n.location.index: n.op for n in nodes if is_product(n.op) and n.location.index is not None}
    return dict(sorted(found.items()))


class NarrowProducts:
    """Searches the format, and the products, that explain one output of a unit.

    products: op index -> op type, in the order of the step.  output: as the lane has it.  truth: the same in float64.
    truth_with: with operands rounded.  judge: holds the output against another truth.  judge_with_ties: the same where
    rounding may also tip an operand from one number of the narrow format to the next.
    """

    def __init__(
        self, products: Mapping[int, str], output: npt.NDArray[Any], truth: Wide,
        truth_with: Callable[[OperandRounding], Wide], judge: Callable[[Wide], Bound],
        judge_with_ties: Callable[[OperandRounding, Wide], Bound],
    ) -> None:  # fmt: skip
        self.products, self._truth_with = products, truth_with
        self._judge, self._judge_with_ties = judge, judge_with_ties
        finite = np.flatnonzero(np.isfinite(output) & np.isfinite(truth))
        self._sample = np.random.default_rng(0).permutation(finite)[:SAMPLE]
        self._output = self._sampled(output)
        self._plain = _Tried(judge(truth), self._sampled(truth))
        self._tried: dict[OperandRounding, _Tried] = {}

    @property
    def num_tries(self) -> int:
        """How many graphs were built."""
        return len(self._tried)

    def cause(self) -> Cause | None:
        """All products in one format, else some of them, else None."""
        return (self._of_all() or self._of_some()) if self.products else None

    def _sampled(self, x: npt.NDArray[Any]) -> Wide:
        return x.reshape(-1)[self._sample].astype(np.float64)

    def _with(self, rounding: OperandRounding) -> _Tried:
        if rounding.products == frozenset():
            return self._plain
        if rounding not in self._tried:
            truth = self._truth_with(rounding)
            self._tried[rounding] = _Tried(self._judge(truth), self._sampled(truth))
        return self._tried[rounding]

    def _rms(self, rounding: OperandRounding) -> float:
        return self._with(rounding).bound.rms

    def _of_all(self) -> Cause | None:
        tried = {way: self._with(way).bound for way in WAYS}
        accepted = {way: bound.excess for way, bound in tried.items() if bound.is_explained}
        if not accepted:
            return None
        way = next(way for way in accepted if accepted[way] <= AS_GOOD * min(accepted.values()))
        return Cause(WAYS[way], facts={"remaining_excess": accepted[way]})

    def _of_some(self) -> Cause | None:
        """By formats: first whose effect, on all products, is most like the error, then in the order of the table."""
        for way in sorted(WAYS, key=lambda each: -round(self._likeness(each), 2)):
            starts = (self._chosen_in_order(way), self._best_alone(way))  # of few elements the fit says little
            chosen = min(map(self._improved, starts), key=self._rms)
            if not chosen.products or self._rms(chosen) > AT_MOST_LEFT * self._plain.bound.rms:
                continue
            bound = self._with(chosen).bound
            if not bound.is_explained:
                bound = self._judge_with_ties(chosen, self._truth_with(chosen))
            if bound.is_explained:
                return self._cause(chosen, bound.excess)
        return None

    def _likeness(self, way: OperandRounding) -> float:
        """The cosine of the angle between the error and the effect of a format on all products."""
        error, effect = self._output - self._plain.truth, self._with(way).truth - self._plain.truth
        sizes = float(np.linalg.norm(error) * np.linalg.norm(effect))
        return float(error @ effect) / sizes if sizes > 0 and math.isfinite(sizes) else 0.0

    def _chosen_in_order(self, way: OperandRounding) -> OperandRounding:
        """Product by product: whether its effect is a part of the error, by least squares.

        When it is a product's turn, those before it are decided, and what it reads is rounded as the lane's is.  Those
        behind it take part in the fit, and are decided later: their effects are not alike in each element, for they
        hang on roundings before them, but those of a format that cuts off are alike on the whole.
        """
        chosen, left = replace(way, products=frozenset()), list(self.products)
        while left and self.num_tries < MOST_TRIES:
            base = self._with(chosen).truth
            effects = np.stack([self._with(_toggled(chosen, each)).truth - base for each in left], axis=1)
            shares = _least_squares(effects, self._output - base)
            taken = next((position for position, share in enumerate(shares) if share > 0.5), None)
            if taken is None:
                break
            chosen, left = _toggled(chosen, left[taken]), left[taken + 1 :]
        return chosen

    def _best_alone(self, way: OperandRounding) -> OperandRounding:
        return min((replace(way, products=frozenset({product})) for product in self.products), key=self._rms)

    def _improved(self, chosen: OperandRounding) -> OperandRounding:
        """With any one product more or less, as long as that lowers the error."""
        is_lower = True
        while is_lower and self.num_tries < MOST_TRIES:
            best = min((_toggled(chosen, product) for product in self.products), key=self._rms)
            is_lower = self._rms(best) < self._rms(chosen)
            chosen = best if is_lower else chosen
        return chosen

    def _cause(self, chosen: OperandRounding, left: float) -> Cause | None:
        """None where no single product is shown to be rounded."""
        way, rms = replace(chosen, products=None), self._rms(chosen)
        others = {product: self._rms(_toggled(chosen, product)) for product in self.products}
        decided = [product for product, other in others.items() if other >= DECIDED * rms and other > rms]
        undecided = [product for product in self.products if product not in decided and self._has_effect(way, product)]
        named = [product for product in decided if chosen.is_of(product)]
        if not named:
            return None
        ops = ", ".join(f"op {index} {self.products[index]}" for index in named)
        summary = (
            f"operands of {len(named)} of {len(self.products)} products {WORDS[way.mode]} at {way.precision} "
            f"significand bits: {ops}"
        )
        also = {"products_undecided": undecided} if undecided else {}
        return Cause(WAYS[way], summary, {"products": named, **also, "remaining_excess": left})

    def _has_effect(self, way: OperandRounding, product: int) -> bool:
        """A backward pass reads what the lane's own forward pass handed on: how that was computed has none on it."""
        alone = self._with(replace(way, products=frozenset({product})))
        return not np.array_equal(alone.truth, self._plain.truth)


def _least_squares(effects: Wide, error: Wide) -> Wide:
    """The shares of each effect, a column, in the error; what is not finite has none."""
    if not (np.isfinite(effects).all() and len(error)):
        return np.zeros(effects.shape[1])
    size = np.abs(effects).max(axis=0, initial=0.0)
    size[size == 0] = 1.0
    return np.asarray(np.linalg.lstsq(effects / size, error, rcond=None)[0] / size)


def _toggled(rounding: OperandRounding, product: int) -> OperandRounding:
    """With one product more, or without it."""
    return replace(rounding, products=(rounding.products or frozenset()) ^ {product})
