"""From an output out of its bound to what the hypotheses about its cause are tried on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.causes.causes import explain
from diag.causes.wrong_output import WrongOutput
from diag.engine.graphs.graph import ASSIGN_OPS, OPAQUE, Node, Port
from diag.engine.graphs.reachability import ancestors
from diag.engine.graphs.tf_runtime import FLOATS, float64_array, readable_attributes, to_numpy
from diag.engine.lanes.step_results import UnitRun
from diag.engine.localization.narrow_products import NarrowProducts, products_upstream
from diag.engine.lockstep.microscope import OpRecord
from diag.engine.step.units import Unit
from diag.engine.truth.axes import axis_names
from diag.engine.truth.op_judge import OpEvidence, OpJudge, sums_in
from diag.engine.truth.rounding_nodes import OperandRounding
from diag.engine.truth.unit_truth import SELECTING, UnitTruth
from diag.numerics.bounds import (
    CONTRACTION_MAX,
    CONTRACTION_RMS,
    RoundingSpread,
    composite_bound,
    contraction_error,
    exact_bound,
    where_both_overflow,
)
from diag.numerics.errors_against_truth import absolute_error
from diag.numerics.figures import Bound
from diag.numerics.formats import format_of
from diag.numerics.op_classes import ErrorClass, allowance_ulp
from diag.numerics.terms import terms_of
from diag.numerics.ulp import ulp_error
from diag.verdict.findings import Cause, Observation

# How far back a missing-op hypothesis looks: one op left out, or a chain of up to three.
MAX_CHAIN = 3
MAX_HYPOTHESES = 150


class OpExplainer:
    """Names the causes of single ops' errors, in the order of a step; of the first, also what else would explain it."""

    def __init__(self, judge: OpJudge) -> None:
        self.judge = judge
        self.is_first = True

    def __call__(self, record: OpRecord) -> Observation:
        cause = explain(self.wrong_output(record), with_others=self.is_first)
        self.is_first = False
        return replace(record.observation, cause=cause)

    def wrong_output(self, record: OpRecord) -> WrongOutput:
        """What is known of the output, and how to judge and recompute it; arrays of numbers, no tensors."""
        evidence, output, bound = record.evidence, record.output, record.observation.bound
        assert bound is not None
        if evidence.truth is None:  # what only hands on numbers: as the reference does
            evidence = replace(evidence, truth=evidence.reference)
        assert evidence.truth is not None
        x, reference, node = evidence.candidate[output], evidence.reference[output], evidence.node
        raw = evidence.truth[output].astype(np.float64, copy=False)
        truth = where_both_overflow(x, reference, raw)
        shown = [t for t in evidence.inputs if t.dtype not in OPAQUE]  # a list is no array
        has_list = len(shown) < len(evidence.inputs)
        wide = list(map(float64_array, shown))
        attrs = readable_attributes(node.proto)
        own_error = cache(lambda: absolute_error(x, raw).rms)
        return WrongOutput(
            output=x,
            reference=reference,
            truth=truth,
            bound=bound,
            inputs=wide,
            judge=lambda other: self._judge(evidence, output, other, own_error),
            judge_other=lambda other: self._judge_other(evidence, output, other),
            judge_given=None if has_list else lambda inputs, other: self._judge_given(evidence, output, inputs, other),
            recompute=None if has_list else lambda inputs: self._recompute(node, inputs, output),
            out_of_bound=out_of_bound(evidence, output, truth, bound),
            before=to_numpy(evidence.inputs[0]) if node.op in ASSIGN_OPS else None,
            op_type=node.op,
            terms=lambda elements: terms_of(node.op, wide, attrs, x.shape, elements),
            sums_in=sums_in(evidence, output),
            axes=axis_names(node, x.ndim),
            repeated=record.repeated,
            isolated=record.isolated,
            earlier=record.earlier,
        )

    def _judge(
        self, evidence: OpEvidence, output: int, other: npt.NDArray[np.float64], own_error: Callable[[], float]
    ) -> Bound:
        """A hypothesis has to come nearer to what was computed: an outlier also vanishes in more error everywhere."""
        assert evidence.truth is not None
        truths = list(evidence.truth)
        nearer = absolute_error(evidence.candidate[output], other.astype(np.float64, copy=False)).rms <= own_error()
        truths[output] = other
        changed = replace(evidence, truth=truths)
        bound = self.judge.against(changed, evidence.candidate, evidence.reference)[output].bound
        assert bound is not None
        return bound if nearer else replace(bound, excess=math.inf)

    def _judge_given(
        self, evidence: OpEvidence, output: int, inputs: Sequence[npt.NDArray[Any]], other: npt.NDArray[np.float64]
    ) -> Bound:
        """As if these had been the inputs: all that was measured of the op's own is measured again."""
        assert evidence.truth is not None
        truths = [other if at == output else truth for at, truth in enumerate(evidence.truth)]
        given = [tf.cast(tf.constant(x), own.dtype) for x, own in zip(inputs, evidence.inputs, strict=True)]
        changed = replace(evidence, inputs=given, truth=truths, measures=None, spreads=None, in_order={}, in_norm=None)
        bound = self.judge.against(changed, evidence.candidate, evidence.reference)[output].bound
        assert bound is not None
        return bound

    def _judge_other(self, evidence: OpEvidence, output: int, other: npt.NDArray[Any]) -> Bound:
        outputs = list(evidence.candidate)
        outputs[output] = other
        if evidence.truth is None:
            return exact_bound(other, evidence.reference[output])
        bound = self.judge.against(evidence, outputs, evidence.reference)[output].bound
        assert bound is not None
        return bound

    def _recompute(self, node: Node, inputs: Sequence[Any], output: int) -> npt.NDArray[np.float64] | None:
        try:
            found = self.judge.truth.outputs(node, [tf.constant(x) for x in inputs])
        except tf.errors.OpError:  # what a hypothesis puts in need not fit the op: rows that a shape does not know of
            return None
        return None if found is None else found[output]


