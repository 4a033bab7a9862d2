"""Holding one op's outputs against truth: from tensors of the engine to bounds of the numerics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.engine.graphs.graph import Node
from diag.engine.graphs.tf_runtime import (
    COMPLEXES,
    FLOATS,
    KnownAttributes,
    float64_array,
    format_of_dtype,
    is_float,
    readable_attributes,
    to_numpy,
)
from diag.engine.lanes.eager import EagerPlace
from diag.engine.truth.in_norm import InNorm
from diag.engine.truth.kinds import is_on_cpu, kinds_of
from diag.engine.truth.not_unique import DECISION_FLIP, settle_ties, settled
from diag.engine.truth.op_truth import CPU, Arrays, OpTruth
from diag.engine.truth.softmaxes import SOFTMAXES, sizes_of
from diag.engine.truth.sum_orders import lost_by_op, num_terms
from diag.machine.places import Place
from diag.numerics.allowances import PLACES, AllowanceRow, Allowances, in_force
from diag.numerics.bits import same_bits
from diag.numerics.bounds import (
    EQUAL_BITS,
    NO_SPREAD,
    InOrder,
    RoundingSpread,
    allowance_bound,
    composite_bound,
    contraction_bound,
    exact_bound,
    where_both_overflow,
)
from diag.numerics.definitions import has_definition, private_outputs, without_placeholders
from diag.numerics.errors_against_truth import absolute_error
from diag.numerics.figures import AbsoluteError, Bound, TruthStatistics
from diag.numerics.formats import FLOAT32, Format, format_of
from diag.numerics.op_classes import ErrorClass, class_of, is_product, is_random
from diag.numerics.statistics import against_truth
from diag.verdict.findings import NORMWISE

NONDETERMINISM = "nondeterminism"
OF_A_KERNEL = "what a kernel hands to its own gradient"
SOFTMAX_UNIT = "u p(1 + |x - max|...)"
# The spread of a composite only makes its bound wider: below this, a quarter of what looks like anything at all
# (`NEAR_ITS_BOUND` of diag/engine/runs/attention.py), an excess is given as it is without any.
CLEARLY_WITHIN = 1 / 4
DIVISIONS = ("RealDiv", "Div", "DivNoNan", "Xdivy")


@dataclass(frozen=True)
class OpJudgement:
    """One output of one op at one place: `bound` is None where there is no truth, `note` says why.

    decided: which choice among results that are all right was another than the expected one.
    """

    bound: Bound | None
    statistics: TruthStatistics | None = None
    note: str = ""
    decided: str = ""


@dataclass(frozen=True)
class Measures:
    """What an op's bounds are measured by, one a output; taken once, from truth and the other lane's results.

    A lane's own error is no part of what it is measured by.  scale: |A||B| of a contraction.  sums_in: the format its
    sums have to be kept in.  other_errors: the other lane's, of a composite.  None where the op's class has no such
    measure.
    """

    scale: Sequence[npt.NDArray[Any]] | None = None
    sums_in: Sequence[Format] | None = None
    other_errors: Sequence[AbsoluteError] | None = None


@dataclass
class OpEvidence:
    """What one op did: its inputs (tensors), and numpy outputs of the lanes on those inputs.

    For an op that writes a variable, `inputs[0]` is the value before and `outputs` the value after.
    `run_again` executes the op once more on the same inputs, at a place that it is given.  `candidate_inputs`
    are the inputs as the candidate has them, `inherited` the largest norm-wise relative difference to those.
    """

    node: Node
    inputs: Sequence[Any]
    candidate: list[npt.NDArray[Any]]
    reference: list[npt.NDArray[Any]]
    truth: Arrays | None = None
    measures: Measures | None = None
    spreads: Sequence[RoundingSpread] | None = None  # of a composite, None until one is asked for
    run_again: Callable[[EagerPlace], list[npt.NDArray[Any]]] | None = None
    candidate_inputs: Sequence[Any] = ()
    inherited: float = 0.0
    in_order: dict[tuple[int, Format], InOrder | None] = field(default_factory=dict)
    in_norm: InNorm | None = None

    @cached_property
    def error_class(self) -> ErrorClass:
        """The op's class; composite where its result is of a format that no allowance is known for."""
        if self.candidate and self.candidate[0].dtype.kind in "biu":
            return ErrorClass.EXACT
        found = class_of(self.node.op)
        if found is not ErrorClass.EXACT and self.has_complex:  # a part of a product is a sum of two, and may cancel
            return ErrorClass.COMPOSITE
        by_allowance = found in (ErrorClass.ROUNDED_ONCE, ErrorClass.FUNCTION)
        return ErrorClass.COMPOSITE if by_allowance and self.allowance(PLACES) is None else found

    @property
    def has_complex(self) -> bool:
        """Whether an input or output is of complex numbers, which the arrays hold as pairs of reals."""
        return any(dtype in COMPLEXES for dtype in [*self.node.dtypes, *(t.dtype for t in self.inputs)])

    @property
    def divisor(self) -> float | None:
        """The number by which an op divides all elements, None where it does not."""
        if self.node.op not in DIVISIONS or self.inputs[1].dtype not in FLOATS or math.prod(self.inputs[1].shape) != 1:
            return None
        return float(to_numpy(self.inputs[1]).reshape(()))

    def truth_by(self, op_truth: OpTruth) -> Arrays | None:
        """Float64 results, computed once; None where there are none."""
        if self.truth is None:
            self.truth = op_truth.outputs(self.node, self.inputs)
        return self.truth

    def measures_by(self, op_truth: OpTruth) -> Measures:
        """What the candidate's bounds are measured by, computed once, of an op that has truth."""
        if self.measures is None:
            self.measures = self._measures(op_truth)
        return self.measures

    def with_lanes_exchanged(self, op_truth: OpTruth) -> OpEvidence:
        """The same evidence with the reference in the candidate's place, to be judged as it is."""
        exchanged = replace(self, candidate=self.reference, reference=self.candidate)
        exchanged.measures = exchanged._measures(op_truth, self.measures_by(op_truth).scale)
        return exchanged

    def _measures(self, op_truth: OpTruth, known: Sequence[npt.NDArray[Any]] | None = None) -> Measures:
        assert self.truth is not None
        if self.error_class is ErrorClass.CONTRACTION:
            scale = known or op_truth.scale(self.node, self.inputs)
            return Measures(scale, None if scale is None else _sums_in(self, scale))
        if self.error_class is not ErrorClass.COMPOSITE:
            return Measures()
        if self.node.op in SOFTMAXES:
            sizes = known or sizes_of(self.node.op, [to_numpy(tensor) for tensor in self.inputs])
            return Measures(sizes, [_working_format(self)] * len(sizes))
        errors = [
            absolute_error(x, where_both_overflow(x, other, truth))
            if x.dtype.kind not in "biu"
            else AbsoluteError(0.0, 0.0, None)
            for x, other, truth in zip(self.reference, self.candidate, self.truth, strict=True)
        ]
        return Measures(other_errors=errors)

    def spreads_by(self, op_truth: OpTruth) -> Sequence[RoundingSpread]:
        """What rounding of its inputs does to each output, computed once, of an op that has truth."""
        assert self.truth is not None
        if self.spreads is None:
            self.spreads = op_truth.spreads(self.node, self.inputs, self.truth)
        return self.spreads

    def allowance(self, kinds: Sequence[str]) -> AllowanceRow | None:
        """The widest row of the kinds of place that an output may be computed at."""
        return _widest_row(in_force(), self.node.op, self.dtype_name, tuple(kinds))

    @cached_property
    def dtype_name(self) -> str:
        """Of the first output."""
        return str(self.candidate[0].dtype.name) if self.candidate else "float32"


