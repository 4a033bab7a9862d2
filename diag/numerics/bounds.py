"""What rounding alone can explain, and by how much an error exceeds it.

Every rule gives a `Bound`: `excess` is error over bound, so 1 is the limit and 0 no error at all.
The reasons and measurements behind each constant stand beside it; docs/BOUNDS.md has the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from diag.numerics.errors_against_truth import absolute_error, scaled_error
from diag.numerics.figures import AbsoluteError, Bound, ScaledError, TruthStatistics
from diag.numerics.formats import BFLOAT16, FLOAT16, FLOAT64, Format, format_of
from diag.numerics.op_classes import ErrorClass
from diag.numerics.terms import Terms
from diag.numerics.ulp import ulp

# Error over u(|A||B|), rms over the tensor: an x86 CPU measured at most 1.3 on 24 contractions of the
# motivating CNN (n from 2 to 700,928), TF32 inputs at least 190.  8 is six times the one.
CONTRACTION_RMS = 8.0
# Largest element: BLAS's own tests use 16 (blas/testing, threshold); sums of n terms in one run grow as
# sqrt(n) (Higham and Mary 2019, A new approach to probabilistic rounding error analysis).
CONTRACTION_MAX = 16.0
CONTRACTION_MAX_PER_SQRT_N = 4.0
# A kernel whose errors are small everywhere does not sum in one long run and cannot claim the sqrt(n)
# law for one element.  Of 10^8 normal deviates the largest is 5.7 rms; 32 is far outside.
OUTLIER_RMS = 32.0
SPREAD_OF_RMS = 6.0  # standard deviations: seen once in 10^9 elements
# What a sum may lose, by what plain sums of the same terms lose: no kernel measured lost more (docs/BOUNDS.md).
IN_ORDER = 2.0
# Plain sums: one after the other, from either end; in so many running sums side by side; in blocks of so many terms.
SIDE_BY_SIDE, IN_BLOCKS = 8, 256
SIZES = (1.0, 1.1875, 1.40625, 1.6875)
# Benign candidates on eight kinds of Keras layer stayed below 5 (eager, graph, XLA; x86 CPU).
COMPOSITE = 16.0
# A reference so far from truth is suspect itself and lends its error to nobody's bound.
SUSPECT_REFERENCE = 256.0
# ULP of the result granted besides: the last operation's rounding and one more.
COMPOSITE_ULP = 2.0


@dataclass(frozen=True)
class RoundingSpread:
    """How sensitive a composite is: what one rounding of each input does to its float64 result.

    rms and max, in absolute units, of the perturbed results' distance from the unperturbed one.
    """

    rms: float
    max: float

    def __add__(self, other: RoundingSpread) -> RoundingSpread:
        """Of independent causes."""
        return RoundingSpread(math.hypot(self.rms, other.rms), self.max + other.max)


NO_SPREAD = RoundingSpread(0.0, 0.0)
EQUAL_BITS = Bound(ErrorClass.EXACT, 0.0, 0.0, 0.0, "equal bits")


@dataclass(frozen=True)
class InOrder:
    """Error over u(|A||B|) of plain sums of the same terms in the order of memory, the worst of a few ways to group.

    Equal terms are rounded the same way again and again: the sum of 320,000 times 0.1, one after the other, is
    off by 45,813 units (26,090 in BiasAddGrad on an x86 CPU), and that of as many random positive numbers by 137.
    """

    rms: float
    max: float


def exact_bound(x: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Bound:
    """Equal bits, the sign of zero apart; NaN equals NaN, and a subnormal may be flushed where it is elsewhere."""
    same = (x == expected) | ((x != x) & (expected != expected))
    if x.dtype.kind not in "biu" and format_of(x.dtype).is_flushed and not np.all(same):
        tiny = format_of(x.dtype).smallest_normal
        same |= (np.abs(x) < tiny) & (np.abs(expected) < tiny)
    if np.all(same):
        return EQUAL_BITS
    share = 1.0 - float(np.mean(same))
    worst = np.unravel_index(int(np.argmin(np.atleast_1d(same))), np.atleast_1d(same).shape)
    index = tuple(int(i) for i in worst) if np.ndim(x) else ()
    return Bound(ErrorClass.EXACT, math.inf, share, math.inf, EQUAL_BITS.rule, index)


def allowance_bound(statistics: TruthStatistics, allowance: float, error_class: ErrorClass) -> Bound:
    """Largest error in ULP of the truth against a published allowance."""
    # half an ULP must pass although truth itself was rounded to float64 (2^-29 of an ULP of float32)
    allowed = allowance * (1 + 2.0**-20)
    excess = math.inf if statistics.classes.num_mismatched else _finite(statistics.max) / allowed
    return Bound(
        error_class, excess, _finite(statistics.rms), _finite(statistics.max), f"at most {allowance:g} ULP",
        statistics.worst_index,
    )  # fmt: skip


def contraction_bound(
    x: npt.NDArray[Any],
    truth: npt.NDArray[np.float64],
    scale: npt.ArrayLike,
    num_terms: float,
    arithmetic: Format,
    in_order: InOrder | None = None,
) -> Bound:
    """Error in units of u(|A||B|); `scale` is the op on absolute values, `num_terms` its sums' length.

    `arithmetic` is the format that the sums are kept in, u its unit roundoff.  Where the result's own format
    is narrower, only what is left of the error beyond its one rounding counts.  `in_order` is what a plain sum
    of the same terms, one after the other, loses: no less is allowed.
    """
    hidden = _rms_behind_last_rounding(x, truth, scale, arithmetic) if is_narrower(x, arithmetic) else 0.0
    truth = without_last_rounding(x, truth, arithmetic)
    error = scaled_error(x, truth, scale, arithmetic.unit_roundoff, num_terms * arithmetic.underflow)
    if math.isinf(error.max):
        rule = "finite, and no error where |A||B| is zero"
        return Bound.of(ErrorClass.CONTRACTION, error, math.inf, rule)
    rest = max(hidden, rms_of_the_rest(error, x.size))
    rms_allowed, serial = contraction_limits(num_terms, left_of(scale, truth), x.size, in_order)
    is_by_plain_sums = in_order is not None and rms_allowed == IN_ORDER * in_order.rms
    words = f", {IN_ORDER:g} x what a plain sum loses" if is_by_plain_sums else ""
    max_allowed = min(serial, max(CONTRACTION_MAX, OUTLIER_RMS * rest))
    excess = max(error.rms / rms_allowed, error.max / max_allowed)
    rule = f"u|A||B|: rms <= {rms_allowed:.3g}, max <= {max_allowed:.3g}{words}"
    return Bound.of(ErrorClass.CONTRACTION, error, excess, rule)


def left_of(scale: npt.ArrayLike, truth: npt.NDArray[np.float64]) -> float:
    """The most that is left of |A||B| in any sum: 1 of terms of one sign, little where they cancel."""
    with np.errstate(all="ignore"):
        shares = np.abs(truth) / np.asarray(scale, np.float64)
    return float(min(1.0, np.max(np.where(np.isfinite(shares), shares, 0.0), initial=0.0)))


def contraction_limits(
    num_terms: float, left: float, num_elements: int, in_order: InOrder | None = None
) -> tuple[float, float]:
    """How large the rms and the largest of the errors in units of u(|A||B|) may be, of sums in one long run.

    The rms of few elements is no mean: that of m normal deviates is off by up to SPREAD_OF_RMS / sqrt(2m) of itself.
    Of one sum of n terms, each addition rounded by up to u of the total so far, which grows to what is `left` of
    |A||B|, it is left * sqrt(n) / 3.
    """
    serial = max(CONTRACTION_MAX, CONTRACTION_MAX_PER_SQRT_N * math.sqrt(num_terms))
    of_few = (1 + SPREAD_OF_RMS / math.sqrt(2 * max(num_elements, 1))) * min(
        CONTRACTION_RMS, left * math.sqrt(num_terms) / 3
    )
    rms = max(CONTRACTION_RMS, of_few)
    if in_order is None or IN_ORDER * in_order.rms <= rms:
        return rms, serial
    return IN_ORDER * in_order.rms, max(serial, IN_ORDER * in_order.max)


def lost_in_order(terms: Terms, arithmetic: Format) -> InOrder:
    """Plain sums of terms in a format of NumPy's, against float64.

    The worst of a few sizes of the terms, too: whether equal terms are always rounded up hangs on their last bits, and
    these on whether a kernel rounds a product before it adds it.
    """
    formats = {FLOAT16: np.float16, BFLOAT16: ml_dtypes.bfloat16, FLOAT64: np.float64}
    dtype = np.dtype(formats.get(arithmetic, np.float32))
    with np.errstate(over="ignore", invalid="ignore"):
        unit = arithmetic.unit_roundoff * np.abs(terms.products).sum(axis=1) + arithmetic.underflow
        errors = []
        for size in SIZES:
            products = (size * terms.products).astype(dtype)
            in_groups = (_running(_running(_grouped(products, n))) for n in (SIDE_BY_SIDE, IN_BLOCKS))
            sums = [_running(products), _running(products[..., ::-1]), *in_groups]
            right = (size * terms.products).sum(axis=1, dtype=np.longdouble)
            errors += [np.abs(each.astype(np.longdouble) - right).astype(np.float64) / (size * unit) for each in sums]
    worst = np.max([np.where(np.isfinite(error), error, 0.0) for error in errors], axis=0, initial=0.0)
    return InOrder(float(np.sqrt(np.mean(np.square(worst)))), float(np.max(worst, initial=0.0)))


def _running(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sums along the last axis, one term after the other, each rounded."""
    return np.add.accumulate(x, axis=-1)[..., -1] if x.shape[-1] else np.zeros(x.shape[:-1], x.dtype)