def out_of_bound(
    evidence: OpEvidence, output: int, truth: npt.NDArray[np.float64], bound: Bound
) -> npt.NDArray[np.bool_]:
    """Which elements of an op's output rounding does not explain."""
    x = evidence.candidate[output]
    if x.dtype.kind in "biu" or bound.error_class is ErrorClass.EXACT:
        return np.asarray(x != truth.astype(x.dtype))
    form, measures = format_of(x.dtype), evidence.measures
    with np.errstate(all="ignore"):
        if measures is not None and measures.scale is not None and measures.sums_in is not None:
            error = contraction_error(x, truth, measures.scale[output], measures.sums_in[output])
            wrong = error > CONTRACTION_MAX
            if not wrong.any():  # out of bound as a whole, by a little everywhere
                wrong = error > CONTRACTION_RMS
        elif bound.error_class is ErrorClass.COMPOSITE:
            allowed = bound.max / bound.excess if np.isfinite(bound.excess) else 0.0
            wrong = np.abs(x.astype(np.float64) - truth) > allowed
        else:
            error = np.abs(ulp_error(x, truth, form, flushed=form.is_flushed))
            finite = np.isfinite(bound.excess) and bound.excess > 0
            wrong = error > (bound.max / bound.excess if finite else allowance_ulp(evidence.node.op, x.dtype.name))
    return np.asarray(wrong | (~np.isfinite(x) & np.isfinite(truth)))


class UnitExplainer:
    """Names the cause of a fused layer unit's error, its ops being innocent."""

    def __init__(self, truth: UnitTruth) -> None:
        self.truth = truth

    def explain(self, run: UnitRun, output: int, bound: Bound) -> Cause:
        """The cause of one output, or written variable, that is out of its bound."""
        x, reference = to_numpy(run.candidate[output]), to_numpy(run.reference[output])
        if x.dtype.kind not in "biu":
            return _WrongOutputOfUnit(self.truth, run, output).cause(bound)
        return explain(WrongOutput(  # what has no rounding is held against the reference's
            x, reference, reference.astype(np.float64), bound,
            judge=lambda other: exact_bound(x, other.astype(x.dtype)), out_of_bound=np.asarray(x != reference),
        ))  # fmt: skip


