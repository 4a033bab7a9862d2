"""Results that are not unique: winners among equals, and vectors that are determined up to their sign.

They are judged by what defines them: the keys that were chosen, residuals, orthogonality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.engine.graphs.graph import Node
from diag.engine.graphs.tf_runtime import REALS, format_of_dtype, to_numpy
from diag.engine.truth.own_decisions import GATES
from diag.numerics.bounds import exact_bound
from diag.numerics.decompositions import THRESHOLD, ratio_of
from diag.numerics.figures import Bound
from diag.numerics.formats import format_of
from diag.numerics.op_classes import CHOOSING, ErrorClass

DECISION_FLIP = "decision-flip"
_RESIDUALS = "residuals and orthogonality in n eps |A|, as LAPACK tests them"
_AMONG_EQUALS = "equal keys"


@dataclass(frozen=True)
class Settled:
    """How an output that is not the one expected is right all the same: by its bound, and in words."""

    bound: Bound
    decided: str


def settled(
    node: Node, inputs: Sequence[Any], outputs: Sequence[npt.NDArray[Any]], index: int, expected: npt.NDArray[Any]
) -> Settled | None:
    """An output held to what defines it; None where it has to be the one expected.

    Args:
        inputs: tensors.
        outputs: all of the op's, of one lane; index: which of them is in question, expected: what truth has there.
    """
    if node.op in CHOOSING and outputs[index].dtype.kind in "iu":
        return _among_equals(node, inputs, outputs[index], expected)
    if node.op in GATES:
        return _by_a_closed_gate(node, inputs, outputs[index], expected)
    return _by_residuals(node, inputs, outputs)


def _among_equals(
    node: Node, inputs: Sequence[Any], chosen: npt.NDArray[Any], expected: npt.NDArray[Any]
) -> Settled | None:
    """Whether the keys at the chosen places are those at the expected ones, each place chosen once."""
    keys = to_numpy(inputs[0])
    axis = -1 if node.op == "TopKV2" else int(to_numpy(inputs[1]))
    found, right = (np.moveaxis(x, axis, -1) if node.op == "TopKV2" else x[..., None] for x in (chosen, expected))
    rows = np.moveaxis(keys, axis, -1)
    if found.shape != right.shape or np.any((found < 0) | (found >= rows.shape[-1])):
        return None
    in_order = np.sort(found, axis=-1)
    taken, wanted = (np.take_along_axis(rows, places.astype(np.int64), -1) for places in (found, right))
    if np.any(taken != wanted) or np.any(in_order[..., 1:] == in_order[..., :-1]):
        return None
    differs = found != right
    first = tuple(int(i) for i in np.argwhere(differs)[0])
    decided = (
        f"{int(differs.sum()):,} of {found.size:,} winners among equal keys: in row {first[:-1]} the key "
        f"{taken[first].item():.6g} is at {found[first]} and at {right[first]}"
    )
    return Settled(Bound(ErrorClass.EXACT, 0.0, 0.0, 0.0, _AMONG_EQUALS), decided)


def _by_a_closed_gate(
    node: Node, inputs: Sequence[Any], x: npt.NDArray[Any], expected: npt.NDArray[Any]
) -> Settled | None:
    """Whether a kernel passes over what a closed gate holds back, which others multiply by zero into NaN."""
    with tf.device("CPU:0"):
        passed = getattr(tf.raw_ops, node.op)(gradients=tf.ones_like(inputs[1]), features=inputs[1])
    passed_over = np.isnan(expected) & (x == 0) & (to_numpy(passed) == 0)
    bound = exact_bound(x, np.where(passed_over, 0.0, expected).astype(x.dtype))
    decided = (
        f"{int(passed_over.sum()):,} of {x.size:,} gradients are not finite behind a closed gate, and are zero here"
    )
    return Settled(bound, decided)


def _by_residuals(node: Node, inputs: Sequence[Any], outputs: Sequence[npt.NDArray[Any]]) -> Settled | None:
    if inputs[0].dtype not in REALS:
        return None
    matrix, results = (to_numpy(inputs[0]).astype(np.float64), [x.astype(np.float64) for x in outputs])
    ratio = ratio_of(node.op, matrix, results, format_of_dtype(inputs[0].dtype))
    if ratio is None:
        return None
    bound = Bound(ErrorClass.COMPOSITE, ratio / THRESHOLD, ratio, ratio, _RESIDUALS)
    return Settled(
        bound, f"vectors with other signs, or rotated among equal values; residuals of {ratio:.2g} n eps |A|"
    )


def settle_ties(
    node: Node, inputs: Sequence[Any], x: npt.NDArray[Any], truth: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64] | None:
    """Truth of a max-pool's gradient with the ties decided as the output at hand decided them.

    Where several elements of a window are the largest, the gradient may go to any of them: each is
    a subgradient.  None where the op has no ties, or where what was handed out is not what came in.
    """
    if node.op != "MaxPoolGrad" or node.proto.attr["data_format"].s not in (b"NHWC", b""):
        return None
    tied = _tied(node, *(tf.cast(t, tf.float64) for t in inputs[:2]))
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
