"""A graph as it was traced, laid beside the one that is executed: bodies of loops and branches inlined.

TensorFlow inlines the functions that a graph calls, each under `CALLER/.../_N/`, so a body's node is found in
what is executed under that prefix and its own name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace

import tensorflow as tf

from diag.engine.graphs.graph import OPAQUE, Graph, Node, Port
from diag.engine.graphs.reachability import SHAPE_OPS, live_nodes
from diag.engine.graphs.tf_runtime import op_def

_INLINED = re.compile(r"^(.*/_\d+/)(.+)$")


class ExpectedNodes:
    """Nodes by the name under which they are executed, if they are."""

    def __init__(
        self, graph: Graph, functions: dict[str, Graph], fetches: Iterable[Port], executed: Collection[str]
    ) -> None:
        self.nodes = {node.name: node for node in graph}
        self.live = set(live_nodes(graph, fetches))
        for prefix, body in _instances(functions, set(executed) - self.nodes.keys()).items():
            inlined = [_under(prefix, node) for node in body]
            self.nodes.update((node.name, node) for node in inlined)
            self.live |= {prefix + name for name in live_nodes(body, body.outputs)}
        self._constant: dict[str, bool] = {}

    def is_constant(self, name: str) -> bool:
        """Whether a node has the same value in every run, as constant folding sees it."""
        waiting = [name]
        while waiting:
            current = waiting[-1]
            node = self.nodes.get(current)
            if current in self._constant:
                waiting.pop()
            elif node is None or node.op in ("Const", "Placeholder") or not _can_be_folded(node):
                self._constant[current] = node is not None and node.op == "Const"
            elif node.op in SHAPE_OPS:
                self._constant[current] = all(self._shape(port).is_fully_defined() for port in node.inputs)
            else:
                unknown = [port.node for port in node.inputs if port.node not in self._constant]
                waiting.extend(unknown)
                if not unknown:
                    self._constant[current] = bool(node.inputs) and all(self._constant[p.node] for p in node.inputs)
        return self._constant[name]

    def _shape(self, port: Port) -> tf.TensorShape:
        node = self.nodes.get(port.node)
        return tf.TensorShape(None) if node is None else node.shapes[port.index]


def _can_be_folded(node: Node) -> bool:
    if not node.dtypes or any(dtype in OPAQUE for dtype in node.dtypes):
        return False
    try:
        return not op_def(node.op).is_stateful
    except KeyError:
        return False


def _under(prefix: str, node: Node) -> Node:
    return replace(
        node,
        name=prefix + node.name,
        inputs=tuple(Port(prefix + port.node, port.index) for port in node.inputs),
        control=tuple(prefix + name for name in node.control),
    )


def _instances(functions: dict[str, Graph], unknown: Iterable[str]) -> dict[str, Graph]:
    """Prefix -> the function whose nodes were inlined under it: the one that has most of the names there."""
    names: dict[str, set[str]] = defaultdict(set)
    for text in unknown:
        found = _INLINED.match(text)
        if found:
            names[found[1]].add(found[2])
    instances = {}
    for prefix, inside in names.items():
        known = {name: len(inside & body.by_name.keys()) for name, body in functions.items()}
        best = max(known, key=lambda name: known[name], default=None)
        if best is not None and known[best]:
            instances[prefix] = functions[best]
    return instances
