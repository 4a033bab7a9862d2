"""What softmaxes and their cross-entropies may lose, element by element.

exp(x - max) is off by u |x - max|, since the difference is rounded before it is raised to a power; the denominator is
off by the mean of that over the distribution, and by its own sum.  So a small probability is held to its own size, and
not to the largest of the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SOFTMAXES = {"Softmax", "LogSoftmax", "SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"}
# Of the denominator: n terms one after the other lose about sqrt(n) (Higham and Mary 2019).  30,000 equal ones on an
# x86 CPU lost 15 units, where this gives 43; TensorFlow's own kernels lost at most 1.
PER_SQRT_N = 0.25


def sizes_of(op_type: str, inputs: Sequence[npt.NDArray[Any]]) -> list[Array]:
    """What each output's error is a multiple of u of, by the output; `inputs` are the op's, labels last.

    Raises KeyError for another op.
    """
    if op_type not in SOFTMAXES:
        raise KeyError(op_type)
    logits = inputs[0].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        below = np.abs(logits - logits.max(axis=-1, keepdims=True))
        exponentials = np.exp(-below)
        total = exponentials.sum(axis=-1, keepdims=True)
        probabilities = exponentials / total
        in_denominator = np.where(probabilities > 0, probabilities * below, 0.0).sum(axis=-1, keepdims=True)
        relative = 1 + below + in_denominator + PER_SQRT_N * np.sqrt(logits.shape[-1])
        of_probability = np.where(probabilities > 0, probabilities * relative, 0.0)
        of_log = np.where(np.isfinite(relative), relative + np.log(total), 0.0)  # where a logit is -inf, so is its log
    if op_type == "Softmax":
        return [of_probability]
    if op_type == "LogSoftmax":
        return [of_log]
    if op_type == "SparseSoftmaxCrossEntropyWithLogits":
        labels = np.eye(logits.shape[-1])[np.clip(inputs[1].astype(np.int64), 0, logits.shape[-1] - 1)]
    else:
        labels = np.abs(np.broadcast_to(inputs[1].astype(np.float64), logits.shape))
    of_loss = np.where(labels > 0, labels * of_log, 0.0).sum(axis=-1)
    return [of_loss, of_probability + labels]
