"""What counts as a floating array: `ml_dtypes.bfloat16` is none to NumPy."""

from __future__ import annotations

import numpy as np


def is_floating(array: np.ndarray) -> bool:
    return array.dtype.name in ("float16", "bfloat16", "float32", "float64")
