"""Holding one op's outputs against truth: from tensors of the engine to bounds of the numerics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.engine.execution import FLOATS, to_numpy
from diag.engine.graph import Node
from diag.engine.promotion import is_random
from diag.engine.truth import Arrays, OpTruth
from diag.numerics.bounds import (
    Bound,
    absolute_error,
    allowance_bound,
    composite_bound,
    contraction_bound,
    exact_bound,
    normwise_bound,
    where_both_overflow,
)
from diag.numerics.figures import TruthStatistics
from diag.numerics.formats import Format, format_of
from diag.numerics.op_classes import ErrorClass, allowance_ulp, class_of
from diag.numerics.statistics import against_truth

DECISION_FLIP = "decision-flip"
NORMWISE = "algorithm:normwise"


@dataclass(frozen=True)
class OpJudgement:
    """One output of one op at one place: `bound` is None where there is no truth, `note` says why."""

    bound: Bound | None
    statistics: TruthStatistics | None = None
    note: str = ""


@dataclass
class OpEvidence:
    """What one op did: its inputs (tensors), and numpy outputs of the lanes on those inputs.

    For an op that writes a variable, `inputs[0]` is the value before and `outputs` the value after.
    """

    node: Node
    inputs: Sequence[Any]
    candidate: list[npt.NDArray[Any]]
    reference: list[npt.NDArray[Any]]
    truth: Arrays | None = None
    scale: list[npt.NDArray[Any]] | None = None

    @property
    def error_class(self) -> ErrorClass:
        if self.candidate and self.candidate[0].dtype.kind in "biu":
            return ErrorClass.EXACT
        return class_of(self.node.op)


class OpJudge:
    """Judges ops, sharing what the two lanes' judgements have in common."""

    def __init__(self) -> None:
        self.truth = OpTruth()

    def judge(self, evidence: OpEvidence) -> list[OpJudgement]:
        """Judge the candidate's outputs; fills in the evidence's truth and scale."""
        if is_random(evidence.node.op):
            return [OpJudgement(None, note="random") for _ in evidence.candidate]
        if evidence.error_class is ErrorClass.EXACT and _all_equal(evidence):
            return [OpJudgement(exact_bound(x, x)) for x in evidence.candidate]
        if evidence.truth is None:
            evidence.truth = self.truth.outputs(evidence.node, evidence.inputs)
        if evidence.truth is None and evidence.error_class is ErrorClass.EXACT:
            pairs = zip(evidence.candidate, evidence.reference, strict=True)
            return [OpJudgement(exact_bound(x, reference)) for x, reference in pairs]
        if evidence.truth is None:
            return [OpJudgement(None, note="no float64 kernel") for _ in evidence.candidate]
        return self.against(evidence, evidence.candidate, evidence.reference)

    def reference(self, evidence: OpEvidence) -> list[OpJudgement]:
        """The same judgement of the reference's outputs; call after `judge`."""
        if evidence.truth is None:
            return [OpJudgement(None) for _ in evidence.reference]
        return self.against(evidence, evidence.reference, evidence.candidate)

    def against(
        self, evidence: OpEvidence, outputs: Sequence[npt.NDArray[Any]], others: Sequence[npt.NDArray[Any]]
    ) -> list[OpJudgement]:
        assert evidence.truth is not None
        if evidence.error_class is ErrorClass.CONTRACTION and evidence.scale is None:
            evidence.scale = self.truth.scale(evidence.node, evidence.inputs)
        sticks = None
        if evidence.error_class is ErrorClass.COMPOSITE:
            sticks = self.truth.yardsticks(evidence.node, evidence.inputs, evidence.truth)
        found = []
        for index, (x, other, raw) in enumerate(zip(outputs, others, evidence.truth, strict=True)):
            if x.dtype.kind in "biu":
                found.append(OpJudgement(exact_bound(x, raw.astype(x.dtype))))
                continue
            expected = where_both_overflow(x, other, raw)
            statistics = against_truth(x, expected, flushed=True)
            if sticks is not None:
                error = absolute_error(other, where_both_overflow(other, x, raw))
                bound = composite_bound(x, expected, sticks[index], error)
            else:
                bound = self._bound(evidence, index, x, expected, statistics)
            note = ""
            if not bound.is_explained and (normwise := self._normwise(evidence, index, x, expected)) is not None:
                bound, note = normwise, NORMWISE
            if not bound.is_explained and (settled := settle_ties(evidence, x, expected)) is not None:
                again = self._bound(evidence, index, x, settled, against_truth(x, settled, flushed=True))
                bound, note = (again, DECISION_FLIP) if again.is_explained else (bound, note)
            found.append(OpJudgement(bound, statistics, note))
        return found

    @staticmethod
    def _normwise(
        evidence: OpEvidence, index: int, x: npt.NDArray[Any], expected: npt.NDArray[np.float64]
    ) -> Bound | None:
        """The bound of a convolution that was computed by way of a transform, where that explains it."""
        if evidence.scale is None or not evidence.node.op.startswith(("Conv", "DepthwiseConv")):
            return None
        bound = normwise_bound(x, expected, evidence.scale[index], _working_format(evidence))
        return bound if bound.is_explained else None

    def _bound(
        self, evidence: OpEvidence, index: int, x: npt.NDArray[Any], expected: npt.NDArray[np.float64],
        statistics: TruthStatistics,
    ) -> Bound:  # fmt: skip
        kind, op = evidence.error_class, evidence.node.op
        if kind is ErrorClass.EXACT:
            return exact_bound(x, expected.astype(x.dtype))
        if kind is ErrorClass.CONTRACTION and evidence.scale is not None:
            terms = num_terms(op, [tuple(t.shape) for t in evidence.inputs], x.shape)
            return contraction_bound(x, expected, evidence.scale[index], terms, _working_format(evidence))
        return allowance_bound(statistics, allowance_ulp(op), kind)


