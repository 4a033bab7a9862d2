"""What is right in norm and not element by element: transforms of convolutions, Strassen-like products of matrices.

Both mix elements before they multiply, so that an element with small terms inherits the rounding of others' large
ones.  Constants are measured by `python -m benchmarks.transforms`; docs/BOUNDS.md has the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.bounds import (
    COMPOSITE,
    CONTRACTION_MAX,
    CONTRACTION_RMS,
    IN_ORDER,
    OUTLIER_RMS,
    Bound,
    InOrder,
    RoundingSpread,
    contraction_error,
    rms_of_the_rest,
    without_last_rounding,
)
from diag.numerics.errors_against_truth import scaled_error
from diag.numerics.figures import ScaledError
from diag.numerics.formats import Format, format_of
from diag.numerics.op_classes import ErrorClass

# Convolutions by a transform, error over u times the op on its operands' largest neighbours: Winograd's F(4x4,3x3)
# measured rms 0.07 to 0.26 and at most 14, on images from dense to one bright spot; TF32 rms 26 to 72 and at least
# 134 (python -m benchmarks.transforms).  One element far from the rest is no transform: largest over rms reached 63.
TRANSFORM_RMS, TRANSFORM_MAX, TRANSFORM_OUTLIER = 2.0, 32.0, 256.0


def norms_of(scale: npt.ArrayLike, mixed: tuple[int, ...] | None = None) -> npt.NDArray[np.float64]:
    """The rms of |A||B| over the axes that a transform mixes, None for all of them; read-only, of |A||B|'s shape."""
    sizes = np.asarray(scale, np.float64)
    return np.broadcast_to(np.sqrt(np.mean(np.square(sizes), axis=mixed, keepdims=True)), sizes.shape)


def _in_units_of(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], sizes: npt.ArrayLike, arithmetic: Format
) -> ScaledError:
    """The error in units of u times sizes; of a narrower result what its last rounding leaves of it."""
    if format_of(x.dtype).unit_roundoff > arithmetic.unit_roundoff:
        truth = without_last_rounding(x, truth)
    return scaled_error(x, truth, sizes, arithmetic.unit_roundoff, 0.0)


def normwise_bound(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], norms: npt.NDArray[np.float64], arithmetic: Format
) -> Bound:
    """Error in units of u times `norms_of` |A||B|: fine in norm, not per element.

    Winograd and FFT convolutions mix elements before they sum, so that an element with small terms
    inherits the rounding of its neighbours' large ones (Barabasz et al. 2020, Error analysis and
    improving the accuracy of Winograd convolution).  What is mixed are the spatial axes; images and channels
    stay apart, and their sizes may differ by orders of magnitude.  One wrong element is still an outlier.
    """
    error = _in_units_of(x, truth, norms, arithmetic)
    if math.isinf(error.max):
        rule = "finite, and no error where all of |A||B| is zero"
        return Bound(ErrorClass.CONTRACTION, math.inf, error.rms, error.max, rule, error.worst_index)
    max_allowed = max(CONTRACTION_MAX, OUTLIER_RMS * error.rms)
    excess = max(error.rms / CONTRACTION_RMS, error.max / max_allowed)
    rule = f"norm-wise, u rms(|A||B|): rms <= {CONTRACTION_RMS:g}, max <= {max_allowed:.3g}"
    return Bound(ErrorClass.CONTRACTION, excess, error.rms, error.max, rule, error.worst_index)


def transform_bound(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], mixed_scale: npt.ArrayLike, arithmetic: Format
) -> Bound:
    """Error in units of u times the op on the largest absolute values near each of its operands' elements.

    A tile of a Winograd convolution multiplies every element of an input tile with every tap of the kernel, so an
    element inherits the rounding of what lies near, however small its own terms are.  `mixed_scale` is the op on
    operands each of whose elements is the largest of a neighbourhood of the size of a tile.
    """
    error = _in_units_of(x, truth, mixed_scale, arithmetic)
    if math.isinf(error.max):
        rule = "finite, and no error where all near |A||B| is zero"
        return Bound(ErrorClass.CONTRACTION, math.inf, error.rms, error.max, rule, error.worst_index)
    max_allowed = max(min(TRANSFORM_MAX, TRANSFORM_OUTLIER * rms_of_the_rest(error, x.size)), 0.5)
    excess = max(error.rms / TRANSFORM_RMS, error.max / max_allowed)
    rule = f"norm-wise, u max|A| max|B| nearby: rms <= {TRANSFORM_RMS:g}, max <= {max_allowed:.3g}"
    return Bound(ErrorClass.CONTRACTION, excess, error.rms, error.max, rule, error.worst_index)


