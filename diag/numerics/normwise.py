"""What is right in norm and not element by element: transforms of convolutions, Strassen-like products of matrices.

Both mix elements before they multiply, so that an element with small terms inherits the rounding of others' large
ones.  Constants are measured by `python -m benchmarks.transforms`; docs/BOUNDS.md has the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
    InOrder,
    RoundingSpread,
    contraction_error,
    is_narrower,
    without_last_rounding,
)
from diag.numerics.errors_against_truth import scaled_error
from diag.numerics.figures import Bound, ScaledError
from diag.numerics.formats import Format
from diag.numerics.op_classes import ErrorClass

Sizes = npt.NDArray[np.float64]

# Convolutions by a transform, error over u times the op on its operands' largest neighbours: Winograd's F(4x4,3x3)
# measured rms 0.07 to 0.26 and at most 14, on images from dense to one bright spot; TF32 rms 26 to 72 and at least
# 134 (python -m benchmarks.transforms).  A few elements far from the rest are no transform: the largest reached 63
# times the rms of the others.  The largest few vouch for nobody; in small tensors these are one element of sixteen.
TRANSFORM_RMS, TRANSFORM_MAX, TRANSFORM_OUTLIER = 2.0, 32.0, 256.0
FEW, FEW_OF = 32, 16
# The errors of a fast product are in proportion to what it mixes into each element.  In such units the largest reached
# 48 times what three quarters stay below (Strassen, one level and two); few wrong ones in a plain product began at 169.
OUT_OF_PROPORTION, MOST = 96.0, 0.75
ENOUGH = 16  # elements for such a share
LEVELS = (1, 2, 3)  # how often a fast product halves its factors


def norms_of(scale: npt.ArrayLike, mixed: tuple[int, ...] | None = None) -> npt.NDArray[np.float64]:
    """The rms of |A||B| over the axes that a transform mixes, None for all of them; read-only, of |A||B|'s shape."""
    sizes = np.asarray(scale, np.float64)
    return np.broadcast_to(np.sqrt(np.mean(np.square(sizes), axis=mixed, keepdims=True)), sizes.shape)


def _in_units_of(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], sizes: npt.ArrayLike, arithmetic: Format
) -> ScaledError:
    """The error in units of u times sizes; of a narrower result what its last rounding leaves of it."""
    truth = without_last_rounding(x, truth, arithmetic)
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
        return Bound.of(ErrorClass.CONTRACTION, error, math.inf, rule)
    max_allowed = max(CONTRACTION_MAX, OUTLIER_RMS * error.rms)
    excess = max(error.rms / CONTRACTION_RMS, error.max / max_allowed)
    rule = f"norm-wise, u rms(|A||B|): rms <= {CONTRACTION_RMS:g}, max <= {max_allowed:.3g}"
    return Bound.of(ErrorClass.CONTRACTION, error, excess, rule)


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
        return Bound.of(ErrorClass.CONTRACTION, error, math.inf, rule)
    rest = _rms_of_most(_errors(x, truth, mixed_scale, arithmetic))
    max_allowed = max(min(TRANSFORM_MAX, TRANSFORM_OUTLIER * rest), 0.5)
    excess = max(error.rms / TRANSFORM_RMS, error.max / max_allowed)
    rule = f"norm-wise, u max|A| max|B| nearby: rms <= {TRANSFORM_RMS:g}, max <= {max_allowed:.3g}"
    return Bound.of(ErrorClass.CONTRACTION, error, excess, rule)


@dataclass(frozen=True)
class ProductNorms:
    """Norms of the factors of products of matrices A B, one for each product of a stack: (..., 1, 1).

    rms: |A||B| / sqrt(mn) in Frobenius norms, which the rms of the errors of a fast product is in proportion to.
    largest: the largest Euclidean norm of a row of A times that of a column of B, which limits each element.
    factors: |A| and |B|.
    """

    rms: npt.NDArray[np.float64]
    largest: npt.NDArray[np.float64]
    factors: tuple[Sizes, Sizes]

    def random_walks(self) -> Iterator[Sizes]:
        """What errors are in proportion to, by how often and how the factors may have been halved."""
        a, b = self.factors
        for levels in LEVELS:
            is_even = all(side % 2**levels == 0 for side in (*a.shape[-2:], b.shape[-1]))
            yield from (random_walk(a, b, levels, is_padded) for is_padded in ((True,) if is_even else (True, False)))


