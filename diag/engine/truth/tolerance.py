"""What a result has to be and how far off it may be, as arrays: for a program that judges without this one.

The bounds are those of the judges.  Where they ask for more only of what looks wrong (spreads, other algorithms), all
of it is granted here, for the program runs at places that nobody has looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.step_results import UnitRun
from diag.engine.truth.in_norm import InNorm
from diag.engine.truth.op_judge import DECISION_FLIP, OpEvidence, OpJudge, OpJudgement, lost_in_order, num_terms
from diag.engine.truth.unit_judge import OTHER_ALGORITHMS, UnitJudge
from diag.engine.truth.unit_spreads import UnitSpreads
from diag.errors import UserError
from diag.numerics.bounds import (
    CONTRACTION_MAX,
    CONTRACTION_RMS,
    composite_limits,
    contraction_limits,
    left_of,
    where_both_overflow,
)
from diag.numerics.errors_against_truth import absolute_error
from diag.numerics.formats import Format, format_of
from diag.numerics.normwise import TRANSFORM_MAX, TRANSFORM_RMS, norms_of
from diag.numerics.op_classes import ErrorClass
from diag.numerics.terms import MATRIX_PRODUCTS
from diag.numerics.ulp import ulp

Wide = npt.NDArray[np.float64]
ANY = 1e308
TINY = 5e-324
"""What a unit is at least: no error over it is none, and any other is beyond all bounds."""
HALF_AN_ULP_OF_TRUTH = 1 + 2.0**-20
"""Truth was rounded to float64 itself (`allowance_bound`)."""


@dataclass(frozen=True)
class Limit:
    """One way to be right: the rms and the largest of error / unit are at most so much."""

    unit: Wide
    rms: float
    max: float


@dataclass(frozen=True)
class Tolerance:
    """An output: its right values in float64, an error that every element is granted, and the ways to be right."""

    right: Wide
    free: Wide
    limits: tuple[Limit, ...]


EXACT = (Limit(np.ones(()), 0.0, 0.0),)
NOTHING = np.zeros(())


def tolerances_of_op(evidence: OpEvidence, judge: OpJudge) -> list[Tolerance]:
    """Of each output of an op on its inputs.

    Raises:
      UserError: there are no right values.
    """
    judged, op = judge.judge(evidence), evidence.node.op
    if any(each.bound is None for each in judged):
        why = "it draws random numbers" if judged[0].note == "random" else "TensorFlow has no float64 kernel of it"
        raise UserError(f"--emit: there are no right values of {op}: {why}; name its layer with --layer")
    if any(each.note == DECISION_FLIP for each in judged):
        raise UserError(f"--emit: how {op} breaks ties is its own, so no values are right; name its layer with --layer")
    return [_of_output(evidence, judge, index, each) for index, each in enumerate(judged)]


def _of_output(evidence: OpEvidence, judge: OpJudge, index: int, judged: OpJudgement) -> Tolerance:
    x, reference = evidence.candidate[index], evidence.reference[index]
    if evidence.truth is None or x.dtype.kind in "biu":
        return Tolerance(_exact_values(evidence, index).astype(np.float64), NOTHING, EXACT)
    format = format_of(x.dtype)
    right = _in_range(where_both_overflow(x, reference, evidence.truth[index]), format)
    tiny = (
        np.where(np.abs(right) < format.smallest_normal, format.smallest_normal, 0.0) if format.is_flushed else NOTHING
    )
    if evidence.error_class is ErrorClass.EXACT:
        return Tolerance(right.astype(x.dtype).astype(np.float64), tiny, EXACT)
    measures = evidence.measures_by(judge.truth)
    if measures.scale is not None and measures.sums_in is not None:
        sums = measures.sums_in[index]
        free = 0.5 * ulp(right, format) if format.unit_roundoff > sums.unit_roundoff else NOTHING
        limits = tuple(_of_contraction(evidence, judge, index, judged, sums))
        return Tolerance(right, np.nan_to_num(free), limits)
    row = judge.row_of(evidence, judge.places[1])
    if row is not None:
        unit = np.nan_to_num(ulp(right, format), nan=TINY)
        return Tolerance(right, tiny, (Limit(unit, ANY, row.ulp * HALF_AN_ULP_OF_TRUTH),))
    spread = evidence.spreads_by(judge.truth)[index]
    own = absolute_error(reference, right)
    return Tolerance(right, NOTHING, (Limit(np.ones(()), *composite_limits(own, format, spread, own)),))


def _exact_values(evidence: OpEvidence, index: int) -> npt.NDArray[Any]:
    reference = evidence.reference[index]
    return reference if evidence.truth is None else evidence.truth[index].astype(reference.dtype)


def _in_range(truth: Wide, format: Format) -> Wide:
    """Truth beyond a format's range is infinite in it."""
    return np.where(np.abs(truth) >= format.overflow_threshold, np.copysign(np.inf, truth), truth)


