"""What the candidate's own step leaves open otherwise than the reference's, or than truth: signs of vectors, winners.

What a model makes of them may hang on the sign of an eigenvector, or on which of two equal keys was taken, so that the
whole step is another and as right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from diag.engine.graphs.graph import Node, Port
from diag.engine.graphs.tf_runtime import REALS, to_numpy
from diag.engine.lanes.step_results import StepRun
from diag.engine.lockstep.telescope import Telescope
from diag.engine.truth.not_unique import settled
from diag.engine.truth.op_truth import OpTruth
from diag.numerics.decompositions import is_decomposition
from diag.numerics.op_classes import CHOOSING

TURNED = 0.1  # of the largest element: rounding does less, another sign more


def layers_that_chose_otherwise(telescope: Telescope, run: StepRun) -> list[str]:
    """The layers with such results, where all of the step's are right by what defines them; else none.

    Runs the candidate's step again, and leaves the candidate in the state after it.
    """
    program = telescope.program
    nodes = [
        node for node in program.graph
        if (is_decomposition(node.op) or node.op in CHOOSING) and program.graph.dtype(node.inputs[0]) in REALS
    ]  # fmt: skip
    if not nodes:
        return []
    ports = [port for node in nodes for port in (*node.inputs, *_outputs(node))]
    values = telescope.steps.shown(telescope.candidate, run, ports, run.candidate.before)
    results = [_Results(node, values) for node in nodes]
    if not all(each.are_right() for each in results):
        return []
    return sorted({each.layer for each in results if each.are_others_than(run.unit_source.values)})


def _outputs(node: Node) -> list[Port]:
    return [Port(node.name, index) for index in range(len(node.dtypes))]


class _Results:
    """What an op of the candidate's step made of its inputs, and what truth makes of them."""

    def __init__(self, node: Node, values: Mapping[Port, Any]) -> None:
        self.node, self.layer, self.chooses = node, node.location.layer or node.op, node.op in CHOOSING
        self.inputs = [values[port] for port in node.inputs]
        self.outputs = {port: to_numpy(values[port]) for port in _outputs(node)}
        self.truth = OpTruth().outputs(node, self.inputs) or list(self.outputs.values())

    def are_right(self) -> bool:
        """Whether the winners are those that truth has, or the results right by what defines them."""
        outputs = list(self.outputs.values())
        if self.chooses and np.array_equal(outputs[-1], self.truth[-1]):
            return True
        found = settled(self.node, self.inputs, outputs, len(outputs) - 1, self.truth[-1])
        return found is not None and found.bound.is_explained

    def are_others_than(self, reference: Mapping[Port, Any]) -> bool:
        """Whether they are not those of the reference, as far as these are known, or not those of truth."""
        pairs = [(x, to_numpy(reference[port])) for port, x in self.outputs.items() if port in reference]
        pairs += zip(self.outputs.values(), self.truth, strict=True)
        if self.chooses:
            return any(np.any(a != b) for a, b in pairs if a.dtype.kind in "iu")
        return any(np.max(np.abs(a - b), initial=0.0) > TURNED * np.max(np.abs(b), initial=0.0) for a, b in pairs)
