"""The one-line description of an op in a dtype, and the readings that stand behind it.  NumPy only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from diag.common.wording import counted
from probes.fingerprint.arithmetic import OpArithmetic, Order
from probes.fingerprint.tree import depth, widest
from probes.fingerprint.wording import SEQUENTIAL, drawn, nested
from probes.frame.device_report import NOTE, Measurement, Value

FAMILY = "fingerprint"
DRAWN_TERMS = 16  # more than these make a drawing of more than a page
# What may differ from shape to shape with no change of arithmetic: which term is added to which.
_ORDER = ("order", "order_of_distant_terms", "rounded_every")


@dataclass(frozen=True)
class Shaped:
    """An op in one shape: `order_far` is that of terms spread over a long sum, None in a short one."""

    shape: str
    arithmetic: OpArithmetic
    order_far: Order | None

    def figures(self) -> dict[str, Value]:
        result = self.arithmetic.figures()
        if self.order_far is not None:
            result["order_of_distant_terms"] = self.order_far.words
        return result

    @property
    def is_stable(self) -> bool:
        return self.arithmetic.order.is_stable and (self.order_far is None or self.order_far.is_stable)

    def line(self) -> str:
        if self.order_far is None or self.order_far.words == self.arithmetic.order.words:
            return self.arithmetic.line()
        return f"{self.arithmetic.line()}; terms far apart: {self.order_far.words}"


def summary(op: str, dtype: str, first: Shaped, others: Sequence[Shaped]) -> Measurement:
    """The card line: what the first shape does, and which shapes do otherwise."""
    unstable = [each.shape for each in (first, *others) if not each.is_stable]
    rest = [each for each in others if each.is_stable]
    unlike = [each.shape for each in rest if _without_order(each.figures()) != _without_order(first.figures())]
    reordered = [each.shape for each in rest if each.shape not in unlike and _is_reordered(each, first)]
    says = first.line()
    if others and not unlike and not reordered and not unstable:
        says += f"; so in {counted(len(others), 'other shape')}"
    for what, shapes in (("another arithmetic", unlike), ("another order", reordered),
                         ("an order that is not the same from call to call", unstable)):  # fmt: skip
        if shapes:
            says += f"; {what} in {', '.join(shapes)}"
    figures = {"shape": first.shape, **first.figures(), "shapes": len(others) + 1, "shapes_unlike": len(unlike),
               "shapes_reordered": len(reordered), "shapes_unstable": len(unstable)}  # fmt: skip
    return Measurement(FAMILY, op, dtype, "arithmetic", NOTE, says, figures)


def of_shape(op: str, dtype: str, each: Shaped, first: Shaped) -> Measurement:
    same = each.figures() == first.figures()
    return Measurement(FAMILY, op, dtype, each.shape, NOTE, "the same" if same else each.line(), each.figures())


def orders(op: str, dtype: str, found: Mapping[int, Order]) -> Measurement:
    """The trees of sums of so many terms: in words, nested, and the largest that fits a page drawn."""
    figures: dict[str, Value] = {}
    for count, order in found.items():
        figures[f"order_{count}"] = order.words
        if order.tree is not None:
            figures[f"tree_{count}"] = nested(order.tree)
            figures[f"depth_{count}"] = depth(order.tree)
            figures[f"widest_{count}"] = widest(order.tree)
    trees = {count: order.tree for count, order in found.items() if order.tree is not None and count <= DRAWN_TERMS}
    says = "; ".join(_said(found))
    if trees:
        figures["drawing"] = drawn(trees[max(trees)])
        says += f"; {nested(trees[min(trees)])}"
    return Measurement(FAMILY, op, dtype, f"order of {', '.join(map(str, found))} terms", NOTE, says, figures)


def _said(found: Mapping[int, Order]) -> Iterator[str]:
    by_words: dict[str, list[str]] = {}
    for count, order in found.items():
        by_words.setdefault(order.words, []).append(str(count))
    if len(by_words) == 1:
        yield next(iter(by_words))
        return
    for words, counts in by_words.items():
        yield f"{', '.join(counts)} terms: {words}"


def _without_order(figures: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in figures.items() if name not in _ORDER}


def _is_reordered(each: Shaped, first: Shaped) -> bool:
    """Running sums of a long sum may well go on and on: terms far apart are then added one after another."""
    words = first.arithmetic.order.words
    if each.arithmetic.order.words != words:
        return True
    return each.order_far is not None and each.order_far.words not in (words, SEQUENTIAL)