def product_norms(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> ProductNorms:
    """Of matrices, or stacks that broadcast: (..., m, k) and (..., k, n)."""
    rows, columns = np.square(a).sum(-1, keepdims=True), np.square(b).sum(-2, keepdims=True)
    mean = np.sqrt(rows.mean(-2, keepdims=True) * columns.mean(-1, keepdims=True))
    most = rows.max(-2, keepdims=True, initial=0.0) * columns.max(-1, keepdims=True, initial=0.0)
    return ProductNorms(mean, np.sqrt(most), (np.abs(a), np.abs(b)))


def random_walk(a: Sizes, b: Sizes, levels: int, is_padded: bool) -> Sizes:
    """What the rounding errors of a product are in proportion to that halves its factors `levels` times; (..., m, n).

    Such a product adds elements that are half a side apart before it multiplies; of an odd side the last element is
    multiplied by itself, or a zero put behind it.  Of sums of terms of either sign the error is a random walk: in
    proportion to the root of the sum of the terms' squares, also where one is most of it (Higham and Mary 2019).
    a, b: |A| and |B|, (..., m, k) and (..., k, n).
    """
    return np.asarray(np.sqrt(_squared_walk(a, b, levels, is_padded)))


def _squared_walk(a: Sizes, b: Sizes, levels: int, is_padded: bool) -> Sizes:
    total = np.asarray(np.square(a) @ np.square(b))
    if levels:
        left, right = (_folded(_folded(x, -1, is_padded), -2, is_padded) for x in (a, b))
        halves = _squared_walk(left, right, levels - 1, is_padded)
        mixed = np.tile(halves, (2, 2))[..., : total.shape[-2], : total.shape[-1]]
        total[..., : mixed.shape[-2], : mixed.shape[-1]] += mixed
    return total


def _folded(x: Sizes, axis: int, is_padded: bool) -> Sizes:
    """One half of an axis added to the other; of an odd one with a zero put behind it, or without its last element."""
    size = x.shape[axis]
    half = (size + 1) // 2 if is_padded else size // 2
    first, second = (np.take(x, range(start, min(start + half, size)), axis) for start in (0, half))
    if second.shape[axis] < half:
        second = np.concatenate([second, np.zeros_like(np.take(first, [0], axis))], axis)
    return np.asarray(first + second)


def fast_product_bound(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], scale: npt.ArrayLike, norms: ProductNorms, arithmetic: Format,
    in_order: InOrder | None = None,
) -> Bound:  # fmt: skip
    """Error of a product that mixes rows and columns before it multiplies, as Strassen's does.

    Its error is bounded in norm, |C - AB| <= c u |A||B| (Brent 1970; Higham 2002, section 23.2.2; for any such
    algorithm and any norm Demmel, Dumitriu, Holtz and Kleinberg 2007).  c is a constant, or twice what a plain sum
    loses (`in_order`).  Elements that are right by themselves, within `CONTRACTION_MAX` u|A||B|, count for the rms
    only; the others have to be of a size with all, for a fast product spreads what it loses over its blocks.
    """
    norm, largest = (np.broadcast_to(each, x.shape) for each in (norms.rms, norms.largest))
    error = _in_units_of(x, truth, norm, arithmetic)
    if math.isinf(error.max):
        rule = "finite, and no error where A or B is zero"
        return Bound.of(ErrorClass.CONTRACTION, error, math.inf, rule)
    lost = InOrder(0.0, 0.0) if in_order is None else in_order
    rms_allowed = max(TRANSFORM_RMS, min(IN_ORDER * lost.rms, CONTRACTION_MAX))  # where terms are alike
    max_allowed = max(TRANSFORM_MAX, IN_ORDER * lost.max)
    excess = error.rms / rms_allowed
    by_element = contraction_error(x, truth, scale, arithmetic)
    is_beyond = by_element > CONTRACTION_MAX
    if is_beyond.any():
        of_largest = _in_units_of(x[is_beyond], truth[is_beyond], largest[is_beyond], arithmetic)
        excess = max(excess, of_largest.max / max_allowed)
        if excess <= 1:  # else the products that this takes would not change the verdict
            excess = max(excess, _out_of_proportion(x, truth, by_element, norms, arithmetic))
    rule = f"norm-wise, u norm(A) norm(B): rms <= {rms_allowed:.3g}, max <= {max_allowed:.3g}"
    return Bound.of(ErrorClass.CONTRACTION, error, excess, rule)


def _out_of_proportion(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], by_element: npt.NDArray[np.float64], norms: ProductNorms,
    arithmetic: Format,
) -> float:  # fmt: skip
    """By how much errors beyond the elements' own bounds exceed what those of all elements grant them.

    by_element: errors in units of u|A||B|, of which twice the bound is granted.
    """
    excess = math.inf
    for walk in norms.random_walks():
        error = _errors(x, truth, walk, arithmetic)
        usual = _usual(error, x, arithmetic) if x.size >= ENOUGH else 0.0  # nobody computes so few in another way
        with np.errstate(all="ignore"):
            in_proportion = error / (OUT_OF_PROPORTION * usual)
        granted = np.minimum(in_proportion, by_element / (2 * CONTRACTION_MAX))
        excess = min(excess, float(np.max(granted, where=by_element > CONTRACTION_MAX, initial=0.0)))
        if excess <= 1:
            break
    return excess


def _errors(x: npt.NDArray[Any], truth: npt.NDArray[np.float64], sizes: npt.ArrayLike, arithmetic: Format) -> Sizes:
    """Element by element in units of u times sizes, of a narrower result what its last rounding leaves.

    NaN for no error where the size is zero.
    """
    truth = without_last_rounding(x, truth, arithmetic)
    with np.errstate(all="ignore"):
        return np.abs(x.astype(np.float64) - truth) / (arithmetic.unit_roundoff * np.asarray(sizes, np.float64))


def _usual(error: Sizes, x: npt.NDArray[Any], arithmetic: Format) -> float:
    """What `MOST` of the errors stay below; of a narrower result, of those that its last rounding does not hide.

    Infinite where too few are left to say.
    """
    counted = error[np.isfinite(error)]
    if is_narrower(x, arithmetic):
        counted = counted[counted > 0]
    return float(np.quantile(counted, MOST, method="lower")) if counted.size >= ENOUGH else math.inf


def _rms_of_most(error: Sizes) -> float:
    """The rms of all errors but the largest few."""
    counted = np.sort(error[np.isfinite(error)])
    few = max(1, min(FEW, counted.size // FEW_OF))
    return float(np.sqrt(np.mean(np.square(counted[:-few])))) if counted.size > 1 else math.inf


def of_transforms(noise: RoundingSpread) -> RoundingSpread:
    """The spread of a composite from noise that is uniform in u times what a transform mixes into each element.

    So scaled that `composite_bound` allows the result of a convolution what `transform_bound` does.
    """
    return RoundingSpread(noise.rms * math.sqrt(3) * TRANSFORM_RMS / COMPOSITE, noise.max * TRANSFORM_MAX / COMPOSITE)
