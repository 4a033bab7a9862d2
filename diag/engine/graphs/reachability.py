"""Ancestors and descendants of nodes: the one graph search."""

from __future__ import annotations

from collections.abc import Iterable

from diag.engine.graphs.graph import ASSIGN_OPS, Graph, Node, Port

SHAPE_OPS = ("Shape", "ShapeN", "Size", "Rank")  # of a tensor whose shape is known they are constants


def _live(graph: Graph, fetches: Iterable[Port]) -> set[str]:
    """What a graph has to execute: what leads to a fetched tensor or to something written."""
    waiting = [port.node for port in fetches] + [node.name for node in graph if _writes(node)]
    live: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in live and name in graph.by_name:
            live.add(name)
            node = graph.by_name[name]
            waiting.extend([*(port.node for port in node.inputs), *node.control])
    return live


def _writes(node: Node) -> bool:
    if node.op in ASSIGN_OPS or node.op in ("While", "If", "StatefulPartitionedCall"):
        return True
    return not node.dtypes and node.op != "NoOp"


def live_nodes(graph: Graph, fetches: Iterable[Port]) -> frozenset[str]:
    """Names of the nodes that TensorFlow executes when these tensors are fetched."""
    return frozenset(_live(graph, fetches))
