"""Hypotheses about formats: operands, or all of an op, in a narrower one; subnormals flushed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from diag.causes.samples import sample_of
from diag.causes.wrong_output import A_LOOK, Array, WrongOutput, has_distinct
from diag.numerics.bounds import COMPOSITE_ULP, CONTRACTION_MAX, CONTRACTION_RMS
from diag.numerics.formats import (
    BFLOAT16,
    E4M3,
    E5M2,
    FLOAT16,
    FLOAT32,
    TF32,
    Format,
    Rounding,
    float32_with_precision,
    format_of,
    round_to,
)
from diag.numerics.op_classes import ErrorClass, allowance_ulp
from diag.numerics.ulp import flush_subnormals, ulp_error
from diag.verdict.findings import Cause

# Names of report.json for the formats that operands may have been rounded to before a product, the
# widest range first.  (TF32 truncated is also what cutting operands off to 11 significand bits gives.)
INPUT_FORMATS: tuple[tuple[str, Format, Rounding], ...] = (
    ("format:tf32-rne", TF32, "nearest-even"),
    ("format:tf32-rna", TF32, "nearest-away"),  # cvt.rna.tf32.f32: differs from the first in ties alone
    ("format:tf32-rz", TF32, "toward-zero"),
    ("format:bf16", BFLOAT16, "nearest-even"),
    ("format:bf16-rz", BFLOAT16, "toward-zero"),
    ("format:fp16", FLOAT16, "nearest-even"),
    ("format:fp16-rz", FLOAT16, "toward-zero"),
)
# Significand widths that no format of the table has, tried where none of the table explains the data.
OTHER_WIDTHS = tuple(bits for bits in range(3, 22) if bits not in (TF32.precision, BFLOAT16.precision))
WORDS: dict[Rounding, str] = {
    "nearest-even": "to nearest even",
    "nearest-away": "to nearest, ties away from zero,",
    "toward-zero": "cut off",
}
SHORT_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
# Formats that TensorFlow has a dtype of.
RESULT_FORMATS: tuple[tuple[str, Format], ...] = (("fp32", FLOAT32), ("fp16", FLOAT16), ("bf16", BFLOAT16))
# Formats of one width differ only where their ranges end.  Of those that explain the data about as well as the
# best, the first in the table has the widest range and assumes least.
AS_GOOD = 2.0
# Of so many numbers of a format, all would lack its last bit by chance once in 2^16 cases.
ENOUGH_VALUES = 16
# Of the results of an op that rounds once, the share that rounding twice may move by an ULP.
MOVED = 0.05
# It runs in no dtype but the two that it is given: a narrower one on the way is the kernel's own.
CONVERSION = "Cast"
# A sample sorts out, the whole op decides: what is this far out of bound in a sample is not computed as a whole.
UNREFUTED, MOST_LIKELY = 4.0, 6

Key = TypeVar("Key")


@dataclass(frozen=True)
class _Way:
    """How operands are read before they are multiplied."""

    name: str
    format: Format | None = None
    mode: Rounding = "nearest-even"

    def of(self, x: Array) -> Array:
        """Float64 values; those that are float32 numbers are rounded as such, several times as fast."""
        if self.format is None or x.dtype != np.float64:
            return x
        narrow = x.astype(np.float32)
        if np.array_equal(narrow, x):
            return round_to(narrow, self.format, self.mode).astype(np.float64)
        return round_to(x, self.format, self.mode)


AS_IT_IS = _Way("none")
WAYS = tuple(_Way(*each) for each in INPUT_FORMATS)
SHORT: dict[str, Rounding] = {"rne": "nearest-even", "rz": "toward-zero"}
OTHER_WAYS = tuple(
    _Way(f"format:{bits}bit-{short}", float32_with_precision(bits), mode)
    for bits in OTHER_WIDTHS
    for short, mode in SHORT.items()
)  # fmt: skip
# Within their range they are four and three bits; what says that it is them are operands below it.
EIGHT_BITS = (_Way("format:e4m3", E4M3), _Way("format:e5m2", E5M2))


def narrow_operands(case: WrongOutput) -> Iterator[Cause]:
    """Operands rounded to a narrower format: all alike, or each of a sum of products in its own way."""
    if case.recompute is None or case.judge is None:
        return
    are_many = has_distinct(case.output, ENOUGH_VALUES)  # zeros alone are what any short range makes of small operands
    if case.is_contraction:
        yield from (
            _all_alike(case, WAYS, WAYS)
            or _each_in_its_own_way(case)
            or _all_alike(case, (*OTHER_WAYS, *EIGHT_BITS) if are_many else OTHER_WAYS, ())
            or _split(case)
        )
    elif case.bound.error_class is ErrorClass.COMPOSITE and are_many:
        yield from _all_alike(case, WAYS, WAYS)


def _all_alike(case: WrongOutput, ways: Sequence[_Way], unsorted: Sequence[_Way]) -> list[Cause]:
    """`unsorted` are the ways that are tried where no sample can sort out."""
    likely = _likely(case, [(way, way) for way in ways])
    ways = unsorted if likely is None else [way for way in ways if (way, way) in likely]
    tried = {way: case.excess_with([way.of(x) for x in case.inputs]) for way in ways}
    accepted = {way: excess for way, excess in tried.items() if excess <= 1}
    return [Cause(way.name, _width(way), {"remaining_excess": accepted[way]}) for way in _ranked(accepted)]


def _ranked(accepted: Mapping[Key, float]) -> list[Key]:
    """The best first; of those about as good, the earlier in the table."""
    if not accepted:
        return []
    limit = AS_GOOD * min(accepted.values())
    as_good = [key for key, excess in accepted.items() if excess <= limit]
    return [*as_good, *sorted((key for key in accepted if key not in as_good), key=lambda key: accepted[key])]


def _width(way: _Way) -> str:
    assert way.format is not None
    return f"operands {WORDS[way.mode]} at {way.format.precision} significand bits"


def _each_in_its_own_way(case: WrongOutput) -> list[Cause]:
    """`format:tf32-rne+rz` and the like: one operand as one kernel reads it, the other as another."""
    floating = [index for index, x in enumerate(case.inputs) if x.dtype == np.float64]
    if len(floating) != 2:
        return []
    found: dict[str, float] = {}
    pairs = [(a, b) for a in (AS_IT_IS, *WAYS) for b in (AS_IT_IS, *WAYS) if a != b]
    likely = _likely(case, pairs)
    for first, second in pairs if likely is None else likely:
        inputs = list(case.inputs)
        for position, way in zip(floating, (first, second), strict=True):
            inputs[position] = way.of(inputs[position])
        excess = case.excess_with(inputs)
        if excess <= 1:
            names = "+".join(way.name.removeprefix("format:") for way in (first, second))
            found[f"format:{names}"] = excess
    return [Cause(name, facts={"remaining_excess": found[name]}) for name in _ranked(found)]


def _split(case: WrongOutput) -> list[Cause]:
    """Each operand as a sum of two bfloat16 numbers, and of the four products the three largest.

    A way to multiply float32 numbers (Henry, Tang and Heinecke, 2019); those of narrower formats need none.
    """
    floating = [index for index, x in enumerate(case.inputs) if x.dtype == np.float64]
    if len(floating) != 2 or case.recompute is None or case.output.dtype != np.float32:
        return []
    parts = []
    for index in floating:
        high = round_to(case.inputs[index], BFLOAT16)
        parts.append((high, round_to(case.inputs[index] - high, BFLOAT16)))
    total: Any = 0.0
    for first, second in ((0, 0), (0, 1), (1, 0)):
        inputs = list(case.inputs)
        inputs[floating[0]], inputs[floating[1]] = parts[0][first], parts[1][second]
        product = case.recompute(inputs)
        if product is None:
            return []
        total = total + product
    excess = case.excess_against(total)
    summary = "each operand split into two bfloat16 numbers, the product of the low parts left out"
    return [Cause("format:bf16x3", summary, {"remaining_excess": excess})] if excess <= 1 else []


# -- sorting hypotheses on a sample ----------------------------------------------------------------


def _likely(case: WrongOutput, pairs: Sequence[tuple[_Way, _Way]]) -> Sequence[tuple[_Way, _Way]] | None:
    """Of many pairs of ways, the few that a sample does not refute; None where the op is not written out."""
    sample = sample_of(case, only_wrong=True)
    if sample is None:
        return None
    terms, found = sample.terms, {}
    lefts = {way: way.of(terms.left) for way in {first for first, _ in pairs}}
    rights = {way: way.of(terms.right) for way in {second for _, second in pairs}}
    for first, second in pairs:
        expected = terms.weight * (lefts[first] * rights[second]).sum(axis=1)
        excess = sample.excess(expected)
        if excess <= UNREFUTED:
            found[first, second] = excess
    kept = _ranked(found)[:MOST_LIKELY]
    return [pair for pair in pairs if pair in kept]


# -- an op that computes in another format altogether ----------------------------------------------


def computed_in(case: WrongOutput) -> Iterator[Cause]:
    """The result is a number of a narrower format: only it was rounded, or the op ran in that dtype altogether."""
    if case.recompute is None or not case.is_floating:
        return
    own = format_of(case.output.dtype)
    for name, form in RESULT_FORMATS:
        if form.unit_roundoff <= own.unit_roundoff or not _needs(case.output, form):
            continue
        tried = {flushed: _excess_in(case, form, flushed, rounds_inputs=True) for flushed in (False, True)}
        flushed = min(tried, key=lambda each: tried[each])
        only_result = _excess_in(case, form, False, rounds_inputs=False)
        if tried[flushed] <= min(1.0, only_result) and case.op_type != CONVERSION:
            words = f"inputs and result are numbers of {form.name}" + (", without subnormals" if flushed else "")
            facts = {"computed_in": form.name, "flushed": flushed, "remaining_excess": tried[flushed]}
            yield Cause(f"format:{name}", words, facts, in_other_dtype=True)
        elif only_result <= 1:
            yield Cause(f"format:{name}", f"the result is rounded to {form.name}", {"remaining_excess": only_result})


def _needs(output: Array, form: Format) -> bool:
    """Whether all elements are numbers of a format and, where there are enough, not all of one a bit narrower.

    Zeros alone are numbers of every format.
    """
    values = output[np.isfinite(output)]
    narrower = replace(form, precision=form.precision - 1)

    def fit(into: Format) -> bool:
        parts = np.array_split(values, math.ceil(values.size / A_LOOK))  # nearly always, the first tells
        return all(np.array_equal(round_to(part, into), part) for part in (x.astype(np.float64) for x in parts))

    return bool(values.any()) and fit(form) and (not has_distinct(values, ENOUGH_VALUES) or not fit(narrower))


def _excess_in(case: WrongOutput, form: Format, flushed: bool, rounds_inputs: bool) -> float:
    """What remains of the error, in the ULP of that format that the op may err by.

    An op that rounds once has to give the very numbers, but for the few that a second rounding moves by one.
    """

    def narrowed(x: Array) -> Array:
        if x.dtype != np.float64:
            return x
        rounded = round_to(x, form)
        return flush_subnormals(rounded, form) if flushed else rounded

    assert case.recompute is not None
    truth = case.recompute([narrowed(x) for x in case.inputs]) if rounds_inputs else case.truth
    if truth is None or truth.shape != case.output.shape:
        return math.inf
    error = np.abs(ulp_error(case.output.astype(np.float64), narrowed(truth), form, flushed))
    error = np.where(np.isnan(error), np.inf, error)
    worst, mean = float(np.max(error, initial=0.0)), float(np.mean(error)) if error.size else 0.0
    if case.bound.error_class is ErrorClass.FUNCTION:
        return worst / (allowance_ulp(case.op_type) + 0.5)
    if case.is_contraction and form is FLOAT32 and case.judge is not None:  # sums in float32 lose more than an ULP
        left = case.judge(truth)
        in_own = max(left.rms / CONTRACTION_RMS, left.max / CONTRACTION_MAX)
        return in_own * format_of(case.output.dtype).unit_roundoff / form.unit_roundoff
    if case.bound.error_class in (ErrorClass.CONTRACTION, ErrorClass.COMPOSITE):
        return worst / (COMPOSITE_ULP + 0.5)
    return max(worst, mean / MOVED)


def cut_off(case: WrongOutput) -> Iterator[Cause]:
    """A result that is rounded once is rounded towards zero, and not to the nearest."""
    if case.bound.error_class is not ErrorClass.ROUNDED_ONCE or not case.is_floating or case.before is not None:
        return
    form = format_of(case.output.dtype)
    toward_zero = round_to(case.truth, form, "toward-zero")
    if not has_distinct(case.output, ENOUGH_VALUES) or not np.array_equal(case.output.astype(np.float64), toward_zero):
        return
    summary = f"the result is cut off at {form.precision} significand bits, not rounded to the nearest"
    yield Cause(f"format:{SHORT_NAMES[form.name]}-rz", summary)


# -- subnormals ------------------------------------------------------------------------------------


def flushed_subnormals(case: WrongOutput) -> Iterator[Cause]:
    """Subnormal numbers taken for zero: results, inputs, or both."""
    if not case.is_floating or case.judge is None:
        return
    form = format_of(case.output.dtype)
    lost = (np.abs(case.truth) < form.smallest_normal) & (case.truth != 0)
    outputs = np.where(lost, 0.0, case.truth)
    inputs = [_flushed(x, form) for x in case.inputs]
    num_inputs = sum(int(np.sum(a != b)) for a, b in zip(inputs, case.inputs, strict=True))
    with_inputs = case.recompute(inputs) if case.recompute is not None and num_inputs else None
    both = None if with_inputs is None else _flushed(with_inputs, form)
    for where, truth in (("results", outputs if lost.any() else None), ("inputs", with_inputs), ("both", both)):
        excess = case.excess_against(truth)
        if excess <= 1:
            words = {"results": "subnormal results are zero", "inputs": "subnormal inputs are taken for zero"}
            summary = words.get(where, "subnormal inputs and results are zero")
            counts = {"num_results": int(lost.sum()), "num_inputs": num_inputs}
            yield Cause("subnormal-flush", summary, {"remaining_excess": excess, **counts})
            return


def _flushed(x: Array, form: Format) -> Array:
    return flush_subnormals(x, form) if x.dtype == np.float64 else x
