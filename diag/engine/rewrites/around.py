"""What TensorFlow itself made of the ops around a fault that only compiling shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import tensorflow as tf

from diag.engine.graphs.tf_errors import reason_of
from diag.engine.lanes.lane import Lane
from diag.engine.rewrites.optimized import inspect_step
from diag.engine.step.program import Program
from diag.verdict.findings import Divergence, FusedOps
from diag.verdict.rewrites import OptimizedStep, Part, Rewrites

BLAMED = ("graph-rewriter", "xla")


def rewrites_around(divergence: Divergence, program: Program, lane: Lane) -> Rewrites | None:
    """What became of the ops that are wrong together, or of their layer's; None where no rewriter is to blame.

    The step is compiled once more as it was watched, and run on zeros.
    """
    if divergence.blame not in BLAMED or not lane.place.is_compiled:
        return None
    fused = divergence.fused or FusedOps()
    layers = fused.layers or (divergence.where.variable or divergence.where.layer,)
    try:
        step = inspect_step(program, lane, program.watched.ports)
    except (tf.errors.OpError, ValueError) as error:
        return Rewrites(str(lane.place), layers, note=reason_of(error))
    return _near(step, layers, divergence)


def _near(step: OptimizedStep, layers: tuple[str | None, ...], divergence: Divergence) -> Rewrites:
    indices = () if divergence.fused is None else divergence.fused.op_indices
    phase = divergence.where.phase

    def is_near(parts: Collection[Part]) -> bool:
        if indices:
            return any(part.index in indices for part in parts)
        return any((part.variable or part.layer) in layers and part.phase == phase for part in parts)

    changes = tuple(change for change in step.changes if is_near(change.parts))
    absent = {reason: tuple(part for part in parts if is_near([part])) for reason, parts in step.absent.items()}
    counts = Counter(change.kind for change in step.changes)
    counts.update({reason: len(parts) for reason, parts in step.absent.items()})
    return Rewrites(
        step.place, layers, changes, {reason: parts for reason, parts in absent.items() if parts}, dict(counts),
        step.note,
    )  # fmt: skip