def _of_contraction(
    evidence: OpEvidence, judge: OpJudge, index: int, judged: OpJudgement, sums: Format
) -> Sequence[Limit]:
    measures, op, bound = evidence.measures, evidence.node.op, judged.bound
    assert evidence.truth is not None and measures is not None and measures.scale is not None and bound is not None
    x, scale, u = evidence.candidate[index], np.asarray(measures.scale[index], np.float64), sums.unit_roundoff
    terms = num_terms(op, [tuple(t.shape) for t in evidence.inputs], x.shape)
    left = left_of(scale, evidence.truth[index])
    rms, most = contraction_limits(terms, left, x.size, lost_in_order(evidence, index, bound))
    if not bound.is_explained and bound.rms <= rms and bound.max <= most:
        most = CONTRACTION_MAX  # few elements stand out: `OUTLIER_RMS`
    limits = [Limit(u * scale + terms * sums.underflow, rms, most)]
    if InNorm.is_for(op, x.shape):
        limits += _in_norm(InNorm(evidence.node, evidence.inputs, scale, judge.truth), op, x.shape, u)
    return [Limit(np.maximum(each.unit, TINY), each.rms, each.max) for each in limits]


def _in_norm(measures: InNorm, op: str, shape: tuple[int, ...], u: float) -> list[Limit]:
    if op in MATRIX_PRODUCTS:
        norms = measures.product_norms
        ratios = (norms.largest / np.maximum(norms.rms, TINY))[norms.rms > 0]
        most = TRANSFORM_MAX * min(ratios, default=1.0)
        return [Limit(u * np.broadcast_to(norms.rms, shape), TRANSFORM_RMS, most)]
    mixed = measures.mixed_scale
    near = [] if mixed is None else [Limit(u * np.asarray(mixed, np.float64), TRANSFORM_RMS, TRANSFORM_MAX)]
    return [*near, Limit(u * norms_of(measures.scale).max(keepdims=True), CONTRACTION_RMS, CONTRACTION_MAX)]


def tolerances_of_unit(unit_run: UnitRun, judge: UnitJudge) -> list[Tolerance]:
    """Of each output of a layer unit and each variable that it writes, given the reference's own decisions."""
    spreads = UnitSpreads(judge.truth_of(unit_run.unit), unit_run.of_reference)
    every = range(len(unit_run.reference))
    allowed = dict(spreads.of(every))
    for noise, scaled, _ in OTHER_ALGORITHMS:
        if spreads.has(noise):
            measured = spreads.of(every, noise)
            allowed = {index: spread + scaled(measured[index]) for index, spread in allowed.items()}
    result = []
    for index, (value, truth) in enumerate(zip(unit_run.reference, spreads.outputs, strict=True)):
        x = to_numpy(value)
        if x.dtype.kind in "biu":
            result.append(Tolerance(x.astype(np.float64), NOTHING, EXACT))
            continue
        format = format_of(x.dtype)
        right = where_both_overflow(x, x, np.asarray(truth))
        own = absolute_error(x, right)
        limits = composite_limits(own, format, allowed[index], own)
        result.append(Tolerance(_in_range(right, format), NOTHING, (Limit(np.ones(()), *limits),)))
    return result
