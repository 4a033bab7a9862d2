"""What kind of wrong: hypotheses about an output that rounding does not explain.

A cause is named only when its hypothesis explains the data: the op is computed again under the
hypothesis, and what remains must be within the rounding bound.  What no hypothesis explains is
`unknown`, with the pattern of its wrong elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.bounds import Bound
from diag.numerics.formats import BFLOAT16, FLOAT16, TF32, Format, Rounding, round_to
from diag.numerics.op_classes import ErrorClass
from diag.verdict.findings import Cause
from diag.verdict.patterns import describe_elements

Array = npt.NDArray[Any]
Truth = npt.NDArray[np.float64]

# Names of report.json for the formats that operands may have been rounded to before a product, the
# widest range first.
INPUT_FORMATS: tuple[tuple[str, Format, Rounding], ...] = (
    ("format:tf32-rne", TF32, "nearest-even"),
    ("format:tf32-rz", TF32, "toward-zero"),
    ("format:bf16", BFLOAT16, "nearest-even"),
    ("format:bf16-rz", BFLOAT16, "toward-zero"),
    ("format:fp16", FLOAT16, "nearest-even"),
)
# A function that still has 8 correct bits everywhere is an approximation; with fewer it is wrong.
APPROXIMATE = 2.0**-8
# Elements out of bound in up to half of a tensor are a pattern; in more, the tensor is wrong.
MOSTLY_RIGHT = 0.5


@dataclass(frozen=True)
class Case:
    """One wrong output, and the means to compute it again.

    inputs: the op's inputs as float64 (integers as they are).  judge: the bound of the output
    against another truth.  recompute: the op in float64 on other inputs, None where it cannot.
    out_of_bound: which elements are, against the true truth.  before: for an output that is what
    an op left in a variable, the value it had.  earlier: outputs of the same op at earlier steps.
    """

    output: Array
    reference: Array
    truth: Truth
    bound: Bound
    inputs: Sequence[Array] = ()
    judge: Callable[[Truth], Bound] | None = None
    recompute: Callable[[Sequence[Array]], Truth | None] | None = None
    out_of_bound: Array | None = None
    before: Array | None = None
    is_random: bool = False
    earlier: Sequence[Array] = field(default_factory=tuple)


def explain(case: Case) -> Cause:
    """The first hypothesis that explains the case, the more specific before the more general."""
    for hypothesis in (
        _skipped,
        _nonfinite,
        _input_format,
        _scaled,
        _approximate,
        _permuted,
        _stale,
        _elements,
    ):
        cause = hypothesis(case)
        if cause is not None:
            return cause
    return Cause("unknown", {**pattern_of(case), **_nearest(case)})


def _nearest(case: Case) -> dict[str, Any]:
    """Of the formats tried on an unexplained product, the one that leaves least."""
    if case.bound.error_class is not ErrorClass.CONTRACTION or case.recompute is None or case.judge is None:
        return {}
    tried = {name: _excess_with(case, (how,) * len(case.inputs)) for name, *how in INPUT_FORMATS}
    name = min(tried, key=lambda each: tried[each])
    return {"nearest": name, "nearest_leaves": tried[name]}


def _skipped(case: Case) -> Cause | None:
    """The variable holds what it held before, although it should have moved."""
    if case.before is None or not np.array_equal(case.output, case.before):
        return None
    moved = float(np.max(np.abs(case.truth - case.before.astype(np.float64)), initial=0.0))
    return Cause("skipped-update", {"update_not_written": moved}) if moved else None


def _nonfinite(case: Case) -> Cause | None:
    if case.output.dtype.kind in "biu":
        return None
    wrong = ~np.isfinite(case.output) & np.isfinite(case.truth)
    if not wrong.any():
        return None
    return Cause("nonfinite", {"num_nonfinite": int(wrong.sum()), **describe_elements(wrong)})


def _input_format(case: Case) -> Cause | None:
    """Operands rounded to a narrower format before the sum, all alike or each in its own way."""
    if case.bound.error_class is not ErrorClass.CONTRACTION or case.recompute is None or case.judge is None:
        return None
    tried = {name: _excess_with(case, (how,) * len(case.inputs)) for name, *how in INPUT_FORMATS}
    accepted = {name: excess for name, excess in tried.items() if excess <= 1}
    if not accepted:
        return _mixed_format(case)
    # Formats of one width differ only where their ranges end; of those that explain the data about
    # as well as the best, the first in the table has the widest range and assumes least.
    best = min(accepted.values())
    name = next(name for name, excess in accepted.items() if excess <= 2 * best)
    others = [other for other in accepted if other != name]
    evidence = {"remaining_excess": accepted[name], **({"also_possible": others} if others else {})}
    return Cause(name, evidence)


def _mixed_format(case: Case) -> Cause | None:
    """Each operand rounded in a way of its own, or not at all: `format:tf32-rne+rz` and the like."""
    floating = [index for index, x in enumerate(case.inputs) if x.dtype == np.float64]
    if len(floating) != 2:
        return None
    ways: list[tuple[str, list[Any]]] = [("none", []), *((name, list(how)) for name, *how in INPUT_FORMATS)]
    found: list[tuple[float, str]] = []
    for first, how_first in ways:
        for second, how_second in ways:
            if first == second:
                continue
            hows: list[Sequence[Any]] = [[] for _ in case.inputs]
            hows[floating[0]], hows[floating[1]] = how_first, how_second
            excess = _excess_with(case, hows)
            if excess <= 1:
                found.append((excess, f"{first}+{second.removeprefix('format:')}"))
    if not found:
        return None
    excess, name = min(found)
    name = name if name.startswith("format:") else f"format:{name}"
    return Cause(name, {"remaining_excess": excess, "also_possible": [other for _, other in sorted(found)[1:3]]})


def _excess_with(case: Case, hows: Sequence[Sequence[Any]]) -> float:
    """What remains when operand k is rounded as `hows[k]` = (format, mode) says; () leaves it alone."""
    assert case.recompute is not None and case.judge is not None
    rounded = [
        round_to(x, how[0], how[1]) if how and x.dtype == np.float64 else x
        for x, how in zip(case.inputs, hows, strict=True)
    ]
    truth = case.recompute(rounded)
    return math.inf if truth is None else case.judge(truth).excess


def _scaled(case: Case) -> Cause | None:
    """A constant factor; of the change, where the output is a variable's new value."""
    if case.judge is None or case.output.dtype.kind in "biu" or case.output.size < 2:
        return None
    base = np.zeros_like(case.truth) if case.before is None else case.before.astype(np.float64)
    change, expected = case.output.astype(np.float64) - base, case.truth - base
    with np.errstate(all="ignore"):
        factor = float(np.vdot(change, expected) / np.vdot(expected, expected))
    if not math.isfinite(factor) or factor == 0.0 or factor == 1.0:
        return None
    bound = case.judge(base + factor * expected)
    return Cause("scaled", {"factor": factor, "remaining_excess": bound.excess}) if bound.is_explained else None


