"""Arrays held against each other bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def same_bits(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Whether two arrays have one dtype, one shape and the same bits: -0 is not 0, and NaN is NaN if its bits are."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.hasobject:
        return a.tobytes() == b.tobytes()
    encoding = f"u{a.itemsize}" if a.itemsize in (1, 2, 4, 8) else "u1"  # no copies, as bytes would be
    one, other = (np.ascontiguousarray(x).reshape(-1).view(encoding) for x in (a, b))
    return bool(np.array_equal(one, other))
