"""Ties of a max-pool, decided as the output at hand decided them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.engine.graphs.graph import Node
from diag.engine.graphs.tf_runtime import to_numpy
from diag.numerics.formats import format_of


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