def _approximate(case: Case) -> Cause | None:
    if case.bound.error_class not in (ErrorClass.FUNCTION, ErrorClass.ROUNDED_ONCE) or case.before is not None:
        return None
    with np.errstate(all="ignore"):
        relative = np.abs(case.output.astype(np.float64) - case.truth) / np.abs(case.truth)
    finite = relative[np.isfinite(relative)]
    share = _share_wrong(case)
    if finite.size == 0 or finite.max() > APPROXIMATE or share <= MOSTLY_RIGHT:
        return None
    return Cause(
        "approximate-function",
        {"max_relative_error": float(finite.max()), "correct_bits": float(-np.log2(finite.max()))},
    )


def _permuted(case: Case) -> Cause | None:
    """The right values in the wrong places."""
    if case.judge is None or case.output.size < 4 or not np.isfinite(case.truth).all():
        return None
    order = np.argsort(case.output, axis=None, kind="stable")
    rearranged = np.empty(case.truth.size)
    rearranged[order] = np.sort(case.truth, axis=None)
    if np.unique(case.truth).size < 4:
        return None
    bound = case.judge(rearranged.reshape(case.truth.shape))
    return Cause("permuted", {"num_moved": int(_wrong(case).sum()), **pattern_of(case)}) if bound.is_explained else None


def _stale(case: Case) -> Cause | None:
    """What the same op returned before."""
    for age, earlier in enumerate(reversed(case.earlier), start=1):
        if earlier.shape == case.output.shape and np.array_equal(earlier, case.output):
            return Cause("stale-data", {"steps_ago": age})
    return None


def _elements(case: Case) -> Cause | None:
    share = _share_wrong(case)
    return Cause("wrong-elements", pattern_of(case)) if 0.0 < share <= MOSTLY_RIGHT else None


def pattern_of(case: Case) -> dict[str, Any]:
    """Where the wrong elements are, in words, and the worst of them."""
    wrong = _wrong(case)
    evidence: dict[str, Any] = describe_elements(wrong)
    index = case.bound.worst_index
    if index is not None and case.output.size:
        evidence["worst"] = {
            "index": list(index),
            "value": _plain(case.output[index]),
            "truth": _plain(case.truth[index]),
            "reference": _plain(case.reference[index]),
        }
    return evidence


def _wrong(case: Case) -> Array:
    if case.out_of_bound is not None:
        return case.out_of_bound
    return np.asarray(case.output != case.truth.astype(case.output.dtype))


def _share_wrong(case: Case) -> float:
    wrong = _wrong(case)
    return float(np.mean(wrong)) if wrong.size else 0.0


def _plain(value: Any) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else str(number)
