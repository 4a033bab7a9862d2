"""A sample of the elements of a sum, with their terms written out: cheap to try hypotheses on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diag.causes.wrong_output import Array, Truth, WrongOutput
from diag.numerics.bounds import CONTRACTION_MAX, CONTRACTION_RMS
from diag.numerics.formats import Format, format_of
from diag.numerics.terms import Terms, unraveled

# Elements of a sample, and the terms that all of them together may have.
SAMPLE, ROOM = 512, 1 << 20


@dataclass(frozen=True)
class Sample:
    """Some elements of a sum, written out, and the errors that rounding in the op's own sums allows them.

    unit: u |A||B| of each.  last: the format that the result is rounded to, where it is narrower than the sum's.
    """

    output: Truth
    truth: Truth
    terms: Terms
    unit: Truth
    last: Format | None
    is_wrong: Array

    @property
    def num_terms(self) -> int:
        return int(self.terms.left.shape[1])

    def error(self, expected: Truth) -> Truth:
        """In units of u |A||B|, beyond the last rounding."""
        with np.errstate(invalid="ignore"):
            error = np.maximum(np.abs(self.output - expected) - self.half_ulp(expected), 0.0) / self.unit
        return np.where(self.output == expected, 0.0, np.where(np.isfinite(error), error, np.inf))

    def half_ulp(self, expected: Truth) -> Truth:
        """Of the result's rounding, if this is what it was rounded from."""
        if self.last is None:
            return np.zeros_like(expected)
        return self.last.unit_roundoff * np.abs(expected) + 0.5 * self.last.smallest_subnormal

    def excess(self, expected: Truth) -> float:
        """What `contraction_bound` would say of these elements."""
        error = self.error(expected)
        rms = float(np.sqrt(np.mean(np.square(error))))
        return max(rms / CONTRACTION_RMS, float(np.max(error, initial=0.0)) / CONTRACTION_MAX)


def sample_of(case: WrongOutput, only_wrong: bool) -> Sample | None:
    """None where the op is not written out, or nothing is wrong with any element by itself."""
    if case.terms is None or not case.is_contraction or not case.wrong.any():
        return None
    elements = _elements(case, only_wrong)
    first = case.terms(elements[:1])
    if first is None or first.left.shape[1] < 2:
        return None
    elements = elements[: max(ROOM // first.left.shape[1], 8)]
    terms = case.terms(elements)
    assert terms is not None
    at, own = tuple(elements.T), format_of(case.output.dtype)
    truth = np.atleast_1d(case.truth[at])
    scale = abs(terms.weight) * np.abs(terms.products).sum(axis=1)
    unit = case.sums_in.unit_roundoff * scale + case.sums_in.underflow
    is_narrower = own.unit_roundoff > case.sums_in.unit_roundoff
    output, wrong = np.atleast_1d(case.output[at]), np.atleast_1d(case.wrong[at])
    return Sample(output.astype(np.float64), truth, terms, unit, own if is_narrower else None, wrong)


def _elements(case: WrongOutput, only_wrong: bool) -> Array:
    """Indices, (elements, axes), spread over the tensor; wrong ones and others in turn."""
    wrong = _spread(np.flatnonzero(case.wrong))
    others = _spread(np.flatnonzero(~case.wrong))[: 0 if only_wrong else None]
    common = min(len(wrong), len(others))
    mixed = np.stack([wrong[:common], others[:common]], axis=1).reshape(-1)
    chosen = np.concatenate([mixed, wrong[common:], others[common:]])[:SAMPLE].astype(int)
    return unraveled(chosen, case.output.shape)


def _spread(indices: Array) -> Array:
    found: Array = indices[np.linspace(0, len(indices) - 1, min(len(indices), SAMPLE)).astype(int)]
    return np.random.default_rng(0).permutation(found)
