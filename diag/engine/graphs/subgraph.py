"""Some nodes of a graph as a graph of their own, with placeholders for what they read from the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from diag.engine.graphs.editing import make_node
from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import Graph, Node, Port
from diag.engine.graphs.reachability import called_functions


def subgraph(
    nodes: Sequence[Node], boundary: Mapping[Port, str], whole: Graph, functions: dict[str, Graph], graph_def: Any
) -> tuple[Graph, Any]:
    """These nodes in their order, as records and as a GraphDef with the functions that they call.

    boundary: the ports of the whole graph that are fed, each with the name of its placeholder.  Control edges that
    leave the subgraph are dropped, and so are wishes to stand beside a node that may not be in it.
    """
    kept = {node.name for node in nodes}
    records = [_placeholder(name, whole, port) for port, name in boundary.items()]
    for node in nodes:
        inputs = tuple(Port(boundary[port], 0) if port in boundary else port for port in node.inputs)
        record = with_inputs(node, inputs, tuple(name for name in node.control if name in kept))
        if "_class" in record.proto.attr:
            del record.proto.attr["_class"]
        records.append(record)
    result = tf.compat.v1.GraphDef()
    result.versions.CopyFrom(graph_def.versions)
    called = called_functions(nodes, functions)
    result.library.function.extend(f for f in graph_def.library.function if f.signature.name in called)
    result.node.extend(record.proto for record in records)
    return Graph(tuple(records), tuple(boundary.values()), ()), result


def with_inputs(node: Node, inputs: Iterable[Port], control: Iterable[str] | None = None) -> Node:
    """A node that reads other ports; by default it waits for what it waited for."""
    ports, control = tuple(inputs), node.control if control is None else tuple(control)
    proto = type(node.proto)()
    proto.CopyFrom(node.proto)
    del proto.input[:]
    proto.input.extend([*map(str, ports), *(f"^{name}" for name in control)])
    return replace(node, inputs=ports, control=control, proto=proto)


def restricted(executable: Executable, names: Collection[str]) -> Executable:
    """An executable without all other nodes; what it fetches has to be among these."""
    wanted = {*names, *executable.feeds, *executable.captures, *executable.constants}
    graph_def = type(executable.graph_def)()
    graph_def.CopyFrom(executable.graph_def)
    del graph_def.node[:]
    graph_def.node.extend(node for node in executable.graph_def.node if node.name in wanted)
    graph = executable.graph
    kept = Graph(tuple(node for node in graph if node.name in wanted), graph.inputs, graph.outputs)
    return replace(executable, graph_def=graph_def, graph=kept)


def _placeholder(name: str, whole: Graph, port: Port) -> Node:
    dtype, shape = whole.dtype(port), whole.shape(port)
    proto = make_node(name, "Placeholder", [], dtype=dtype)
    proto.attr["shape"].shape.CopyFrom(shape.as_proto())
    return Node(name, "Placeholder", (), (), proto, (dtype,), (shape,))
