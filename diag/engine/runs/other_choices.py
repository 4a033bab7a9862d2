"""What the candidate's own step leaves open otherwise than the reference's, or than truth: signs of vectors, winners.

What a model makes of them may hang on the sign of an eigenvector, or on which of two equal keys was taken, so that the
whole step is another and as right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from diag.engine.graphs.graph import Node, Port
from diag.engine.graphs.tf_runtime import REALS, format_of_dtype, to_numpy
from diag.engine.lanes.step_results import StepRun
from diag.engine.lockstep.telescope import Telescope
from diag.engine.truth.not_unique import settled
from diag.engine.truth.op_truth import OpTruth
from diag.numerics.decompositions import THRESHOLD, is_decomposition, ratio_of
from diag.numerics.op_classes import CHOOSING

TURNED = 0.1  # of the largest element: rounding does less, another sign more


def layers_that_chose_otherwise(telescope: Telescope, run: StepRun) -> list[str]:
    """The layers with such results, where all of the step's are right by what defines them; else none.

    Runs the candidate's step again, and leaves the candidate in the state after it.
    """
    program, candidate = telescope.program, telescope.candidate
    nodes = [
        node for node in program.graph
        if (is_decomposition(node.op) or node.op in CHOOSING) and program.graph.dtype(node.inputs[0]) in REALS
    ]  # fmt: skip
    if not nodes:
        return []
    ports = [port for node in nodes for port in (*node.inputs, *_outputs(node))]
    shared = {port: run.reference.values[port] for port in program.random_ports}
    candidate.load(run.candidate.before)
    candidate.enter_step(run.step)
    try:
        values = telescope.steps.compiled[candidate.name].run(run.batch, ports, shared, is_kept=False)
    finally:
        candidate.load(run.candidate.after)
    if not all(_is_right(node, values) for node in nodes):
        return []
    return sorted({node.location.layer or node.op for node in nodes if _is_turned(node, values, run)})


def _outputs(node: Node) -> list[Port]:
    return [Port(node.name, index) for index in range(len(node.dtypes))]


def _is_right(node: Node, values: Mapping[Port, Any]) -> bool:
    outputs = [to_numpy(values[port]) for port in _outputs(node)]
    if node.op in CHOOSING:
        inputs = [values[port] for port in node.inputs]
        *_, expected = OpTruth().outputs(node, inputs) or outputs
        if np.array_equal(outputs[-1], expected):
            return True
        found = settled(node, inputs, outputs, len(outputs) - 1, expected)
        return found is not None and found.bound.is_explained
    matrix, *wide = (x.astype(np.float64) for x in (to_numpy(values[node.inputs[0]]), *outputs))
    ratio = ratio_of(node.op, matrix, wide, format_of_dtype(node.dtypes[0]))
    return ratio is not None and ratio <= THRESHOLD


def _is_turned(node: Node, values: Mapping[Port, Any], run: StepRun) -> bool:
    ports, reference = _outputs(node), run.unit_source.values
    found = [to_numpy(values[port]) for port in ports]
    pairs = [(x, to_numpy(reference[port])) for x, port in zip(found, ports, strict=True) if port in reference]
    pairs += zip(found, OpTruth().outputs(node, [values[port] for port in node.inputs]) or (), strict=False)
    if node.op in CHOOSING:
        return any(np.any(a != b) for a, b in pairs if a.dtype.kind in "iu")
    return any(np.max(np.abs(a - b), initial=0.0) > TURNED * np.max(np.abs(b), initial=0.0) for a, b in pairs)