def settle_ties(
    evidence: OpEvidence, x: npt.NDArray[Any], truth: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64] | None:
    """Truth of a max-pool's gradient with the ties decided as the output at hand decided them.

    Where several elements of a window are the largest, the gradient may go to any of them: each is
    a subgradient.  None where the op has no ties, or where what was handed out is not what came in.
    """
    node = evidence.node
    if node.op != "MaxPoolGrad" or node.proto.attr["data_format"].s not in (b"NHWC", b""):
        return None
    tied = _tied(node, *(tf.cast(t, tf.float64) for t in evidence.inputs[:2]))
    settled = np.where(tied, x.astype(np.float64), truth)
    moved = abs(float(settled.sum() - truth.sum()))
    handed_out = float(np.abs(truth[tied]).sum())
    unit = format_of(x.dtype).unit_roundoff
    return settled if moved <= 16 * unit * handed_out + format_of(x.dtype).smallest_normal else None


def _tied(node: Node, inputs: tf.Tensor, outputs: tf.Tensor) -> npt.NDArray[np.bool_]:
    """Which elements of a pool's input share the maximum of some window with another."""
    attr = node.proto.attr
    sizes, strides = list(attr["ksize"].list.i), list(attr["strides"].list.i)
    batch, height, width, channels = outputs.shape
    with tf.device("CPU:0"), tf.GradientTape() as tape:
        source = tf.identity(inputs)
        tape.watch(source)
        patches = tf.image.extract_patches(source, sizes, strides, [1, 1, 1, 1], attr["padding"].s.decode())
        windows = tf.reshape(patches, (batch, height, width, sizes[1] * sizes[2], channels))
        winners = tf.cast(tf.equal(windows, outputs[:, :, :, None, :]), tf.float64)
        in_tie = winners * tf.cast(tf.reduce_sum(winners, 3, keepdims=True) > 1, tf.float64)
        marked = tf.reduce_sum(windows * tf.stop_gradient(in_tie))
    return np.asarray(to_numpy(tape.gradient(marked, source)) != 0)


def _working_format(evidence: OpEvidence) -> Format:
    """The coarsest format among an op's inputs and outputs."""
    return max((format_of(d.as_numpy_dtype) for d in _float_dtypes(evidence)), key=lambda f: f.unit_roundoff)


def _float_dtypes(evidence: OpEvidence) -> list[Any]:
    dtypes = [t.dtype for t in evidence.inputs if t.dtype in FLOATS] + [d for d in evidence.node.dtypes if d in FLOATS]
    return dtypes


def _all_equal(evidence: OpEvidence) -> bool:
    return all(
        np.array_equal(a, b) or _same_bits(a, b) for a, b in zip(evidence.candidate, evidence.reference, strict=True)
    )


def _same_bits(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def num_terms(op: str, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> float:
    """About how many terms each element of a contraction sums, from the shapes alone."""
    sizes = [math.prod(shape) for shape in inputs if len(shape) > 0] or [1]
    size = max(math.prod(output), 1)
    if op in ("Conv2D", "DepthwiseConv2dNative", "Conv3D"):
        return max(math.prod(inputs[1][:-1]), 1)
    if op.endswith("BackpropInput") or op.startswith("Conv3DBackpropInput"):
        kernel = inputs[1]
        return max(math.prod(kernel[:-2]) * kernel[-1], 1)
    if "BackpropFilter" in op:
        return max(math.prod(inputs[2][:-1]), 1)
    if "MatMul" in op or op == "Einsum":
        return max(math.sqrt(math.prod(sizes[:2]) / size), 1.0) if len(sizes) > 1 else 1.0
    return max(max(sizes) / size, 2.0)


def output_arrays(outputs: Sequence[Any]) -> list[npt.NDArray[Any]]:
    return [to_numpy(output) for output in outputs]
