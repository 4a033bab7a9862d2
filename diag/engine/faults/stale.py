"""A place that reuses a buffer without clearing it when the batch has become smaller."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diag.engine.faults.recompute import is_floating, recompute
from diag.engine.faults.simulation import Call, Simulation


def stale_partial_batch() -> Simulation:
    """Sums over the batch still run over the rows that a larger batch left behind.

    The buffers are what the place remembers of its own calls: the same op by itself, at a place
    that has seen no larger batch, is right.
    """
    return Simulation("stale-partial-batch", _with_old_rows, op_types=frozenset(_SUMS_OVER_BATCH))


def _over_first_axis(call: Call) -> bool:
    axes = np.atleast_1d(call.inputs[1])
    return bool(call.inputs[0].ndim and np.any((axes == 0) | (axes == -call.inputs[0].ndim)))


# For each op that sums over the batch, whether a call of it does.
_SUMS_OVER_BATCH: dict[str, Callable[[Call], bool]] = {
    "BiasAddGrad": lambda call: True,
    "Conv2DBackpropFilter": lambda call: True,
    "DepthwiseConv2dNativeBackpropFilter": lambda call: True,
    "MatMul": lambda call: bool(call.attrs["transpose_a"] and not call.attrs["transpose_b"]),
    "Mean": _over_first_axis,
    "Sum": _over_first_axis,
}


def _with_old_rows(call: Call) -> list[np.ndarray] | None:
    if not _SUMS_OVER_BATCH[call.op_type](call):
        return None
    # The batched inputs are the floating ones; the others say axes or a shape.
    inputs = [
        _buffered(call, position, array) if is_floating(array) else array for position, array in enumerate(call.inputs)
    ]
    num_rows, num_buffered = len(call.inputs[0]), len(inputs[0])
    if num_rows == num_buffered:
        return None
    (result,) = recompute(call, inputs)
    if call.op_type == "Mean":  # the sum has the old rows, the divisor has not
        result = (result * (num_buffered / num_rows)).astype(result.dtype)
    return [result]


def _buffered(call: Call, position: int, rows: np.ndarray) -> np.ndarray:
    """The buffer that `rows` were written to: theirs, then what was there before."""
    key = call.index, position
    old = call.memory.get(key, rows)
    fits = old.shape[1:] == rows.shape[1:]
    buffer = np.concatenate([rows, old[len(rows) :]]) if fits else np.array(rows)
    call.memory[key] = buffer
    return buffer
