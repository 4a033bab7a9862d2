"""What the last layer says of a batch, by a forward pass of its own where it cannot be watched in the step.

A classifier's loss is computed from what its last product gives, and often nothing else reads that; to watch it
might break a fusion of the step (diag/engine/step/watching.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import Port
from diag.engine.graphs.reachability import ancestors
from diag.engine.graphs.subgraph import restricted
from diag.engine.graphs.tf_runtime import FLOATS
from diag.engine.lanes.lane import Lane
from diag.engine.lanes.step_results import LaneStep
from diag.engine.step.program import Program


class Predictions:
    """The scores of several classes that a program's last layer hands on; `port` is None where there are none."""

    def __init__(self, program: Program) -> None:
        self.program, self.port = program, prediction_of(program)
        self.is_watched = self.port in program.watched.ports
        self._built: dict[int, Callable[..., list[Any]]] = {}

    @property
    def watched(self) -> tuple[Port, ...]:
        """What a step can show of it."""
        return (self.port,) if self.port is not None and self.is_watched else ()

    def of(self, lane: Lane, step: LaneStep, batch: Sequence[Any], random: Mapping[Port, Any]) -> Any:
        """A lane's, of a step that it did; None where there are none.  random: the values it drew."""
        if self.port is None or self.is_watched:
            return None if self.port is None else step.values[self.port]
        ports = self.program.random_ports
        if id(lane) not in self._built:
            executable = forward_to(self.program.step((self.port,), ports), self.port)
            self._built[id(lane)] = lane.build(executable, on_scratch=True)
        lane.load_scratch(step.before)
        return self._built[id(lane)](*lane.place_feeds([*batch, *(random[port] for port in ports)]))[0]


def forward_to(executable: Executable, port: Port) -> Executable:
    """Only what a tensor is made of."""
    return restricted(executable, ancestors(executable.graph, [port.node]))


def prediction_of(program: Program) -> Port | None:
    """What the last layer hands on, where that is scores of several classes."""
    order = {node.name: position for position, node in enumerate(program.graph)}
    outputs = [port for ports in program.layer_outputs.values() for port in ports]
    last = max(outputs, key=lambda port: order[port.node], default=None)
    if last is None or program.graph.dtype(last) not in FLOATS:
        return None
    shape = program.graph.shape(last)
    return last if shape.rank is not None and shape.rank >= 2 and (shape[-1] or 0) > 1 else None
