"""Switches of this process that may cure an op: tried on the op that is wrong, not guessed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import tensorflow as tf

from diag.engine.execution import takes_handle
from diag.engine.judging import output_arrays
from diag.engine.microscope import Microscope, OpRecord


@contextmanager
def tf32_off() -> Iterator[None]:
    was = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(was)


def cures_of_op(record: OpRecord | None, microscope: Microscope) -> tuple[str, ...]:
    """Which switches bring this op back into its bound, by running it again with each."""
    place = microscope.candidate.place
    if record is None or place.is_simulated or not place.device.startswith("GPU"):
        return ()
    if takes_handle(record.evidence.node.op):
        return ()
    if not tf.config.experimental.tensor_float_32_execution_enabled():
        return ()
    return ("tf32=off",) if _is_cured(record, microscope) else ()


def _is_cured(record: OpRecord, microscope: Microscope) -> bool:
    evidence: Any = record.evidence
    with tf32_off():
        outputs = microscope.candidate.run(evidence.node, list(evidence.inputs), [])
    again = replace(evidence, candidate=output_arrays(outputs))
    bound = microscope.judge.judge(again)[record.output].bound
    return bound is not None and bound.is_explained
