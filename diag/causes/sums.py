"""Hypotheses about how a sum was summed: partial sums in a narrow format, or terms left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from diag.causes.patterns import describe_indices
from diag.causes.samples import Sample, sample_of
from diag.causes.wrong_output import Array, Truth, WrongOutput
from diag.numerics.bounds import CONTRACTION_MAX
from diag.numerics.formats import BFLOAT16, FLOAT16, Format, Rounding, round_to
from diag.numerics.terms import Terms
from diag.verdict.findings import Cause

ACCUMULATORS: tuple[tuple[str, Format], ...] = (("fp16", FLOAT16), ("bf16", BFLOAT16))
MODES: tuple[Rounding, ...] = ("nearest-even", "toward-zero")
# Longest loop of roundings that is played through; the shortest group of a longer sum has more terms.
MAX_ROUNDINGS = 2048
# A partial sum near a tie rounds to the other side when its terms are added in another order, and the sums after
# it with it: so not every element can be reproduced.
REPRODUCED = 0.75
# All blocks are tried in sums of up to so many terms; in longer ones, those with a round beginning.
ALL_BLOCKS = 192


# -- partial sums in a narrow format ---------------------------------------------------------------


def narrow_accumulator(case: WrongOutput) -> Iterator[Cause]:
    """Partial sums rounded to a narrow format every k terms, in the order of memory."""
    sample = sample_of(case, only_wrong=False)
    if sample is None:
        return
    found: list[tuple[float, int, Cause]] = []
    for name, form in ACCUMULATORS:
        for every in _groups(sample.num_terms):
            for mode, rounds_groups in [(mode, each) for mode in MODES for each in (False, True)]:
                expected = accumulated(sample.terms, form, every, mode, rounds_groups)
                share = _reproduced(sample, expected, form)
                if share >= REPRODUCED:
                    summary = _in_words(form, every, mode, rounds_groups)
                    cause = Cause(f"accumulate:{name}", summary, {"every": every, "reproduced": share})
                    found.append((-share, every, cause))
    yield from (cause for _, _, cause in sorted(found, key=lambda each: each[:2]))


def _in_words(form: Format, every: int, mode: Rounding, rounds_groups: bool) -> str:
    summary = f"partial sums in {form.name} after every {f'{every} terms' if every > 1 else 'term'}"
    summary += ", cut off" if mode == "toward-zero" else ""
    return summary + (", each group of terms rounded before it is added" if rounds_groups else "")


def _groups(num_terms: int) -> Iterator[int]:
    every = 1
    while every < num_terms:
        if num_terms / every <= MAX_ROUNDINGS:
            yield every
        every *= 2


def accumulated(terms: Terms, form: Format, every: int, mode: Rounding, rounds_groups: bool) -> Truth:
    """The sums, as they come out when the running total is rounded after every so many terms."""
    products = terms.products
    padded = np.pad(products, ((0, 0), (0, -products.shape[1] % every)))
    groups = padded.reshape(len(products), -1, every).sum(axis=2)
    if rounds_groups:
        groups = round_to(groups, form, mode)
    total = np.zeros(len(products))
    with np.errstate(invalid="ignore", over="ignore"):
        for group in groups.T:
            total = round_to(total + group, form, mode)
    return terms.weight * total


def _reproduced(sample: Sample, expected: Truth, form: Format) -> float:
    """The share of the wrong elements that come out as they are; 0 if any is further off than roundings go."""
    is_same = sample.error(expected) <= CONTRACTION_MAX
    largest = np.abs(np.cumsum(sample.terms.weight * sample.terms.products, axis=1)).max(axis=1)
    with np.errstate(invalid="ignore"):
        near = np.abs(sample.output - expected) <= 4 * form.unit_roundoff * largest + sample.half_ulp(expected)
    if not np.all(is_same | near):
        return 0.0
    return float(np.mean(is_same[sample.is_wrong]))


# -- terms left out, or counted twice --------------------------------------------------------------


def left_out(case: WrongOutput) -> Iterator[Cause]:
    """A block of terms that the sum does not have, or has twice."""
    sample = sample_of(case, only_wrong=True)
    if sample is None or not np.isfinite(sample.truth - sample.output).all():
        return
    for names in _views([name for name, _ in sample.terms.axes]):
        contributions = sample.terms.along(names)
        for words, sign in (("leaves out", 1.0), ("counts twice", -1.0)):
            for find in (_block, _subset):
                mask = find(sign * contributions, sample)
                excess = np.inf if mask is None else _without(sample, sign * contributions, mask)
                if mask is not None and excess <= 1:
                    where = describe_indices(mask, " x ".join(names)) or f"all {mask.size} terms"
                    facts = {"num_terms": int(mask.sum()), "of": int(mask.size), "remaining_excess": excess}
                    yield Cause("wrong-elements", f"the sum {words} {where}", facts)
                    return


def _views(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Single axes first, then adjacent ones taken as one."""
    for length in range(1, len(names) + 1):
        for start in range(len(names) - length + 1):
            yield names[start : start + length]


def _without(sample: Sample, contributions: Truth, mask: Array) -> float:
    return sample.excess(sample.truth - contributions[:, mask].sum(axis=1))


def _block(contributions: Truth, sample: Sample) -> Array | None:
    """The contiguous block whose contributions are nearest to what is missing.

    One element has too little to say to be held against every block of a long sum.
    """
    num_elements, length = contributions.shape
    if num_elements < 2 and length > 64:
        return None
    missing = (sample.truth - sample.output)[:, None]
    sums = np.concatenate([np.zeros((num_elements, 1)), np.cumsum(contributions, axis=1)], axis=1)
    best = (np.inf, 0, 0)
    for start in _starts(length):
        error = np.abs(missing - (sums[:, start + 1 :] - sums[:, start : start + 1])) / sample.unit[:, None]
        worst = error.max(axis=0)
        end = int(np.argmin(worst))
        best = min(best, (float(worst[end]), start, start + 1 + end))
    mask = np.zeros(length, bool)
    mask[best[1] : best[2]] = True
    return mask


def _starts(length: int) -> Sequence[int]:
    """Where a block may begin: in a long sum, at some multiple of a power of two, or near the end."""
    if length <= ALL_BLOCKS:
        return range(length)
    step = 1 << max((length // ALL_BLOCKS).bit_length(), 3)
    tails = {length - length % (1 << power) for power in range(3, 16)}
    return sorted({0, *range(0, length, step), *range(length - step, length), *tails} - {length})


def _subset(contributions: Truth, sample: Sample) -> Array | None:
    """Any set of indices along the axes, where there are more elements than indices to solve for it."""
    num_elements, length = contributions.shape
    if length < 3 or num_elements < 2 * length:
        return None
    missing = (sample.truth - sample.output) / sample.unit
    weights, *_ = np.linalg.lstsq(contributions / sample.unit[:, None], missing, rcond=None)
    mask: Array = np.round(weights) == 1
    return mask if mask.any() else None
