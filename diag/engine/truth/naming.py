"""What an output of a unit is called, and where in the step it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diag.engine.graphs.graph import Node, Port
from diag.engine.graphs.locations import OPTIMIZER
from diag.engine.lanes.step_results import UnitRun
from diag.engine.step.named_tensors import ACTIVATIONS, GRADIENTS, Name
from diag.engine.step.program import Program
from diag.engine.step.units import STEP, Unit
from diag.verdict.findings import Where


def where_of(program: Program, order_of: Mapping[str, int], unit_run: UnitRun, index: int) -> Where:
    """`order_of` is each op's place in the step, by its node's name."""
    unit, step = unit_run.unit, unit_run.run.step
    if index < len(unit.outputs):
        port = unit.outputs[index]
        phase, order, name = unit.phase(port), order_of[port.node], tensor_role(program, unit, port).in_unit(unit)
    else:
        variable = unit.writes[index - len(unit.outputs)]
        is_optimizer = unit.variable or any(node.location.phase == OPTIMIZER for node in unit.writers)
        phase = OPTIMIZER if is_optimizer else "forward"
        order = max((order_of[node.name] for node in unit.writers), default=0)
        spec = program.variables[variable]
        name = spec.kind if spec.of else "value" if unit.variable == spec.name else spec.name
    if unit.layer == STEP:
        if index >= len(unit.outputs) and spec.of:
            name = f"{spec.kind} of {spec.of}"
        return Where(step, phase, "step", None, None, None, None, index, name, order)
    return Where(step, phase, "layer", unit.layer, unit.variable, None, None, index, name, order)


def where_of_op(step: int, node: Node, output: int) -> Where:
    """Of an op by itself; its place in the step is its index."""
    location, name = node.location, node.name.split("/")[-1]
    unit = (location.layer, location.variable)
    return Where(step, location.phase, "op", *unit, node.op, location.index, output, name, location.index or 0)


@dataclass(frozen=True)
class TensorRole:
    """What a tensor of a step is: the gradient of a variable, the output of a layer, or an op's own result."""

    kind: str  # GRADIENTS, ACTIVATIONS, or "" for an op's
    of: str

    def in_unit(self, unit: Unit) -> str:
        """`gradient of W`, `output` of the unit's own layer, `output of L`, or the op's name."""
        if self.kind == GRADIENTS:
            return f"gradient of {self.of}"
        if self.kind == ACTIVATIONS:
            return "output" if self.of == unit.layer else f"output of {self.of}"
        return self.of


def tensor_role(program: Program, unit: Unit, port: Port) -> TensorRole:
    """As a unit knows it: of the layers that hand a tensor on, those in the unit."""
    if port in program.weight_of:
        return TensorRole(GRADIENTS, program.weight_of[port])
    for layer in program.layers_of.get(port, ()):
        if unit.layer in (layer, STEP) or layer in unit.joined:
            return TensorRole(ACTIVATIONS, layer)
    return TensorRole("", port.node.split("/")[-1])


def propagated_key(program: Program, unit_run: UnitRun, index: int) -> Name | None:
    """(kind, name) under which the whole steps were compared; None where this was not watched."""
    unit = unit_run.unit
    if index >= len(unit.outputs):
        spec = program.variables[unit.writes[index - len(unit.outputs)]]
        return (spec.kind, spec.of or spec.name)
    port = unit.outputs[index]
    role = tensor_role(program, unit, port)
    if role.kind == ACTIVATIONS and role.of == unit.layer:
        position = program.layer_outputs[unit.layer].index(port)
        return (ACTIVATIONS, unit.layer if position == 0 else f"{unit.layer}:{position}")
    if role.kind:
        return (role.kind, role.of)
    return ("loss", "loss") if port == program.loss else None
