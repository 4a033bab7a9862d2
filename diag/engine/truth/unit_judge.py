"""A layer unit's outputs against float64 truth, as op_judge has an op's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from diag.engine.graphs.graph import Port
from diag.engine.graphs.tf_runtime import FLOATS
from diag.engine.lanes.step_results import UnitRun
from diag.numerics.bounds import RoundingSpread


@dataclass(frozen=True)
class GradientTruth:
    """Float64 truth of a whole step's gradients, by port: given the reference's decisions, given the
    candidate's, and how far rounding moves it."""

    step: int
    of: Mapping[Port, tuple[Any, Any, RoundingSpread]]


def _nonfinite(unit_run: UnitRun, x: tf.Tensor) -> bool:
    if x.dtype not in FLOATS or bool(tf.reduce_all(tf.math.is_finite(x))):
        return False
    return all(bool(tf.reduce_all(tf.math.is_finite(t))) for t in unit_run.boundary if t.dtype in FLOATS)
