"""What kind of wrong: hypotheses about an output that rounding does not explain.

A cause is named only when its hypothesis explains the data: the op is computed again under the
hypothesis, and what remains must be within the rounding bound.  What no hypothesis explains is
described by the pattern of its wrong elements, or else is `unknown`.  Where several explain the same
data, the first in the order below is named and the others are listed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from diag.causes.earlier import depends_on_history, never_the_same, stale, unrepeated
from diag.causes.narrowing import (
    ENOUGH_VALUES,
    OTHER_WAYS,
    WAYS,
    computed_in,
    cut_off,
    flushed_subnormals,
    narrow_operands,
)
from diag.causes.operands import misread, unapplied, weighed
from diag.causes.patterns import describe_elements
from diag.causes.rearranged import elements, factored, permuted, where
from diag.causes.sums import left_out, narrow_accumulator
from diag.causes.wrong_output import Truth, WrongOutput, has_distinct
from diag.numerics.op_classes import ErrorClass
from diag.verdict.findings import Cause

# A function that still has 8 correct bits everywhere is an approximation; with fewer it is wrong.
APPROXIMATE = 2.0**-8
# Elements out of bound in up to half of a tensor are a pattern; in more, the tensor is wrong.
MOSTLY_RIGHT = 0.5
# A factor that leaves so much of the error, in norm, has nothing to do with it.
NEARLY_ALL = 0.9
# A factor found from results that were rounded once is itself off by as much as one of them.
FITTED = 2.0
# One factor fits one number as it likes; that it fits two more, with eight correct bits or more, is no chance.
MORE_THAN_FITTED = 3
# Widths of operands that no format has: tried in both roundings, they assume more than any other hypothesis.
OF_NO_FORMAT = frozenset(way.name for way in OTHER_WAYS)
# Ops that tell whether numbers are finite.
CHECKS = ("IsFinite", "IsInf", "IsNan")

Hypothesis = Callable[[WrongOutput], Iterator[Cause]]


def explain(case: WrongOutput, with_others: bool = True) -> Cause:
    """The hypothesis that explains the case, the more specific before the more general.

    with_others: whether to name the others that explain it as well, which takes trying them all.
    """
    with np.errstate(all="ignore"):
        for hypotheses in (CONCLUSIVE, EXPLAINING, COSTLY, DESCRIBING):
            result = _accepted(case, hypotheses, with_others)
            if result:
                others = list(dict.fromkeys(cause.name for cause in result[1:] if cause.name != result[0].name))
                also = {"also_explained_by": others} if others else {}
                return result[0].with_facts(**also, **_where(case, result[0]))
        return Cause(facts={**where(case), **_nearest(case)})


def _accepted(case: WrongOutput, hypotheses: tuple[Hypothesis, ...], all_of_them: bool) -> list[Cause]:
    """In the order of the hypotheses; but one of so many widths that no format has may fit a few numbers by chance."""
    found = []
    for cause in itertools.chain.from_iterable(hypothesis(case) for hypothesis in hypotheses):
        if not all_of_them and cause.name not in OF_NO_FORMAT:
            return [cause]
        found.append(cause)
    return sorted(found, key=lambda cause: cause.name in OF_NO_FORMAT)


def _where(case: WrongOutput, cause: Cause) -> dict[str, Any]:
    """Where the wrong elements are, for causes that are about places."""
    if cause.name not in ("wrong-elements", "permuted", "stale-data", "nondeterminism"):
        return {}
    return {key: value for key, value in where(case).items() if key not in cause.evidence}


def _nearest(case: WrongOutput) -> dict[str, Any]:
    """Of the formats tried on an unexplained product, the one that leaves least."""
    if not case.is_contraction or case.recompute is None or case.judge is None:
        return {}
    tried = {way.name: case.excess_with([way.of(x) for x in case.inputs]) for way in WAYS}
    name = min(tried, key=lambda each: tried[each])
    return {"nearest": name, "nearest_leaves": tried[name]}


def skipped(case: WrongOutput) -> Iterator[Cause]:
    """The variable holds what it held before, although it should have moved."""
    if case.before is None or not np.array_equal(case.output, case.before):
        return
    moved = float(np.max(np.abs(case.truth - case.before.astype(np.float64)), initial=0.0))
    if moved:
        yield Cause("skipped-update", facts={"update_not_written": moved})


def missed_nonfinite(case: WrongOutput) -> Iterator[Cause]:
    """A check for numbers that are not finite did not see them."""
    if case.op_type not in CHECKS:
        return
    num = sum(int(np.sum(~np.isfinite(x))) for x in case.inputs if x.dtype == np.float64)
    if num:
        summary = f"{case.op_type} is wrong about {num} elements that are not finite"
        yield Cause("nonfinite", summary, {"num_nonfinite": num, "unheeded": True}, missed_nonfinite=True)


def nonfinite(case: WrongOutput) -> Iterator[Cause]:
    """Infinity or NaN where float64 has a number."""
    if not case.is_floating:
        return
    wrong = ~np.isfinite(case.output) & np.isfinite(case.truth)
    if wrong.any():
        yield Cause("nonfinite", facts={"num_nonfinite": int(wrong.sum()), **describe_elements(wrong, case.axes)})


def scaled(case: WrongOutput) -> Iterator[Cause]:
    """A constant factor; of the change, where the output is a variable's new value.

    It has to explain what no factor, with the same allowance, does not: results that are all cut off have one, too,
    but it is 1 to within a rounding.
    """
    if case.judge is None or not case.is_floating or case.output.size < 2:
        return
    base = np.zeros_like(case.truth) if case.before is None else case.before.astype(np.float64)
    change, expected = case.output.astype(np.float64) - base, case.truth - base
    factor = float(np.vdot(change, expected) / np.vdot(expected, expected))
    if not math.isfinite(factor) or factor == 0.0 or factor == 1.0:
        return
    error, left = np.linalg.norm(change - expected), np.linalg.norm(change - factor * expected)
    if left > NEARLY_ALL * error:
        return
    factors = (_round(factor), factor, _middle(change, expected))
    tried = {each: _left_by(case, base, each, expected) for each in factors if math.isfinite(each)}
    allowed = FITTED if case.bound.error_class is ErrorClass.ROUNDED_ONCE else 1.0
    if case.excess_against(case.truth) <= allowed:
        return
    factor = min(tried, key=lambda each: (tried[each] > allowed, each != _round(factor), tried[each]))
    excess = tried[factor]
    if excess <= allowed:
        summary = f"{_in_digits(factor)} times what is right"
        yield Cause("scaled", summary, {"factor": factor, "remaining_excess": excess})


def _left_by(case: WrongOutput, base: Truth, factor: float, expected: Truth) -> float:
    """What remains of the error; a change of a variable is itself rounded before it is added, unless it is fused."""
    left = case.excess_against(base + factor * expected)
    if case.before is None or left <= 1:
        return left
    dtype = case.output.dtype
    return min(left, case.excess_against(base + (dtype.type(factor) * expected.astype(dtype)).astype(np.float64)))


def _in_digits(factor: float) -> str:
    """As many as tell it from 1."""
    near_one = f"1 {'+' if factor > 1 else '-'} {abs(factor - 1):.3g}"
    return near_one if 0 < abs(factor - 1) < 1e-4 else f"{factor:.6g}"


def _middle(change: Truth, expected: Truth) -> float:
    """Of the factors of the single elements, the middle of the range: no element is further from it than need be."""
    ratios = change[expected != 0] / expected[expected != 0]
    return float(0.5 * (ratios.min() + ratios.max())) if ratios.size else math.nan


def _round(factor: float) -> float:
    """The nearest whole number, or one over it: what a factor is meant to be, if the data allow it."""
    if abs(factor) >= 1:
        return float(round(factor))
    return 1.0 / round(1.0 / factor)


def approximate(case: WrongOutput) -> Iterator[Cause]:
    """Most elements are wrong, and all have at least eight correct bits."""
    if case.bound.error_class not in (ErrorClass.FUNCTION, ErrorClass.ROUNDED_ONCE) or case.before is not None:
        return
    relative = np.abs(case.output.astype(np.float64) - case.truth) / np.abs(case.truth)
    finite = relative[np.isfinite(relative)]
    if finite.size == 0 or finite.max() > APPROXIMATE or np.mean(case.wrong[case.truth != 0]) <= MOSTLY_RIGHT:
        return  # where the right result is 0 an approximation shows nothing
    bits = float(-np.log2(finite.max()))
    facts = {"max_relative_error": float(finite.max()), "correct_bits": bits}
    yield Cause("approximate-function", f"{bits:.1f} correct bits everywhere", facts)


def of_few(case: WrongOutput) -> Iterator[Cause]:
    """So few numbers that their being numbers of a narrower format may be chance: one factor for all, or none."""
    if has_distinct(case.output, ENOUGH_VALUES):
        return
    if has_distinct(case.output, MORE_THAN_FITTED):
        yield from scaled(case)
    yield from approximate(case)


# What needs no second opinion: bits that are equal, or a replay that is right.
CONCLUSIVE: tuple[Hypothesis, ...] = (skipped, missed_nonfinite, unrepeated, depends_on_history, unapplied)
# What brings the error back into the bound when the op is computed again.
EXPLAINING: tuple[Hypothesis, ...] = (
    narrow_operands, narrow_accumulator, of_few, computed_in, cut_off, flushed_subnormals, scaled, weighed,
    permuted, left_out, stale,
)  # fmt: skip
# The same, where nothing cheaper does.
COSTLY: tuple[Hypothesis, ...] = (misread, factored)
# What only says how it is wrong.
DESCRIBING: tuple[Hypothesis, ...] = (never_the_same, nonfinite, approximate, elements)
