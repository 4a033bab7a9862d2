"""Cases made by hand: an output, its truth, and a rule of ours for what rounding explains."""

from __future__ import annotations

from typing import Any

import numpy as np

from diag.causes.wrong_output import WrongOutput
from diag.numerics.figures import Bound
from diag.numerics.op_classes import ErrorClass
from diag.numerics.terms import Terms


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def truncated(x: np.ndarray, dropped: int) -> np.ndarray:
    """The low `dropped` bits of float32 cut off."""
    return (x.view(np.uint32) & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)).view(np.float32)


def nearest_even(x: np.ndarray, dropped: int) -> np.ndarray:
    bits = x.view(np.uint32).astype(np.uint64)
    bits += ((bits >> dropped) & 1) + (1 << (dropped - 1)) - 1
    return truncated(bits.astype(np.uint32).view(np.float32), dropped)


def case(
    output: np.ndarray, truth: np.ndarray, kind: ErrorClass = ErrorClass.CONTRACTION, bits: int = 20, **more: Any
) -> WrongOutput:
    """`explained` is a difference of at most 2^-bits of the largest element."""
    truth = truth.astype(np.float64)
    limit = 2.0**-bits * float(np.abs(truth).max(initial=0.0)) or 1e-300

    def held(x: np.ndarray, other: np.ndarray) -> Bound:
        with np.errstate(invalid="ignore"):
            rest = np.abs(x.astype(np.float64) - other)
        rest = np.where(x.astype(np.float64) == other, 0.0, np.where(np.isfinite(rest), rest, np.inf))
        worst = np.unravel_index(int(np.argmax(rest)), rest.shape)
        index = tuple(int(i) for i in worst)
        return Bound(kind, float(rest.max()) / limit, 0.0, float(rest.max()), "a share of the largest", index)

    bound = held(output, truth)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(output.astype(np.float64) - truth) <= limit)
    given = {"judge": lambda other: held(output, other), "judge_other": lambda other: held(other, truth)}
    return WrongOutput(output, truth.astype(output.dtype), truth, bound, out_of_bound=wrong, **{**given, **more})


def product(a: np.ndarray, b: np.ndarray, output: np.ndarray, **more: Any) -> WrongOutput:
    """A matrix product, its terms written out."""
    wide = [a.astype(np.float64), b.astype(np.float64)]

    def terms(at: np.ndarray) -> Terms:
        return Terms(wide[0][at[:, 0]], wide[1].T[at[:, 1]], (("inner dimension", a.shape[1]),))

    given = {"recompute": lambda x: x[0] @ x[1], "terms": terms, "axes": ("row", "column")}
    return case(output, wide[0] @ wide[1], inputs=wide, **given, **more)
