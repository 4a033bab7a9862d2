"""What flipped: decisions that two lanes took differently because their values differ a little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.graphs.graph import Node
from diag.engine.graphs.tf_runtime import FLOATS, to_numpy

# Ops that ask on which side of some numbers an input lies: which input, which numbers.
_SIGNS: dict[str, tuple[int, tuple[float, ...], str]] = {
    "Relu": (0, (0.0,), "ReLU signs"),
    "ReluGrad": (1, (0.0,), "ReLU signs"),
    "Relu6": (0, (0.0, 6.0), "ReLU6 regions"),
    "Relu6Grad": (1, (0.0, 6.0), "ReLU6 regions"),
    "LeakyRelu": (0, (0.0,), "leaky ReLU signs"),
    "LeakyReluGrad": (1, (0.0,), "leaky ReLU signs"),
    "EluGrad": (1, (0.0,), "ELU signs"),
    "SeluGrad": (1, (0.0,), "SELU signs"),
    "Sign": (0, (0.0,), "signs"),
}


def flipped(
    node: Node, reference: Sequence[Any], candidate: Sequence[Any], outputs: Sequence[Any], own: Sequence[Any]
) -> str:
    """`"3 of 400 max-pool winners"`: what the lanes decided differently in one op; "" where nothing.

    Args:
        reference, candidate: the op's inputs in each lane, tensors.
        outputs, own: its outputs in each lane, arrays.
    """
    if node.op in _SIGNS:
        position, limits, words = _SIGNS[node.op]
        sides = [np.searchsorted(limits, to_numpy(x[position]).astype(np.float64)) for x in (reference, candidate)]
        return _counted(sides[0] != sides[1], words)
    if node.op in ("MaxPool", "MaxPoolGrad"):
        winners = [_winners(node, x[0]) for x in (reference, candidate)]
        if winners[0] is not None and winners[1] is not None:
            return _counted(winners[0] != winners[1], "max-pool winners")
        return ""
    if node.op in ("Select", "SelectV2"):
        return _counted(to_numpy(reference[0]) != to_numpy(candidate[0]), "choices")
    whole = [(a, b) for a, b in zip(outputs, own, strict=True) if a.dtype.kind in "biu" and a.shape == b.shape]
    words = "booleans" if whole and whole[0][0].dtype.kind == "b" else "integers"
    return _counted(whole[0][0] != whole[0][1], words) if whole else ""


def _winners(node: Node, images: Any) -> np.ndarray | None:
    """Which element of each window is the largest, None where the pool is none that can be asked."""
    attr = node.proto.attr
    if attr["data_format"].s not in (b"NHWC", b"") or images.dtype not in FLOATS:
        return None
    padding = attr["padding"].s.decode()
    if padding not in ("SAME", "VALID"):
        return None
    with tf.device("CPU:0"):
        found = tf.nn.max_pool_with_argmax(
            tf.cast(images, tf.float32), list(attr["ksize"].list.i), list(attr["strides"].list.i), padding
        )
    return to_numpy(found.argmax)


def _counted(differs: np.ndarray, words: str) -> str:
    num = int(np.count_nonzero(differs))
    return f"{num:,} of {differs.size:,} {words}" if num else ""