@lru_cache(maxsize=4096)
def _widest_row(table: Allowances, op_type: str, dtype_name: str, kinds: tuple[str, ...]) -> AllowanceRow | None:
    return table.widest(op_type, dtype_name, kinds)


class OpJudge:
    """Judges ops, sharing what the two lanes' judgements have in common.

    reference, candidate: where the lanes compute, which says what functions may be off by.
    """

    def __init__(
        self, reference: Place = CPU, candidate: Place = CPU, attributes: KnownAttributes | None = None
    ) -> None:
        self.attributes = attributes or KnownAttributes()
        self.truth = OpTruth(self.attributes)
        self.places = (reference, candidate)

    def judge(self, evidence: OpEvidence) -> list[OpJudgement]:
        """Judge the candidate's outputs."""
        if is_random(evidence.node.op):
            return [OpJudgement(None, note="random") for _ in evidence.candidate]
        if evidence.error_class is ErrorClass.EXACT and _all_equal(evidence):
            return [OpJudgement(EQUAL_BITS) for _ in evidence.candidate]
        private = private_outputs(evidence.node.op) if any(not is_on_cpu(place) for place in self.places) else None
        if private is not None and private.start == 0:
            return [OpJudgement(None, note=OF_A_KERNEL) for _ in evidence.candidate]
        truth = evidence.truth_by(self.truth)
        if truth is None and evidence.error_class is ErrorClass.EXACT:
            pairs = zip(evidence.candidate, evidence.reference, strict=True)
            return [OpJudgement(exact_bound(x, reference)) for x, reference in pairs]
        if truth is None:
            return [OpJudgement(None, note="no float64 kernel") for _ in evidence.candidate]
        found = self.against(evidence, evidence.candidate, evidence.reference)
        if private is None:
            return found
        return [j if at < private.start else OpJudgement(None, note=OF_A_KERNEL) for at, j in enumerate(found)]

    def reference(self, evidence: OpEvidence) -> list[OpJudgement]:
        """The same judgement of the reference's outputs; call after `judge`."""
        if evidence.truth is None:
            return [OpJudgement(None) for _ in evidence.reference]
        exchanged = evidence.with_lanes_exchanged(self.truth)
        return self.against(exchanged, exchanged.candidate, exchanged.reference, self.places[0])

    def against(
        self,
        evidence: OpEvidence,
        outputs: Sequence[npt.NDArray[Any]],
        others: Sequence[npt.NDArray[Any]],
        place: Place | None = None,
    ) -> list[OpJudgement]:
        """Outputs on the evidence's inputs, held against the evidence's truth by its measures.

        place: where the outputs were computed, by default the candidate.
        """
        assert evidence.truth is not None
        evidence.measures_by(self.truth)
        row = self.row_of(evidence, place or self.places[1])
        pairs = enumerate(zip(outputs, others, strict=True))
        found = [self._judgement(evidence, index, x, other, row) for index, (x, other) in pairs]
        return [self._settled(evidence, outputs, index, judgement) for index, judgement in enumerate(found)]

    def _judgement(
        self, evidence: OpEvidence, index: int, x: npt.NDArray[Any], other: npt.NDArray[Any], row: AllowanceRow | None
    ) -> OpJudgement:
        """One output by the bound of its op's class; out of that, in norm, or with ties decided as it has them."""
        assert evidence.truth is not None
        raw = evidence.truth[index]
        if x.dtype.kind in "biu":
            return OpJudgement(exact_bound(x, raw.astype(x.dtype)))
        expected, statistics = raw, _statistics(x, raw)
        if statistics.classes.num_without_distance:
            expected = where_both_overflow(x, other, raw)
            statistics = statistics if expected is raw else _statistics(x, expected)
        bound = self._bound(evidence, index, x, expected, statistics, row)
        if bound.is_explained:
            return OpJudgement(bound, statistics)
        if (normwise := self._normwise(evidence, index, x, expected, bound)) is not None:
            return OpJudgement(normwise, statistics, NORMWISE)
        if (given := settle_ties(evidence.node, evidence.inputs, x, expected)) is not None:
            again = self._bound(evidence, index, x, given, _statistics(x, given), row)
            if again.is_explained:
                return OpJudgement(again, statistics, DECISION_FLIP)
        return OpJudgement(bound, statistics)

    @staticmethod
    def _settled(
        evidence: OpEvidence, outputs: Sequence[npt.NDArray[Any]], index: int, judgement: OpJudgement
    ) -> OpJudgement:
        """An output out of its bound, held to what defines it where that leaves a choice."""
        assert judgement.bound is not None and evidence.truth is not None
        if judgement.bound.is_explained:
            return judgement
        found = settled(evidence.node, evidence.inputs, outputs, index, evidence.truth[index])
        if found is None or not found.bound.is_explained:
            return judgement
        return replace(judgement, bound=found.bound, note=DECISION_FLIP, decided=found.decided)

    def row_of(self, evidence: OpEvidence, place: Place) -> AllowanceRow | None:
        """What a place is allowed, None where it is not by ULP that the op is judged."""
        if evidence.error_class not in (ErrorClass.ROUNDED_ONCE, ErrorClass.FUNCTION):
            return None
        node = evidence.node
        kinds = kinds_of(place, node.op, self.attributes.of(node.proto), node.proto, evidence.dtype_name)
        return evidence.allowance(kinds) or evidence.allowance(PLACES)

    def _bound(
        self, evidence: OpEvidence, index: int, x: npt.NDArray[Any], expected: npt.NDArray[np.float64],
        statistics: TruthStatistics, row: AllowanceRow | None,
    ) -> Bound:  # fmt: skip
        kind, measures = evidence.error_class, evidence.measures
        assert measures is not None
        if kind is ErrorClass.EXACT:
            return exact_bound(x, expected.astype(x.dtype))
        if measures.scale is not None and measures.sums_in is not None:
            return _bound_of_sums(evidence, index, x, expected, measures.scale[index], measures.sums_in[index])
        if measures.other_errors is None:
            assert row is not None
            return allowance_bound(statistics, row.ulp, kind)
        bound = composite_bound(x, expected, NO_SPREAD, measures.other_errors[index])
        if bound.excess <= CLEARLY_WITHIN:
            return bound
        return composite_bound(x, expected, evidence.spreads_by(self.truth)[index], measures.other_errors[index])

    def _normwise(
        self, evidence: OpEvidence, index: int, x: npt.NDArray[Any], expected: npt.NDArray[np.float64], bound: Bound
    ) -> Bound | None:
        """The bound in norm of a transform or a fast product, where that explains what came of it."""
        measures = evidence.measures
        if measures is None or measures.scale is None or not InNorm.is_for(evidence.node.op, x.shape):
            return None
        if evidence.in_norm is None:
            evidence.in_norm = InNorm(evidence.node, evidence.inputs, measures.scale[index], self.truth)
        lost = partial(lost_in_order, evidence, index, bound)
        found = evidence.in_norm.bounds(x, expected, sums_in(evidence, index), lost)
        return next((each for each in found if each.is_explained), None)


