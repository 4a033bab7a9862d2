"""Places whose MatMul is a tensor core's, for `sim:FILE.py:FUNCTION`: blocks added as one, cut off, truncated.

Widths are those that Fasi, Higham, Mikaitis, Pranesh 2021 and FTTN 2024 report for V100 (blocks of 4, no extra bits)
and, in kind, for later cores (wider blocks, extra bits, TF32 operands).
"""

from __future__ import annotations

from typing import Any

import numpy as np


def blocks_of_4(call: Any) -> list[np.ndarray] | None:
    """float16 only."""
    return _product(call, 4, 0) if _is(call, np.float16) else None


def blocks_of_8(call: Any) -> list[np.ndarray] | None:
    """All dtypes, 2 extra bits; float32 operands cut off to TF32."""
    return _product(call, 8, 2) if call.op_type == "MatMul" else None


def _is(call: Any, dtype: Any) -> bool:
    return call.op_type == "MatMul" and call.outputs[0].dtype == dtype


def _product(call: Any, block: int, extra: int) -> list[np.ndarray]:
    a, b = call.inputs
    if a.dtype == np.float32:
        a, b = ((x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for x in (a, b))
    a, b = a.astype(np.float64), b.astype(np.float64)
    total = np.zeros((a.shape[0], b.shape[1]))
    with np.errstate(all="ignore"):
        for k in range(0, a.shape[1], block):
            products = a.T[k : k + block, :, None] * b[k : k + block, None, :]
            terms = np.concatenate([total[None], products])
            grid = _last_place(np.abs(terms).max(axis=0)) * 2.0**-extra
            exact = np.trunc(terms / grid).sum(axis=0) * grid
            total = np.trunc(exact / _last_place(np.abs(exact))) * _last_place(np.abs(exact))
        return [total.astype(np.float32).astype(call.outputs[0].dtype)]


def _last_place(size: np.ndarray) -> np.ndarray:
    return np.where(size > 0, np.ldexp(1.0, np.frexp(np.where(size > 0, size, 1.0))[1] - 24), 1.0)
