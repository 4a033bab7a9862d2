"""Ops pinned to the CPU inside a step that otherwise runs at a place.

On a real device a pinned op is placed on CPU:0, as under `with tf.device("CPU:0")`.  On a simulated place,
which runs on the CPU anyway, pinning means that the fault does not reach the op: no fault is called for it, and
after a rewriter has run it is as it was traced, since a plug-in rewrites only what is on its device.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from diag.engine.graphs.graph import parse_input
from diag.engine.graphs.reachability import reachable

PINNED = "_lockstep_on_cpu"
CPU = "/device:CPU:0"


def pin(node: Any) -> None:
    """Mark a NodeDef, in place.  TensorFlow lets a node carry any attribute whose name begins with _."""
    node.attr[PINNED].b = True
    node.device = CPU


def is_pinned(node: Any) -> bool:
    return PINNED in node.attr


def pin_in(graph_def: Any, names: Collection[str], bodies: Collection[tuple[str, str]] = ()) -> Any:
    """A copy of a GraphDef with these nodes pinned; `bodies` are (function, node) in its library."""
    copy = type(graph_def)()
    copy.CopyFrom(graph_def)
    for node in copy.node:
        if node.name in names:
            pin(node)
    for function_def in copy.library.function if bodies else ():
        for node in function_def.node_def:
            if (function_def.signature.name, node.name) in bodies:
                pin(node)
    return copy


def restored(before: Any, after: Any) -> Any:
    """What a rewriter made of a GraphDef, with its pinned nodes, and all that they read, as they were before.

    Only of the graph itself: a rewriter is free to rename the functions of the library.
    """
    original = {node.name: node for node in before.node}
    pinned = [name for name, node in original.items() if is_pinned(node)]
    if not pinned:
        return after
    result = type(after)()
    result.CopyFrom(after)
    position = {node.name: index for index, node in enumerate(result.node)}

    def sources(name: str) -> list[str]:
        node = original[name]
        if name in position and not is_pinned(node):
            return []  # the rewriter kept it, and what it reads
        return [source for source, _ in map(parse_input, node.input) if source in original]

    for name in reachable(pinned, sources):
        if name not in position:
            result.node.append(original[name])
        elif is_pinned(original[name]):
            result.node[position[name]].CopyFrom(original[name])
    return result
