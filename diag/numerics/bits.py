"""Arrays held against each other bit by bit."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt


def same_bits(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
