"""All that is measured of one sum, and its one-line description.  NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diag.numerics.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from probes.fingerprint import accumulation, wording
from probes.fingerprint.accumulation import NEAREST, NOT_TOLD, RULES, Width
from probes.fingerprint.inputs import InputFormat, input_formats
from probes.fingerprint.orders import is_repeatable, tree_of
from probes.fingerprint.subnormals import Subnormals, subnormals_of
from probes.fingerprint.sums import Sum, alone
from probes.fingerprint.tree import NotATree, NothingLost, OutOfRange, Tree, Unstable, nodes, sequence
from probes.frame.device_report import Value

_WIDTHS = {
    FLOAT64.precision: "float64", FLOAT32.precision: "float32", FLOAT16.precision: "float16",
    BFLOAT16.precision: "bfloat16",
}  # fmt: skip


@dataclass(frozen=True)
class Order:
    """The tree, or in `words` why there is none.

    everywhere: whether every element of the output that was looked at is summed in this order.
    is_stable: whether every call does.
    """

    tree: Tree | None
    words: str
    everywhere: bool = True
    is_stable: bool = True


@dataclass(frozen=True)
class OpArithmetic:
    """What one sum does.

    inputs: how each operand is read.  exact_products: None where products of such inputs are exact in any case.
    width: of the running sum.  rounding: of it.  extra_bits: of an adder of several terms, None where there is none.
    rounded_every: terms between two roundings to the narrowest width, None where all running sums are alike.
    conversion: how the result is rounded to the dtype, "" where the running sum has its width already.
    """

    inputs: tuple[InputFormat, InputFormat]
    has_factors: bool
    exact_products: bool | None
    width: Width
    rounding: str
    extra_bits: int | None
    rounded_every: int | None
    conversion: str
    order: Order
    subnormals: Subnormals
    dtype_bits: int
    most_bits: int

    def figures(self) -> dict[str, Value]:
        result: dict[str, Value] = {
            "input": str(self.inputs[0]),
            "input_bits": self.inputs[0].bits,
            "exact_products": self.exact_products,
            "accumulator_bits": self.width.most,
            "narrowest_sum_bits": self.width.fewest,
            "rounding": self.rounding,
            "extra_bits": self.extra_bits,
            "rounded_every": self.rounded_every,
            "conversion": self.conversion,
            "order": self.order.words,
            "terms_added_as_one": self.terms_added_as_one,
            "subnormals_in": self.subnormals.inputs,
            "subnormal_products": self.subnormals.products,
            "subnormal_sums": self.subnormals.sums,
        }
        if self.inputs[1] != self.inputs[0]:
            result["second_input"] = str(self.inputs[1])
        return result

    @property
    def terms_added_as_one(self) -> int:
        """The most new terms that one addition takes, 1 where each is added by itself."""
        if self.order.tree is None:
            return 0
        widths = [sum(isinstance(child, int) for child in node) for node in nodes(self.order.tree) if len(node) > 2]
        return max(widths, default=1)

    def line(self) -> str:
        """Such as "TF32 inputs to nearest even, float32 accumulate truncated, blocks of 8 added as one"."""
        sums = [self._products(), self._width(), self.order.words, self._extra()]
        parts = [*self._inputs(), *sums, str(self.subnormals)]
        return ", ".join(filter(None, parts))

    def _inputs(self) -> list[str]:
        if not self.has_factors and self.inputs[0].bits == self.dtype_bits:
            return []
        different = list(dict.fromkeys(self.inputs))
        return [f"{each.name} input{'s' if len(different) == 1 else ''} {each.rounding}".rstrip() for each in different]

    def _products(self) -> str:
        return {True: "exact products", False: "rounded products", None: ""}[self.exact_products]

    def _width(self) -> str:
        fewest, most = (self._named(bits) for bits in (self.width.fewest, self.width.most))
        how = "" if self.rounding in (NEAREST, NOT_TOLD) else f" {self.rounding}"
        if not self.width.most:
            return ""
        if self.width.is_open:
            return f"accumulate in {most} or more"
        if fewest == most:
            return f"{most} accumulate{how}"
        every = f" every {self.rounded_every} terms" if self.rounded_every else " in places"
        return f"{most} sums rounded{how} to {fewest}{every}"

    def _named(self, bits: int) -> str:
        if bits == FLOAT16.precision and self.dtype_bits != bits:
            return f"{bits} bits"
        if bits >= self.most_bits - 1:
            return f"{bits} bits"
        return _WIDTHS.get(bits, f"{bits} bits")

    def _extra(self) -> str:
        if self.extra_bits is None:
            return ""
        if self.extra_bits + self.width.fewest >= self.most_bits - 1:
            return "blocks summed exactly"
        return f"{self.extra_bits} extra bit{'s' * (self.extra_bits != 1)}"


NONE_FITS = Order(
    None, "no order of additions explains it: a transformed algorithm, or wider sums in places", everywhere=False
)
UNSTABLE = Order(None, "order not the same from call to call", everywhere=False, is_stable=False)


def order_of(asked: Sum) -> Order:
    """Told from many elements of the output at once, or, where they do not agree, from its first one."""
    if asked.num_questions > 1:
        try:
            found = tree_of(asked)
            return Order(found, wording.in_words(found))
        except (Unstable, NotATree):
            if not is_repeatable(asked):
                return UNSTABLE
    try:
        found = tree_of(alone(asked))
    except Unstable:
        return UNSTABLE
    except NothingLost:
        return Order(None, "no order to be seen: nothing is lost", everywhere=False)
    except OutOfRange:
        return Order(None, "order not told: the numbers it takes overflow or are flushed", everywhere=False)
    except NotATree:
        return NONE_FITS
    if asked.num_questions == 1:
        return Order(found, wording.in_words(found))
    return Order(found, f"{wording.in_words(found)}, otherwise in other elements", everywhere=False)


def arithmetic_of(asked: Sum, seed: int = 0) -> OpArithmetic:
    order = order_of(asked)
    inputs, subnormals = input_formats(asked), subnormals_of(asked)  # of single terms, in no order
    if not order.everywhere:
        asked = alone(asked)
    return OpArithmetic(
        inputs=inputs,
        has_factors=asked.has_factors,
        exact_products=_exact_products(asked, order, inputs),
        **_kept(asked, order, seed),
        order=order,
        subnormals=subnormals,
        dtype_bits=asked.format.precision,
        most_bits=accumulation.most_bits(asked),
    )


def _exact_products(asked: Sum, order: Order, inputs: tuple[InputFormat, InputFormat]) -> bool | None:
    if order.tree is None:
        return None
    return accumulation.products_are_exact(asked, min(each.bits for each in inputs))


def _kept(asked: Sum, order: Order, seed: int) -> dict[str, Any]:
    """Of the running sum; where M does not absorb (rounding up, to odd) a plain sequence is tried for a tree."""
    tree = order.tree
    if tree is None:
        result = _of_tree(asked, sequence(asked.num_terms), seed)
        if order.is_stable and result["width"].fewest == result["width"].most and result["rounding"] in RULES:
            return result
        return {"width": Width(0, 0, False), "rounding": NOT_TOLD, "extra_bits": None, "rounded_every": None,
                "conversion": ""}  # fmt: skip
    return _of_tree(asked, tree, seed)


def _of_tree(asked: Sum, tree: Tree, seed: int) -> dict[str, Any]:
    width = accumulation.width_of(asked, tree, seed)
    extra = accumulation.extra_bits(asked, tree, width.fewest)
    is_narrow = 2 <= width.fewest < width.most
    return {
        "width": width,
        "rounding": accumulation.rounding_of(asked, tree, width, extra),
        "extra_bits": extra,
        "rounded_every": accumulation.block_between_roundings(asked, tree, width.fewest) if is_narrow else None,
        "conversion": accumulation.conversion_of(asked) if width.fewest > asked.format.precision else "",
    }