def _bound_of_sums(
    evidence: OpEvidence, index: int, x: npt.NDArray[Any], expected: npt.NDArray[np.float64], scale: npt.NDArray[Any],
    sums: Format,
) -> Bound:  # fmt: skip
    terms = num_terms(evidence.node.op, [tuple(t.shape) for t in evidence.inputs], x.shape)
    bound = contraction_bound(x, expected, scale, terms, sums)
    if evidence.error_class is ErrorClass.COMPOSITE:
        return replace(bound, error_class=ErrorClass.COMPOSITE, rule=bound.rule.replace("u|A||B|", SOFTMAX_UNIT))
    if bound.is_explained or not math.isfinite(bound.excess):
        return bound
    return contraction_bound(x, expected, scale, terms, sums, lost_in_order(evidence, index, bound))


def lost_in_order(evidence: OpEvidence, index: int, bound: Bound) -> InOrder | None:
    """What plain sums lose on some of the elements, the worst among them, once; None for ops not written out."""
    sums, node = sums_in(evidence, index), evidence.node
    if (index, sums) not in evidence.in_order:
        inputs, attrs = list(map(float64_array, evidence.inputs)), readable_attributes(node.proto)
        shape = evidence.candidate[index].shape
        evidence.in_order[index, sums] = lost_by_op(node.op, inputs, attrs, shape, sums, bound.worst_index)
    return evidence.in_order[index, sums]


