"""Whether a place flushes subnormals, read from what a function of one argument makes of them.  No TensorFlow here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.formats import Format
from probes.frame.device_report import Value

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
KEPT, FLUSHED, MIXED = "kept", "flushed", "some flushed"


def subnormal_facts(
    function: Callable[..., Array], x: Array, truth: Array, y: npt.NDArray[Any], format: Format
) -> dict[str, Value]:
    """`subnormals_in`: arguments; `_out`: results of normal arguments; `_through`: results of subnormal ones.

    Only what the function can tell: exp(x) is 1 whether a subnormal x is flushed or not.
    """
    values = y.astype(np.float64)
    tiny_in = _tiny(x, format) & (x != 0)
    tiny_out = _tiny(truth, format) & (np.abs(truth) >= 2 * format.smallest_subnormal)
    tiny_out &= np.abs(truth) <= 0.9 * format.smallest_normal  # rounding leaves it subnormal
    at_zero = np.asarray(function(np.copysign(0.0, x)), np.float64)
    far = np.abs(truth - at_zero) > 0.1 * np.abs(truth)  # log of a subnormal, and of zero
    telling = tiny_in & ~_tiny(truth, format) & (np.abs(truth) < format.largest) & far
    nearer_zero = np.where(np.isinf(at_zero), values == at_zero, np.abs(values - at_zero) < np.abs(values - truth))
    facts = {
        "subnormals_in": _word(nearer_zero[telling]),
        "subnormals_out": _word(values[tiny_out & ~tiny_in] == 0),
        "subnormals_through": _word(values[tiny_out & tiny_in] == 0),
    }
    return {name: word for name, word in facts.items() if word}


def _tiny(x: Array, format: Format) -> Mask:
    return np.abs(x) < format.smallest_normal


def _word(flushed: Mask) -> str:
    if not flushed.size:
        return ""
    return FLUSHED if flushed.all() else MIXED if flushed.any() else KEPT


def subnormal_words(figures: Mapping[str, Value]) -> str:
    """The facts as the end of a line; nothing where there is none."""
    found = [
        f"{figures[name]} {name.removeprefix('subnormals_')}"
        for name in ("subnormals_in", "subnormals_out", "subnormals_through")
        if name in figures
    ]
    return f"; subnormals {', '.join(found)}" if found else ""
