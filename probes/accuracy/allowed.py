"""Which allowances a place is held to, and which results are beyond them.  No TensorFlow here."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.machine.places import Place
from diag.numerics.allowances import DEFAULT_PLACE, DERIVED, MEASURED, AllowanceRow, published
from diag.numerics.formats import Format
from diag.numerics.ulp import ulp

# A result that is computed from others may lose so many times the smallest normal number where subnormals are flushed:
# Eigen's reciprocal of 2^114 is off by 4,077 ULP, 2^-126, as the last correction it adds is flushed.
FLUSHED_TERMS = 4
FORMULA = "the sum of what the formula's operations may lose, in ULP of its largest term"
_SLACK = 1 + 2.0**-20  # half an ULP must pass although truth itself was rounded


@dataclass(frozen=True)
class Limits:
    """What results are held to, in ULP: `promised` is published or derived; `seen` was measured and is wider, or None.

    Without a `promised` there is nothing to hold a result to.
    """

    promised: AllowanceRow | None
    seen: AllowanceRow | None = None

    @property
    def ulp(self) -> float:
        return self.promised.ulp if self.promised else math.inf


def kinds_of(place: Place) -> tuple[str, ...]:
    """The kinds of place whose rows a place is held to, its own first; TensorFlow's GPU kernels use XLA's functions."""
    is_gpu = not place.device.startswith("CPU")
    if place.execution == "xla":
        return ("xla-gpu" if is_gpu else "xla-cpu", DEFAULT_PLACE)
    if is_gpu:
        return ("metal", DEFAULT_PLACE) if sys.platform == "darwin" else ("cuda", "xla-gpu", DEFAULT_PLACE)
    return ("tensorflow-cpu", DEFAULT_PLACE)


def limits_of(op: str, dtype_name: str, place: Place, terms_ulp: float | None = None) -> Limits:
    """The widest row of its kind of place or of any place, and what was measured beyond.

    terms_ulp: for an op that no row is about, what its formula's operations may lose.
    """
    rows = [row for row in (*published(op, dtype_name), *_known(op, dtype_name)) if row.place in kinds_of(place)]
    promised = max((row for row in rows if row.basis != MEASURED), key=lambda row: row.ulp, default=None)
    seen = max((row for row in rows if row.basis == MEASURED), key=lambda row: row.ulp, default=None)
    if promised is None and terms_ulp is not None:
        promised = AllowanceRow(op, dtype_name, DEFAULT_PLACE, terms_ulp, DERIVED, FORMULA)
    if promised is None or seen is None or seen.ulp <= promised.ulp:
        return Limits(promised)
    return Limits(promised, seen)


def _known(op: str, dtype_name: str) -> list[AllowanceRow]:
    return [row for row in KNOWN if (row.op_type, row.dtype) == (op, dtype_name)]


_ALL_INPUTS = "all inputs on an x86 CPU with AVX-512, TensorFlow 2.21 (docs/PROBES.md)"
KNOWN: tuple[AllowanceRow, ...] = (
    AllowanceRow("Log", "float32", "tensorflow-cpu", 3.5, MEASURED, _ALL_INPUTS),  # 3.4711 at 1.13307
    AllowanceRow("Tanh", "float32", "tensorflow-cpu", 6.2, MEASURED, _ALL_INPUTS),  # 6.1399 at 6.53399
    AllowanceRow("Reciprocal", "float32", "tensorflow-cpu", 2.8, MEASURED, _ALL_INPUTS),  # 2.7148 at 1.197e-38
    AllowanceRow("Exp", "float32", "xla-cpu", 5.6, MEASURED, _ALL_INPUTS),  # 5.5112 at 88.7217
    AllowanceRow("Sigmoid", "float16", "xla-cpu", 256, MEASURED, _ALL_INPUTS),  # exp(11.1) overflows: 0 for 0.0000152
)
"""What TensorFlow is known to do beyond what lockstep itself allows; a card shows it as a note."""


def excess_error(
    y: npt.NDArray[Any], truth: npt.NDArray[np.float64], format: Format, scale: npt.ArrayLike = 0.0
) -> npt.NDArray[np.float64]:
    """|y - truth| in ULP, of `scale` where that is larger, less what flushed intermediate results explain.

    An infinity for a finite number, or the other way, counts as 2^(largest exponent + 1), as in Ulp_Error of the OpenCL
    conformance tests; but where truth itself is infinite, or NaN, y must be as well, or its error is infinite.
    """
    beyond = math.ldexp(1.0, format.max_exponent + 1)
    with np.errstate(invalid="ignore", over="ignore"):
        values = y.astype(np.float64)
        same = (values == truth) | (np.isnan(values) & np.isnan(truth))
        same |= np.isinf(values) & _overflows(truth, values, format)
        wrong = np.isnan(values) | np.isnan(truth) | (np.isinf(truth) & np.isfinite(values))
        wrong |= np.isinf(values) & np.isinf(truth)
        x, r = np.clip(values, -beyond, beyond), np.clip(truth, -beyond, beyond)
        size = np.minimum(np.maximum(np.abs(r), scale), format.largest)
        size = np.where(np.isnan(size), np.abs(r), size)
        unit = ulp(np.where(np.isfinite(size), size, 1.0), format)
        lost = FLUSHED_TERMS * format.smallest_normal if format.is_flushed else 0.0
        error = np.maximum(np.abs(x - r) - lost, 0.0) / unit
    return np.where(same, 0.0, np.where(wrong, np.inf, error))


def _overflows(
    truth: npt.NDArray[np.float64], values: npt.NDArray[np.float64], format: Format
) -> npt.NDArray[np.bool_]:
    return (np.abs(truth) >= format.overflow_threshold) & (np.sign(truth) == np.sign(values))


def in_short(row: AllowanceRow) -> str:
    """Who says so, in a word or two."""
    return re.split(r"[:(;,]", row.source)[0].strip() if row.basis not in (MEASURED, DERIVED) else row.basis


def num_beyond(error: npt.NDArray[np.float64], limit: float) -> int:
    return int(np.count_nonzero(error > limit * _SLACK))
