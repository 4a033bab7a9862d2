"""Sums that can be asked any question: many rows of terms, or of products, go in, and one number for each comes out.

Questions share a call: question q is row q of the one operand with column q of the other, and its answer stands at
(q, q).  What is left over is filled with questions once more, never with zeros.  NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.formats import Format, format_of

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sum:
    """One op as a sum of `num_terms` terms, or, where `has_factors`, of products.

    compute: (a, b), both of the dtype and (num_questions, num_terms), b ignored without factors -> answers, as float64.
    scale: what a right answer is multiplied by, 1 / num_terms in a mean.
    """

    name: str
    dtype: np.dtype[Any]
    num_terms: int
    num_questions: int
    has_factors: bool
    compute: Callable[[Array, Array], Doubles]
    scale: float = 1.0

    @property
    def format(self) -> Format:
        return format_of(self.dtype)

    def __call__(self, a: npt.ArrayLike, b: npt.ArrayLike | None = None) -> Doubles:
        """Any number of questions: (questions, num_terms), numbers that the dtype holds exactly."""
        rows = np.atleast_2d(np.asarray(a, np.float64))
        others = np.ones_like(rows) if b is None else np.broadcast_to(np.asarray(b, np.float64), rows.shape)
        answers = []
        for start in range(0, len(rows), self.num_questions):
            asked = np.arange(start, min(start + self.num_questions, len(rows)))
            filled = np.resize(asked, self.num_questions)
            result = self.compute(_exact(rows[filled], self.dtype), _exact(others[filled], self.dtype))
            answers.append(np.asarray(result, np.float64)[: len(asked)] / self.scale)
        return np.concatenate(answers)

    def values(self, terms: npt.ArrayLike) -> Doubles:
        """Questions by the values of their terms, numbers of few bits; as products, of two numbers of like size."""
        if not self.has_factors:
            return self(terms)
        return self(*factors(np.atleast_2d(np.asarray(terms, np.float64))))


def _exact(values: Doubles, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        result = values.astype(dtype)
    same = np.isnan(values) | (result.astype(np.float64) == values)
    if not same.all():
        raise ValueError(f"{dtype} does not hold {values[~same][0]!r}")
    return result


def factors(values: Doubles) -> tuple[Doubles, Doubles]:
    """x = a b, b a power of two of about half the exponent."""
    _, exponents = np.frexp(values)
    halves = np.ldexp(1.0, exponents // 2)
    return values / halves, np.where(values == 0, 1.0, halves)


def spread(inner: Sum, positions: Sequence[int]) -> Sum:
    """A sum whose terms are those of `inner` at `positions`; the others are zero."""
    where = np.asarray(positions)

    def compute(a: Array, b: Array) -> Doubles:
        wide_a, wide_b = (np.zeros((len(a), inner.num_terms), a.dtype) for _ in range(2))
        wide_a[:, where], wide_b[:, where] = a, b
        return inner.compute(wide_a, wide_b)

    return Sum(inner.name, inner.dtype, len(where), inner.num_questions, inner.has_factors, compute, inner.scale)


def alone(inner: Sum) -> Sum:
    """The same sum, one question a call, which fills the whole of it; its first answer is taken."""

    def compute(a: Array, b: Array) -> Doubles:
        return inner.compute(*(np.repeat(x, inner.num_questions, axis=0) for x in (a, b)))[:1]

    return Sum(inner.name, inner.dtype, inner.num_terms, 1, inner.has_factors, compute, inner.scale)
