"""Places that lose, or should have refused, the update of a variable."""

from __future__ import annotations

import numpy as np

from diag.engine.faults.simulation import Call, Simulation
from diag.engine.graphs.graph import CONTROL_FLOW_OPS, IF_OPS, Graph, Node
from diag.engine.graphs.locations import OPTIMIZER
from diag.engine.step.program import Program
from diag.errors import UserError

_UPDATES = frozenset({"AssignAddVariableOp", "AssignSubVariableOp"})


def skipped_update() -> Simulation:
    """One trained variable, drawn by the seed, never gets its update; its slots move as they should."""
    fault = SkippedUpdate()
    return Simulation("skipped-update", fault, op_types=_UPDATES, bind=fault.bind)


def ignored_found_inf() -> Simulation:
    """Loss scaling is told that every gradient is finite, and applies those that are not."""
    return Simulation("ignored-found-inf", _all_finite, op_types=frozenset({"IsFinite"}))


def _all_finite(call: Call) -> list[np.ndarray] | None:
    return [np.ones_like(call.outputs[0])] if call.phase == OPTIMIZER else None


class SkippedUpdate:
    """The fault, told by `bind` which variable it is and which ops assign to it."""

    def __init__(self) -> None:
        self.variable: str | None = None
        self.indices: frozenset[int] = frozenset()

    def bind(self, program: Program, seed: int) -> None:
        assigned = assignments(program)
        trained = sorted({v for v in assigned.values() if program.variables[v].kind == "weight"})
        if not trained:
            raise UserError(
                "sim:skipped-update: expected an optimizer that adds to a weight or subtracts from it, "
                "found no such update in this step"
            )
        chosen = trained[np.random.default_rng(seed).integers(len(trained))]
        self.variable = program.variables[chosen].name
        self.indices = frozenset(index for index, variable in assigned.items() if variable == chosen)

    def __call__(self, call: Call) -> list[np.ndarray] | None:
        if not self.indices:
            raise RuntimeError("skipped-update was not bound to a program")
        return [call.inputs[0]] if call.index in self.indices else None


def assignments(program: Program) -> dict[int, int]:
    """For each op of the optimizer that adds to or subtracts from a variable: which variable.

    Handles are followed into the functions that are called, since under loss scaling the whole
    update stands in a branch.
    """
    result: dict[int, int] = {}

    def walk(graph: Graph, handles: dict[str, int]) -> None:
        for node in graph:
            sources = [handles.get(port.node) for port in node.inputs]
            if node.op in CONTROL_FLOW_OPS:
                enter(node, sources[1:] if node.op in IF_OPS else sources)
            elif node.op == "Identity" and sources[0] is not None:
                handles[node.name] = sources[0]
            elif node.op in _UPDATES and node.location.phase == OPTIMIZER:
                variable, index = sources[0], node.location.index
                if variable is not None and index is not None:
                    result[index] = variable

    def enter(node: Node, arguments: list[int | None]) -> None:
        for name in node.function_names():
            body = program.functions[name]
            known = zip(body.inputs, arguments, strict=True)
            walk(body, {inner: variable for inner, variable in known if variable is not None})

    walk(program.graph, dict(program.captures))
    return result
