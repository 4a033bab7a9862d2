"""Where wrong elements are, in words: axis by axis, what holds them all."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def describe_elements(wrong: npt.NDArray[Any]) -> dict[str, Any]:
    """`{"num_wrong": 3, "size": 64, "where": "axis 3: only 127"}`; axes that say nothing are left out.

    wrong: bool, any shape.
    """
    wrong = np.asarray(wrong, bool)
    found: dict[str, Any] = {"num_wrong": int(wrong.sum()), "size": int(wrong.size)}
    if found["num_wrong"] and wrong.ndim:
        parts = [_axis(wrong, axis) for axis in range(wrong.ndim)]
        said = [f"axis {axis}: {part}" for axis, part in enumerate(parts) if part]
        found["where"] = "; ".join(said) or "scattered over all axes"
    return found


def _axis(wrong: npt.NDArray[Any], axis: int) -> str:
    """What is special about the indices along one axis that hold wrong elements."""
    length = wrong.shape[axis]
    others = tuple(i for i in range(wrong.ndim) if i != axis)
    touched = np.flatnonzero(wrong.any(axis=others)) if others else np.flatnonzero(wrong)
    if touched.size == length or length == 1:
        return ""
    first, last = int(touched[0]), int(touched[-1])
    if touched.size == 1:
        return f"only {first}" + (" (the last)" if first == length - 1 else "")
    steps = np.unique(np.diff(touched))
    if steps.size == 1 and steps[0] > 1:
        return f"every {int(steps[0])}th from {first}"
    if steps.size == 1 and last == length - 1:
        return f"from {first} to the end"
    if steps.size == 1 and first == 0:
        return f"before {last + 1}"
    if steps.size == 1:
        return f"{first} to {last}"
    if touched.size <= 4:
        return "only " + ", ".join(str(int(i)) for i in touched)
    return f"{touched.size} of {length}" if touched.size < 0.9 * length else ""
