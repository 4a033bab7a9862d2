"""Arrays held against each other bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def same_bits(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Whether dtype, shape and every bit are the same; no copy is made of arrays in C order."""
    return a.dtype == b.dtype and a.shape == b.shape and bool(np.array_equal(_bytes_of(a), _bytes_of(b)))


def _bytes_of(x: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(x).reshape(-1).view(np.uint8)