def _grouped(x: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
    """(elements, groups, terms): every `number`-th term together, or blocks of as many, whichever it names."""
    padded = np.concatenate([x, np.zeros((len(x), -x.shape[1] % number), x.dtype)], axis=1)
    groups = padded.reshape(len(x), -1, number)
    return groups.swapaxes(1, 2) if number == SIDE_BY_SIDE else groups


def contraction_error(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], scale: npt.ArrayLike, arithmetic: Format
) -> npt.NDArray[np.float64]:
    """The error that `contraction_bound` limits, element by element, in units of u(|A||B|)."""
    truth = without_last_rounding(x, truth, arithmetic)
    unit = arithmetic.unit_roundoff * np.asarray(scale, np.float64) + arithmetic.underflow
    with np.errstate(invalid="ignore"):
        error = np.abs(x.astype(np.float64) - truth) / unit
    same = (x == truth) | (np.isnan(x) & np.isnan(truth))
    return np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf))


def is_narrower(x: npt.NDArray[Any], arithmetic: Format) -> bool:
    """Whether a result is of a narrower format than its sums, and was rounded to that in the end."""
    return format_of(x.dtype).unit_roundoff > arithmetic.unit_roundoff


def without_last_rounding(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], arithmetic: Format
) -> npt.NDArray[np.float64]:
    """Truth moved towards a narrower x by up to half an ULP: what x was before it was rounded, at best."""
    if not is_narrower(x, arithmetic):
        return truth
    half = 0.5 * ulp(truth, format_of(x.dtype))
    with np.errstate(invalid="ignore"):
        moved = truth + np.clip(x.astype(np.float64) - truth, -half, half)
    return np.where(np.isfinite(moved), moved, truth)


