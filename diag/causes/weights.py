"""How the weights of one model came to be, from those of another: rounded, moved, scaled, never loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from diag.causes.causes import explain
from diag.causes.narrowing import INPUT_FORMATS, WORDS
from diag.causes.wrong_output import Array, Truth, WrongOutput, has_distinct
from diag.common.wording import figure, percent
from diag.numerics.bits import same_bits
from diag.numerics.bounds import allowance_bound
from diag.numerics.figures import Bound
from diag.numerics.formats import round_to
from diag.numerics.op_classes import ErrorClass
from diag.numerics.statistics import against_truth, relative_difference
from diag.verdict.findings import Cause

# Weights are kept in float16 and bfloat16, in TF32 hardly ever; where no exponent tells, it is named last.
FORMATS = sorted(INPUT_FORMATS, key=lambda each: "tf32" in each[0])
# So many, moved or rounded, are another's by no chance.
ENOUGH = 8
# Of more, of which most differ, a part tells first whether anything explains them: to try it on 10 million took 14 s.
LARGE, MOSTLY = 1 << 17, 0.5
# Of independent numbers the correlation is below SIGMAS / sqrt(n), but for 6 in 100,000.
SIGMAS = 4.0


def explain_weight(a: Array, b: Array, others: Mapping[str, Array]) -> Cause:
    """Which hypothesis gives `b`, the candidate's, from `a`, the reference's, of one shape and dtype.

    others: the reference's other weights by name.
    """
    if a.dtype.kind in "biu":
        return Cause(facts={"num_differing": int(np.count_nonzero(a != b))})
    return _constant(a, b) or _of_another(b, others) or _rounded_or_moved(a, b)


def _constant(a: Array, b: Array) -> Cause | None:
    if b.size < 2 or np.any(b != b.flat[0]) or not np.any(a != a.flat[0]):
        return None
    value = float(b.flat[0])
    return Cause("skipped-update", f"every element is {value:g}, as in a variable that was made and never loaded")


def _of_another(b: Array, others: Mapping[str, Array]) -> Cause | None:
    if not has_distinct(b, ENOUGH):
        return None
    name = next((name for name, other in others.items() if same_bits(other, b)), None)
    return None if name is None else Cause("permuted", f"it holds the reference's {name}", {"holds": name})


def _rounded_or_moved(a: Array, b: Array) -> Cause:
    """The same numbers, or those that rounding makes of them, tell the format wherever they were moved to."""
    numbers = _whatever_the_order(b)
    are_the_same, is_wide = _whatever_the_order(a) == numbers, a.dtype in (np.float32, np.float64)
    for name, form, mode in FORMATS if is_wide and not are_the_same else ():
        rounded = round_to(a, form, mode)
        if _whatever_the_order(rounded) == numbers:
            words = f"rounded to {form.name}, {WORDS[mode]}".rstrip(",")
            if np.array_equal(rounded, b):
                return Cause(name, f"the reference's {words}")
            moved = explain(_case(rounded, b), with_others=False)
            return replace(moved, summary=f"{moved.summary}; and {words}".removeprefix("; and "))
    if not are_the_same and np.count_nonzero(a != b) > MOSTLY * a.size > LARGE:  # what explains all explains some
        part = slice(None, None, a.size // LARGE)
        if _explained(a.reshape(-1)[part], b.reshape(-1)[part]).name == "unknown":
            return Cause("unknown", _alike(a, b))
    return _explained(a, b)


def _whatever_the_order(x: Array) -> tuple[int, int]:
    """The same for the same numbers in any order, and for others hardly ever: two sums of their bits, modulo 2^64."""
    without_signs_of_zero = np.ascontiguousarray(x).reshape(-1) + x.dtype.type(0)
    bits = without_signs_of_zero.view(f"u{x.itemsize}").astype(np.uint64)
    return int(bits.sum()), int(np.square(bits, out=bits).sum())


def _explained(a: Array, b: Array) -> Cause:
    case = _case(a, b)
    if case.bound.is_explained:
        return Cause("rounding", "each element within one ULP of the reference's")
    cause = explain(case, with_others=False)
    summary = _alike(a, b) if cause.name == "unknown" else cause.summary.replace("what is right", "the reference's")
    return replace(cause, summary=summary)


def _case(a: Array, b: Array) -> WrongOutput:
    """Equal to within an ULP."""

    def judge(truth: Truth) -> Bound:
        return allowance_bound(against_truth(b, truth), 1.0, ErrorClass.EXACT)

    truth = a.astype(np.float64)
    return WrongOutput(b, a, truth, judge(truth), judge=judge, out_of_bound=np.asarray(a != b))


def _alike(a: Array, b: Array) -> str:
    """What can be said of numbers that follow from no others by a rule."""
    if not np.any(a != a.flat[0]):
        return f"every element of the reference's is {float(a.flat[0]):g}"
    moved = f"changed by {percent(relative_difference(a, b))} in norm, each element by itself"
    if a.size < SIGMAS**2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return moved
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = float(np.corrcoef(a.astype(np.float64).ravel(), b.astype(np.float64).ravel())[0, 1])
    if abs(correlation) < SIGMAS / math.sqrt(a.size):
        return f"no more like the reference's than other random numbers (correlation {figure(correlation)})"
    return f"{moved}, as by more training (correlation {correlation:.5g})"
