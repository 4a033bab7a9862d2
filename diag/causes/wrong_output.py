"""One wrong output, and the means to compute it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.figures import Bound
from diag.numerics.formats import FLOAT32, Format
from diag.numerics.op_classes import ErrorClass
from diag.numerics.terms import Terms

Array = npt.NDArray[Any]
Truth = npt.NDArray[np.float64]


# Elements of a large tensor that are looked at first.
A_LOOK = 65_536


def has_distinct(values: Array, number: int) -> bool:
    """Whether there are at least so many distinct values: nearly always, the first few tell, and nothing is sorted."""
    return np.unique(values.reshape(-1)[:A_LOOK]).size >= number or np.unique(values).size >= number


@dataclass(frozen=True)
class EarlierExecution:
    """The same op at an earlier step, in float64: what went in and what came out."""

    step: int
    inputs: Sequence[Array]
    output: Array


@dataclass(frozen=True)
class WrongOutput:
    """One output that rounding does not explain.

    inputs: the op's inputs as float64 (integers as they are).  judge: the bound of the output against another
    truth.  judge_other: the bound of another run's output.  judge_given: that of the output, had these been
    the inputs and this the truth.  recompute: the op in float64 on other inputs, None where it cannot.
    out_of_bound: which elements are, against the true truth.  before: for an output that is what
    an op left in a variable, the value it had.  terms: what some elements (by their indices) add up.
    sums_in: the format the op has to keep its sums in.  axes: names of the output's axes.
    repeated: what the place gave for the same inputs a second time.  isolated: what it gives for
    them with nothing remembered.  earlier: the op at earlier steps, the latest first; not computed until asked for.
    """

    output: Array
    reference: Array
    truth: Truth
    bound: Bound
    inputs: Sequence[Array] = ()
    judge: Callable[[Truth], Bound] | None = None
    judge_other: Callable[[Array], Bound] | None = None
    judge_given: Callable[[Sequence[Array], Truth], Bound] | None = None
    recompute: Callable[[Sequence[Array]], Truth | None] | None = None
    out_of_bound: Array | None = None
    before: Array | None = None
    op_type: str = ""
    terms: Callable[[npt.NDArray[np.intp]], Terms | None] | None = None
    sums_in: Format = FLOAT32
    axes: Sequence[str] = ()
    repeated: Array | None = None
    isolated: Array | None = None
    earlier: Callable[[], Sequence[EarlierExecution]] = tuple

    @property
    def wrong(self) -> Array:
        """Which elements are out of bound."""
        if self.out_of_bound is not None:
            return self.out_of_bound
        return np.asarray(self.output != self.truth.astype(self.output.dtype))

    @property
    def share_wrong(self) -> float:
        """Of the elements, between 0 and 1."""
        wrong = self.wrong
        return float(np.mean(wrong)) if wrong.size else 0.0

    @property
    def is_floating(self) -> bool:
        return self.output.dtype.kind not in "biu"

    @property
    def is_contraction(self) -> bool:
        return self.bound.error_class is ErrorClass.CONTRACTION

    def excess_against(self, truth: Truth | None) -> float:
        """What remains of the excess if this were the truth; infinite where nothing can be said."""
        if truth is None or self.judge is None or truth.shape != self.output.shape:
            return float("inf")
        return self.judge(truth).excess

    def excess_with(self, inputs: Sequence[Array]) -> float:
        """What remains if these were the inputs."""
        return float("inf") if self.recompute is None else self.excess_against(self.recompute(inputs))

    def excess_given(self, inputs: Sequence[Array]) -> float:
        """As `excess_with`, but a sum may be off by a part of the sizes of these inputs' terms, not of its own."""
        truth = None if self.recompute is None else self.recompute(inputs)
        excess = self.excess_against(truth)
        if truth is None or not self.is_contraction or self.judge_given is None or not 1 < excess < float("inf"):
            return excess
        return self.judge_given(inputs, truth).excess
