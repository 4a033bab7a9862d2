"""Where in the step each node of a trace is, by the marks that its name carries, and the index of each op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from diag.engine.graphs.graph import Graph, Node
from diag.engine.graphs.locations import BACKWARD, FORWARD, OPTIMIZER, Location, mark_of


class Locator:
    """Gives every node its location and every op its index."""

    def __init__(
        self,
        labels: list[str],
        optimizers: list[str],
        updates: list[str],
        layer_of: dict[str, str | None],
        marked_names: Mapping[str, Mapping[str, str]],  # of each function
        outside: str,  # what is in no layer and no optimizer
    ) -> None:
        self.labels, self.optimizers, self.updates = labels, optimizers, updates
        self.layer_of, self.marked_names, self.outside = layer_of, marked_names, outside
        self.next_index = 0

    def location(self, name: str, inherited: Location | None) -> Location | None:
        mark = mark_of(name)
        if mark is None:
            return inherited
        if mark.kind == "update":
            variable = self.updates[mark.index]
            return Location(OPTIMIZER, self.layer_of.get(variable), variable)
        if mark.kind == "optimizer":
            outer = inherited.variable if inherited else None
            return inherited if outer else Location(OPTIMIZER, self.optimizers[mark.index])
        inside_backward = inherited is not None and inherited.phase == BACKWARD
        phase = BACKWARD if mark.backward or inside_backward else FORWARD
        if inside_backward and inherited is not None:
            return replace(inherited, index=None)
        return Location(phase, self.labels[mark.index] if mark.kind == "layer" else self.outside)

    def apply(
        self, graph: Graph, marked_names: Mapping[str, str], functions: dict[str, Graph]
    ) -> tuple[Graph, dict[str, Graph]]:
        located: dict[str, Graph] = {}
        result = self._graph(graph, marked_names, functions, located, None)
        return result, {name: located.get(name, body) for name, body in functions.items()}

    def _graph(
        self,
        graph: Graph,
        marked_names: Mapping[str, str],
        functions: dict[str, Graph],
        located: dict[str, Graph],
        caller: Location | None,
    ) -> Graph:
        locations: dict[str, Location] = {}
        started = False
        returned = {port.node for port in graph.outputs}
        for node in graph:
            name = marked_names.get(node.name, node.name)
            location = self.location(name, caller)
            started = started or (location is not None and location.phase != FORWARD)
            if location is None:
                location = self._from_data(node, locations, started)
            plumbing = node.is_silent or (node.name in returned and node.op == "Identity" and mark_of(name) is None)
            if not plumbing:
                location = replace(location, index=self.next_index)
                self.next_index += 1
            locations[node.name] = location
            for called in node.function_names():
                if called not in located and called in functions:
                    located[called] = functions[called]  # a function that calls itself is entered once
                    located[called] = self._graph(
                        functions[called], self.marked_names[called], functions, located, replace(location, index=None)
                    )
        return graph.with_locations(locations)

    def _from_data(self, node: Node, locations: dict[str, Location], backward: bool) -> Location:
        """A node with no marker (the tape's AddN, say) joins the unit that made its last input."""
        for port in reversed(node.inputs):
            known = locations.get(port.node)
            if known is not None and known.layer is not None:
                return replace(
                    known, index=None, phase=BACKWARD if backward and known.phase == FORWARD else known.phase
                )
        return Location(
            BACKWARD if backward else FORWARD, self.outside if backward else (self.labels[0] if self.labels else None)
        )
