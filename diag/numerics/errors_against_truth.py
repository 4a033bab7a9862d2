"""How far a tensor is from float64 truth, absolutely or in units of what the arithmetic can lose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics import error_kernels
from diag.numerics.figures import AbsoluteError, ScaledError
from diag.numerics.passes import encoding, flat, float64_truth, index_of, require_same_shape, totals_of


def absolute_error(x: npt.NDArray[Any], truth: npt.NDArray[np.float64]) -> AbsoluteError:
    """|x - truth|, element by element, and the size of truth where it is below the largest number of x's format.

    Args:
        x: float16, bfloat16, float32, float64 or integers, any shape and strides.
        truth: float64 of the same shape.  Where both are NaN, or both the same infinity (as truth is that
            overflows in x's format), the error is 0; where one side alone is not finite it is infinite.

    Raises:
        TypeError: if x has no format of ours or truth is not float64.
        ValueError: if the shapes differ.
    """
    x, truth = np.asarray(x), float64_truth(truth)
    require_same_shape(x=x, truth=truth)
    if x.dtype.kind in "biu":
        x = x.astype(np.float64)
    code = encoding(x.dtype)
    r, values = flat(truth, truth.dtype), flat(x, code.stored)

    def add(part: slice, totals: npt.NDArray[Any]) -> None:
        error_kernels.add_absolute(
            r[part], values[part], code.table, code.format.overflow_threshold, part.start, totals
        )

    total = totals_of(r.size, error_kernels.NOTHING_ABSOLUTE, add)
    truth_rms, truth_max = math.sqrt(total.truth_squares / max(total.num_finite, 1)), total.truth_max
    if truth_max >= code.format.largest:
        truth_rms, truth_max = _sizes_below(r, code.format.largest)
    return AbsoluteError(
        rms=math.inf if math.isinf(total.max) else math.sqrt(total.sum_squares / max(r.size, 1)),
        max=total.max,
        worst_index=index_of(total.worst, x.shape),
        truth_rms=truth_rms,
        truth_max=truth_max,
    )


def _sizes_below(truth: npt.NDArray[np.float64], limit: float) -> tuple[float, float]:
    """RMS and largest size of what is below the limit of a format, which is a constant that nobody rounded."""
    sizes = np.abs(truth)
    below = sizes[sizes < limit]
    return (math.sqrt(np.mean(np.square(below))), float(below.max())) if below.size else (0.0, 0.0)


def scaled_error(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], scale: npt.ArrayLike, unit_roundoff: float, underflow: float
) -> ScaledError:
    """Error of `x` in units of unit_roundoff * scale + underflow, element by element.

    For a product, scale is |A||B| and underflow is n times the smallest subnormal (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., section 3.5 and problem 2.19).

    Args:
        x: float16, bfloat16, float32 or float64, any shape and strides.
        truth: float64 of the same shape.  Where both are NaN, or both the same infinity (as truth is that
            overflows in x's format), the error is 0.
        scale: not negative, of the same shape or one that broadcasts to it.
        unit_roundoff: `Format.unit_roundoff` of the arithmetic.
        underflow: absolute error to be granted to every element.

    Raises:
        TypeError: if x has no format of ours or truth is not float64.
        ValueError: if the shapes differ.
    """
    x, truth = np.asarray(x), float64_truth(truth)
    require_same_shape(x=x, truth=truth)
    code = encoding(x.dtype)
    r, values = flat(truth, truth.dtype), flat(x, code.stored)
    sizes = np.asarray(scale)
    sizes = sizes if sizes.dtype == np.float32 else sizes.astype(np.float64, copy=False)
    unit = flat(sizes if sizes.shape == x.shape else np.broadcast_to(sizes, x.shape), sizes.dtype)
    overflow = code.format.overflow_threshold

    def add(part: slice, totals: npt.NDArray[Any]) -> None:
        error_kernels.add_scaled(
            r[part], values[part], unit[part], code.table, unit_roundoff, underflow, overflow, part.start, totals
        )

    total = totals_of(r.size, error_kernels.NOTHING_SCALED, add)
    return ScaledError(
        rms=math.sqrt(total.sum_squares / max(r.size, 1)),
        max=total.max,
        worst_index=index_of(total.worst, x.shape),
        num_outside_scale=total.outside,
    )
