"""Errors held against what rounding each op once does to the float64 result.  No TensorFlow here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.bounds import COMPOSITE, COMPOSITE_ULP
from diag.numerics.formats import Format, format_of
from diag.numerics.ulp import ulp
from probes.accuracy.allowed import FLUSHED_TERMS


@dataclass(frozen=True)
class Excess:
    """The element of a tensor furthest beyond its bound: error over bound, what came, what is right, and where."""

    excess: float
    got: float
    right: float
    index: tuple[int, ...] | None = None


def excess_of(
    y: npt.NDArray[Any],
    truth: npt.NDArray[np.float64],
    noisy: Sequence[npt.NDArray[np.float64]],
    unit_roundoff: float,
    terms: float = 0.0,
    mixes: bool = False,
) -> Excess:
    """Each element against 16 times the spread of noisy runs (diag/numerics/bounds.py) and 2 ULP.

    terms: what is subtracted from each other, and may lose 2 ULP as well.

    The spread is the largest among the elements of the same size, within a factor of two: a few samples may leave one
    element where it was.  mixes: or in its row, along the last axis, where all of it enters each element.
    """
    if y.dtype.kind in "biu" or not y.size:
        same = bool(np.array_equal(y, truth))
        return Excess(0.0 if same else np.inf, 0.0, 0.0)
    format, values = format_of(y.dtype), y.astype(np.float64)
    with np.errstate(all="ignore"):
        spread = np.max([np.abs(sample - truth) for sample in noisy], axis=0)
        unit = ulp(np.where(np.isfinite(truth), truth, 1.0), format)
        allowed = _among_equals(spread, truth)
        if mixes:
            allowed = np.maximum(allowed, np.max(np.nan_to_num(spread, posinf=0.0), axis=-1, keepdims=True))
        bound = COMPOSITE * allowed + COMPOSITE_ULP * (unit + 2 * unit_roundoff * terms)
        bound = bound + _underflow(format)
        excess = np.abs(values - truth) / bound
    same = (values == truth) | (np.isnan(values) & np.isnan(truth))
    same |= np.isinf(values) & (np.abs(truth) >= format.overflow_threshold) & (np.sign(values) == np.sign(truth))
    excess = np.where(same, 0.0, np.where(np.isfinite(excess), excess, np.inf)).reshape(-1)
    worst = int(np.argmax(excess))
    index = tuple(int(i) for i in np.unravel_index(worst, y.shape))
    return Excess(float(excess[worst]), float(values[index]), float(truth[index]), index)


def _underflow(format: Format) -> float:
    return FLUSHED_TERMS * (format.smallest_normal if format.is_flushed else format.smallest_subnormal)


def _among_equals(spread: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The largest spread among elements of the same binary exponent."""
    finite = np.isfinite(truth) & np.isfinite(spread)
    exponents = np.where(finite, np.frexp(np.where(finite, truth, 0.0))[1], 5000) + 2000
    largest = np.zeros(8000)
    np.maximum.at(largest, exponents.reshape(-1), np.where(finite, spread, 0.0).reshape(-1))
    return largest[exponents]
