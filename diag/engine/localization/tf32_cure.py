"""Switches of this process that may cure an op: tried on the op that is wrong, not guessed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tensorflow as tf

from diag.engine.graphs.tf_runtime import takes_handle
from diag.engine.lanes.step_results import UnitRun
from diag.engine.lockstep.microscope import Microscope, OpRecord
from diag.engine.lockstep.telescope import Telescope
from diag.engine.truth.op_judge import output_arrays
from diag.machine import settings
from diag.machine.places import Place
from diag.verdict.findings import Verdict

TF32 = "tf32=off"


def cures_of_op(record: OpRecord | None, microscope: Microscope) -> tuple[str, ...]:
    """Which switches bring this op back into its bound, by running it again with each."""
    if record is None or not _has_tf32(microscope.candidate.place) or takes_handle(record.evidence.node.op):
        return ()
    return (TF32,) if _is_cured(record, microscope) else ()


def cures_of_unit(telescope: Telescope, unit_run: UnitRun, output: int) -> tuple[str, ...]:
    """Which switches bring an output of a compiled unit back into its bound.

    A fused kernel may round where the op's own does not.  A unit that is not in the run's own list cannot be run again.
    """
    if not _has_tf32(telescope.candidate.place) or not unit_run.run.with_boundaries:
        return ()
    with settings.tf32(False):
        again = telescope.run_afresh(unit_run.unit, unit_run.run)
    found = telescope.judge.judge(again, True, {})
    return (TF32,) if all(o.verdict is not Verdict.DIVERGENCE for o in found if o.where.output == output) else ()


def _has_tf32(place: Place) -> bool:
    is_real = place.device.startswith("GPU") and not place.is_simulated
    return is_real and bool(tf.config.experimental.tensor_float_32_execution_enabled())


def _is_cured(record: OpRecord, microscope: Microscope) -> bool:
    evidence: Any = record.evidence
    with settings.tf32(False):
        outputs = microscope.candidate.run(evidence.node, list(evidence.inputs), [])
    again = replace(evidence, candidate=output_arrays(evidence.node, outputs))
    bound = microscope.judge.judge(again)[record.output].bound
    return bound is not None and bound.is_explained