def _sums_in(evidence: OpEvidence, scale: Sequence[npt.NDArray[Any]]) -> list[Format]:
    """The format in which an op has to keep its sums.

    Products of narrow numbers are summed in float32 and rounded once, by default in every CPU and GPU library
    that TensorFlow calls; but where the reference itself sums in the narrow format, as Eigen does in a few
    kernels, no more than that can be asked for.  Other sums are kept in the format of the op.
    """
    own = _working_format(evidence)
    if own.unit_roundoff <= FLOAT32.unit_roundoff or not is_product(evidence.node.op):
        return [own] * len(scale)
    assert evidence.truth is not None
    result = []
    for x, truth, size in zip(evidence.reference, evidence.truth, scale, strict=True):
        terms = num_terms(evidence.node.op, [tuple(t.shape) for t in evidence.inputs], x.shape)
        result.append(FLOAT32 if contraction_bound(x, truth, size, terms, FLOAT32).is_explained else own)
    return result


def sums_in(evidence: OpEvidence, output: int) -> Format:
    """The format in which an op has to keep the sums of an output; its own where it has none."""
    measures = evidence.measures
    if measures is None or measures.sums_in is None:
        return _working_format(evidence) if _float_dtypes(evidence) else FLOAT32
    return measures.sums_in[output]


def _statistics(x: npt.NDArray[Any], truth: npt.NDArray[np.float64]) -> TruthStatistics:
    return against_truth(x, truth, flushed=format_of(x.dtype).is_flushed)


def _working_format(evidence: OpEvidence) -> Format:
    """The coarsest format among an op's inputs and outputs."""
    return max((format_of_dtype(d) for d in _float_dtypes(evidence)), key=lambda f: f.unit_roundoff)


def _float_dtypes(evidence: OpEvidence) -> list[Any]:
    return [t.dtype for t in evidence.inputs if is_float(t)] + [d for d in evidence.node.dtypes if d in FLOATS]


def _all_equal(evidence: OpEvidence) -> bool:
    return all(
        np.array_equal(a, b) or same_bits(a, b) for a, b in zip(evidence.candidate, evidence.reference, strict=True)
    )


def output_arrays(node: Node, outputs: Sequence[Any]) -> list[npt.NDArray[Any]]:
    """Tensors as arrays of their own dtypes, complex numbers as pairs: (..., 2); what holds nothing is empty."""
    arrays = [to_numpy(output) for output in outputs]
    if not has_definition(node.op):
        return arrays
    return without_placeholders(node.op, readable_attributes(node.proto), arrays)