class _WrongOutputOfUnit:
    """One floating output of a unit, and its truth by hypotheses about how the unit was computed."""

    def __init__(self, truth: UnitTruth, run: UnitRun, output: int) -> None:
        self.unit_truth, self.run, self.output = truth, run, output
        self.x, self.reference = to_numpy(run.candidate[output]), to_numpy(run.reference[output])
        of_reference = truth.outputs(run.of_reference)
        self.truth = truth.outputs(run.of_candidate)[output]
        self.spread = truth.spreads(run.of_reference, of_reference, [output])[output]
        self.reference_error = absolute_error(self.reference, of_reference[output])

    def judge(self, other: npt.NDArray[np.float64], spread: RoundingSpread | None = None) -> Bound:
        """The bound against another truth.  spread: of that, by default what rounding does to the unit as it is."""
        expected = where_both_overflow(self.x, self.reference, other)
        return composite_bound(self.x, expected, spread or self.spread, self.reference_error)

    def cause(self, bound: Bound) -> Cause:
        result = explain(WrongOutput(
            self.x, self.reference, self.truth, bound, judge=self.judge, before=self._before(),
            out_of_bound=self._wrong(bound),
        ))  # fmt: skip
        if result.name == "skipped-update":
            return result
        hypotheses = (self._operand_format, self._passed_over_nan, self._missing_op)
        return next((cause for each in hypotheses if (cause := each()) is not None), result)

    def _before(self) -> npt.NDArray[Any] | None:
        index = self.output - len(self.run.unit.outputs)
        return to_numpy(self.run.state[self.run.unit.writes[index]]) if index >= 0 else None

    def _wrong(self, bound: Bound) -> npt.NDArray[np.bool_]:
        allowed = bound.max / bound.excess if np.isfinite(bound.excess) and bound.excess else self.spread.max
        with np.errstate(all="ignore"):
            return np.asarray(~(np.abs(self.x.astype(np.float64) - self.truth) <= allowed))

    def _operand_format(self) -> Cause | None:
        """The operands of the unit's products, all or some, rounded to a narrower format."""
        executable, given = self.run.unit.executable, self.run.of_candidate
        products = products_upstream(executable.graph, executable.functions, upstream_of(self.run.unit, self.output))

        def rounded(rounding: OperandRounding) -> npt.NDArray[np.float64]:
            return self.unit_truth.outputs_rounded(rounding, given)[self.output]

        def judge_with_ties(rounding: OperandRounding, truth: npt.NDArray[np.float64]) -> Bound:
            return self.judge(truth, self.unit_truth.spread_rounded(rounding, given, self.output, truth))

        return NarrowProducts(products, self.x, self.truth, rounded, self.judge, judge_with_ties).cause()

    def _passed_over_nan(self) -> Cause | None:
        """A maximum or minimum taken of the numbers alone, where NaN is among them."""
        upstream = upstream_of(self.run.unit, self.output)
        graph = self.run.unit.executable.graph
        ops = sorted({node.op for node in graph if node.name in upstream and node.op in SELECTING})
        if not ops:
            return None
        bound = self.judge(self.unit_truth.outputs_passing_over_nan(self.run.of_candidate)[self.output])
        if not bound.is_explained:
            return None
        summary = f"NaN goes into {' or '.join(ops)}, which passes over it as if it were never the one to take"
        return Cause("wrong-elements", summary, {"passes_over_nan": ops, "remaining_excess": bound.excess})

    def _missing_op(self) -> Cause | None:
        """An op, or a short chain of them, not applied: its readers got what it should have read."""
        tried = 0
        for length in range(1, MAX_CHAIN + 1):
            accepted: list[tuple[float, tuple[str, ...]]] = []
            for port, source, chain in bypasses(self.run.unit, self.output, length):
                tried += 1
                if tried > MAX_HYPOTHESES:
                    return None
                bound = self.judge(self.unit_truth.outputs_with(port, source, self.run.of_candidate)[self.output])
                if bound.is_explained:
                    accepted.append((bound.excess, chain))
            if accepted:
                accepted.sort()
                missing = list(accepted[0][1])
                others = sorted({"+".join(chain) for _, chain in accepted[1:]} - {"+".join(accepted[0][1])})
                facts = {"missing": missing, "remaining_excess": accepted[0][0]}
                also = {"also_possible": others} if others else {}
                return Cause("missing-op", f"{' and '.join(missing)} left out", {**facts, **also})
        return None


def bypasses(unit: Unit, output: int, length: int) -> list[tuple[Port, Port, tuple[str, ...]]]:
    """(port, what its readers would get instead, the op types left out) for chains of `length` ops.

    A chain can be left out where what goes in has the shape and dtype of what comes out.
    """
    graph = unit.executable.graph
    upstream = upstream_of(unit, output)
    result = []
    for node in graph:
        if node.name not in upstream or node.is_silent or not node.dtypes or node.dtypes[0] not in FLOATS:
            continue
        paths: list[tuple[Port, tuple[str, ...]]] = [(Port(node.name, 0), ())]
        for _ in range(length):
            paths = [
                (source, (*chain, graph.by_name[port.node].op))
                for port, chain in paths
                for source in graph.by_name[port.node].inputs
            ]
        for source, chain in paths:
            if graph.dtype(source) == node.dtypes[0] and graph.shape(source) == node.shapes[0]:
                result.append((Port(node.name, 0), source, tuple(reversed(chain))))
    return result


def upstream_of(unit: Unit, output: int) -> Set[str]:
    """Names of the nodes that an output of a unit, or a variable it writes, depends on."""
    graph = unit.executable.graph
    if output < len(unit.outputs):
        start = [unit.outputs[output].node]
    else:
        start = [node.name for node in graph if node.op in ASSIGN_OPS]
    return ancestors(graph, start)
