"""Functions computed by a fast approximation, in float32."""

from __future__ import annotations

import numpy as np

from diag.engine.faults.simulation import Call, Simulation
from diag.numerics.formats import float32_with_precision, round_to

_WIDTH = 2.0**-17  # the largest relative error of the approximated functions
_TWELVE_BITS = float32_with_precision(12)


def exp_log_approx() -> Simulation:
    """Exp, Log, Tanh and Softplus are off by a factor of 1 + e, |e| <= 2^-17."""
    return Simulation("exp-log-approx", _off, op_types=frozenset({"Exp", "Log", "Tanh", "Softplus"}))


def rsqrt_12bit() -> Simulation:
    """Rsqrt and Sqrt have 12 correct bits, as an estimate without a Newton step."""
    return Simulation("rsqrt-12bit", _estimated, op_types=frozenset({"Rsqrt", "Sqrt"}))


def _off(call: Call) -> list[np.ndarray] | None:
    """e is a scramble of the right result's bits: no pattern, and the same for the same result."""
    (right,) = call.outputs
    if right.dtype != np.float32:
        return None
    scrambled = np.ascontiguousarray(right).view(np.uint32) * np.uint32(2654435761)  # Knuth: 2^32 / golden ratio
    e = _WIDTH * (scrambled.astype(np.float64).reshape(right.shape) / 2**31 - 1)
    with np.errstate(over="ignore"):
        return [(right.astype(np.float64) * (1 + e)).astype(np.float32)]


def _estimated(call: Call) -> list[np.ndarray] | None:
    (right,) = call.outputs
    return [round_to(right, _TWELVE_BITS)] if right.dtype == np.float32 else None
