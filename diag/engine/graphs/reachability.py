"""Ancestors and descendants of nodes: the one graph search."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, KeysView, Mapping
from typing import TypeVar

from diag.engine.graphs.graph import ASSIGN_OPS, Graph, Node, Port

SHAPE_OPS = ("Shape", "ShapeN", "Size", "Rank")  # of a tensor whose shape is known they are constants

T = TypeVar("T", bound=Hashable)


def reachable(start: Iterable[T], follow: Callable[[T], Iterable[T]]) -> KeysView[T]:
    """All that can be reached from `start`, itself included, as a set in the order in which it is met."""
    result = dict.fromkeys(start)
    waiting = list(result)
    while waiting:
        new = [each for each in dict.fromkeys(follow(waiting.pop())) if each not in result]
        result.update(dict.fromkeys(new))
        waiting.extend(new)
    return result.keys()


def ancestors(graph: Graph, names: Iterable[str]) -> KeysView[str]:
    """Nodes and all of the graph that they read or wait for, directly or not."""

    def before(name: str) -> Iterable[str]:
        node = graph.by_name[name]
        return (each for each in (*(port.node for port in node.inputs), *node.control) if each in graph.by_name)

    return reachable((name for name in names if name in graph.by_name), before)


def live_nodes(graph: Graph, fetches: Iterable[Port]) -> frozenset[str]:
    """Names of the nodes that TensorFlow executes when these tensors are fetched: what leads to one, or to a write."""
    return frozenset(ancestors(graph, (*(port.node for port in fetches), *(n.name for n in graph if _writes(n)))))


def called_functions(nodes: Iterable[Node], functions: dict[str, Graph]) -> KeysView[str]:
    """Names of the functions that nodes call, directly or not."""
    start = [name for node in nodes for name in node.function_names()]
    return reachable(start, lambda name: [inner for node in functions[name] for inner in node.function_names()])


def _writes(node: Node) -> bool:
    if node.op in ASSIGN_OPS or node.op in ("While", "If", "StatefulPartitionedCall"):
        return True
    return not node.dtypes and node.op != "NoOp"


def in_order_of_reading(before: Mapping[str, Collection[str]]) -> list[str]:
    """The keys in the given order, but that those of a key's values that are keys too come right before it, as given.

    So a write to a variable that was made to read a node put in later stays before the reads after it.
    """
    position = {name: index for index, name in enumerate(before)}
    ordered: dict[str, None] = {}
    for root in before:
        stack = [root]
        while stack:
            name = stack[-1]
            waiting = [other for other in before[name] if other in before and other not in ordered]
            if waiting and name not in ordered:
                stack.extend(sorted(waiting, key=position.__getitem__, reverse=True))
            else:
                ordered[name] = None
                stack.pop()
    return list(ordered)