@dataclass(frozen=True)
class ProductNorms:
    """Norms of the factors of products of matrices A B, one for each product of a stack: (..., 1, 1).

    rms: |A||B| / sqrt(mn) in Frobenius norms, which the rms of the errors of a fast product is in proportion to.
    largest: the largest Euclidean norm of a row of A times that of a column of B, which limits each element.
    """

    rms: npt.NDArray[np.float64]
    largest: npt.NDArray[np.float64]


def product_norms(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> ProductNorms:
    """Of matrices, or stacks that broadcast: (..., m, k) and (..., k, n)."""
    rows, columns = np.square(a).sum(-1, keepdims=True), np.square(b).sum(-2, keepdims=True)
    mean = np.sqrt(rows.mean(-2, keepdims=True) * columns.mean(-1, keepdims=True))
    most = rows.max(-2, keepdims=True, initial=0.0) * columns.max(-1, keepdims=True, initial=0.0)
    return ProductNorms(mean, np.sqrt(most))


def fast_product_bound(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], scale: npt.ArrayLike, norms: ProductNorms, arithmetic: Format,
    in_order: InOrder | None = None,
) -> Bound:  # fmt: skip
    """Error of a product that mixes rows and columns before it multiplies, as Strassen's does.

    Its error is bounded in norm, |C - AB| <= c u |A||B| (Brent 1970; Higham 2002, section 23.2.2; for any such
    algorithm and any norm Demmel, Dumitriu, Holtz and Kleinberg 2007).  c is a constant, or twice what a plain sum
    loses (`in_order`).  Elements that are right by themselves, within `CONTRACTION_MAX` u|A||B|, count for the rms
    only; of the others none may be alone, for a fast product spreads what it loses over rows and columns.
    """
    u = arithmetic.unit_roundoff
    norm, largest = (np.broadcast_to(each, x.shape) for each in (norms.rms, norms.largest))
    by_element = contraction_error(x, truth, scale, arithmetic)
    if format_of(x.dtype).unit_roundoff > u:
        truth = without_last_rounding(x, truth)
    error = scaled_error(x, truth, norm, u, 0.0)
    if math.isinf(error.max):
        rule = "finite, and no error where A or B is zero"
        return Bound(ErrorClass.CONTRACTION, math.inf, error.rms, error.max, rule, error.worst_index)
    lost = InOrder(0.0, 0.0) if in_order is None else in_order
    rms_allowed = max(TRANSFORM_RMS, min(IN_ORDER * lost.rms, CONTRACTION_MAX))  # where terms are alike
    max_allowed = max(TRANSFORM_MAX, IN_ORDER * lost.max)
    excess = error.rms / rms_allowed
    is_beyond = by_element > CONTRACTION_MAX
    if is_beyond.any():
        of_largest = scaled_error(x[is_beyond], truth[is_beyond], largest[is_beyond], u, 0.0)
        of_norm = np.where(is_beyond, np.abs(x.astype(np.float64) - truth) / (u * norm), 0.0)
        excess = max(excess, of_largest.max / max_allowed, _alone(of_norm, by_element))
    rule = f"norm-wise, u norm(A) norm(B): rms <= {rms_allowed:.3g}, max <= {max_allowed:.3g}"
    return Bound(ErrorClass.CONTRACTION, excess, error.rms, error.max, rule, error.worst_index)


def _alone(beyond: npt.NDArray[np.float64], by_element: npt.NDArray[np.float64]) -> float:
    """By how much those exceed what is granted them that are beyond their own bounds in no one's company.

    beyond: errors in units of the norm, 0 where an element is within its own bound; company is another such element in
    its row or column, or others of like size.  by_element: errors in units of u|A||B|.
    """
    is_beyond = beyond > 0
    in_row, in_column = (is_beyond.sum(axis, keepdims=True) for axis in (-1, -2))
    others = np.sqrt(np.maximum(np.square(beyond).sum() - np.square(beyond), 0.0) / max(is_beyond.sum() - 1, 1))
    granted = beyond / np.maximum(TRANSFORM_RMS, CONTRACTION_MAX * others)
    excess = np.minimum(granted, by_element / (2 * CONTRACTION_MAX))
    return float(np.max(excess, where=is_beyond & (in_row == 1) & (in_column == 1), initial=0.0))


def of_transforms(noise: RoundingSpread) -> RoundingSpread:
    """The spread of a composite from noise that is uniform in u times what a transform mixes into each element.

    So scaled that `composite_bound` allows the result of a convolution what `transform_bound` does.
    """
    return RoundingSpread(noise.rms * math.sqrt(3) * TRANSFORM_RMS / COMPOSITE, noise.max * TRANSFORM_MAX / COMPOSITE)