def _rms_behind_last_rounding(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], scale: npt.ArrayLike, arithmetic: Format
) -> float:
    """The rms, in units of u(|A||B|), of errors that the last rounding hides but for a few: by how often they show.

    An error of e before that rounding shows where the sum lay within e of a tie, in e / ULP of all elements.  Their
    number says how large the errors are, whatever the size of those few: an element that is wrong by itself adds one.
    Of normal deviates the rms is sqrt(pi / 2) of the mean magnitude.
    """
    step = ulp(truth, format_of(x.dtype))
    with np.errstate(invalid="ignore"):
        showing = np.count_nonzero(np.abs(x.astype(np.float64) - truth) > 0.5 * step)
        chances = np.nansum(arithmetic.unit_roundoff * np.asarray(scale, np.float64) / step)
    return float(math.sqrt(math.pi / 2) * showing / chances) if chances > 0 and np.isfinite(chances) else 0.0


def rms_of_the_rest(error: ScaledError, size: int) -> float:
    """The rms of all elements but the worst."""
    return math.sqrt(max(error.rms**2 * size - error.max**2, 0.0) / (size - 1)) if size > 1 else math.inf


def where_both_overflow(
    x: npt.NDArray[Any], reference: npt.NDArray[Any], truth: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Truth, but what both lanes hold where they hold the same NaN or infinity.

    A narrow format overflows inside an op where float64 does not; a place that does what the
    reference does there has introduced nothing.  Nor has one that overflows to truth's side where the reference
    has NaN.
    """
    if x.dtype.kind in "biu" or np.isfinite(x).all():
        return truth
    with np.errstate(invalid="ignore"):
        of_nan = np.isnan(reference) & (np.isnan(x) | (np.sign(x) == np.sign(truth)))
        same = ~np.isfinite(x) & ((x == reference) | of_nan)
    return np.where(same, x.astype(np.float64), truth) if same.any() else truth


def composite_bound(
    x: npt.NDArray[Any], truth: npt.NDArray[np.float64], spread: RoundingSpread, reference_error: AbsoluteError
) -> Bound:
    """Error against the spread of perturbed truth plus the reference's own error, plus a few ULP."""
    return composite_bound_of(absolute_error(x, truth), format_of(x.dtype), spread, reference_error)


def composite_bound_of(
    error: AbsoluteError, format: Format, spread: RoundingSpread, reference_error: AbsoluteError
) -> Bound:
    """`composite_bound` of a tensor in `format` whose error is measured."""
    if math.isinf(error.max):
        return Bound.of(ErrorClass.COMPOSITE, error, math.inf, "finite")
    rms_allowed, max_allowed = composite_limits(error, format, spread, reference_error)
    excess = max(error.rms / rms_allowed, error.max / max_allowed)
    rule = f"{COMPOSITE:g} x (float64 spread + reference's own error) + {COMPOSITE_ULP:g} ULP"
    return Bound.of(ErrorClass.COMPOSITE, error, excess, rule)


def composite_limits(
    error: AbsoluteError, format: Format, spread: RoundingSpread, reference_error: AbsoluteError
) -> tuple[float, float]:
    """How large the rms and the largest of the absolute errors may be; of `error` only the size of truth is taken."""
    u, size, largest = format.unit_roundoff, error.truth_rms, error.truth_max
    # Noise is relative to each value and misses what a subnormal result loses.
    underflow = 2 * COMPOSITE * format.underflow
    rms_unit = spread.rms + _trusted(reference_error.rms, spread.rms, u * size)
    max_unit = spread.max + _trusted(reference_error.max, spread.max, u * largest)
    return (
        COMPOSITE * rms_unit + 2 * COMPOSITE_ULP * u * size + underflow,
        COMPOSITE * max_unit + 2 * COMPOSITE_ULP * u * largest + underflow,
    )


def of_underflow(noise: RoundingSpread) -> RoundingSpread:
    """The spread of a composite from noise of the smallest normal number in each result: it is allowed twice that."""
    return RoundingSpread(noise.rms * 2 / COMPOSITE, noise.max * 2 / COMPOSITE)


def of_orders(noise: RoundingSpread) -> RoundingSpread:
    """The spread of a composite from noise of what plain sums lose; a sum is allowed what `contraction_bound` does."""
    return RoundingSpread(noise.rms * IN_ORDER / COMPOSITE, noise.max * IN_ORDER / COMPOSITE)


def _trusted(error: float, spread: float, unit: float) -> float:
    limit = SUSPECT_REFERENCE * max(spread, unit)
    return error if error <= limit else limit


def _finite(value: float) -> float:
    return 0.0 if math.isnan(value) else value
