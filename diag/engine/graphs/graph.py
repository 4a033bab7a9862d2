"""A traced step as plain records: what the engines execute, cut into units and rewrite.

TensorFlow's own graphs are made for execution.  Here a graph is a list of nodes in the order
they were created, each with its inputs as (node, output) pairs, so that an interpreter can walk
it, a unit can be cut out of it and a rewriter can change it without a session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import tensorflow as tf

from diag.engine.graphs.locations import NOWHERE, Location

FUNCTION_OPS = {"PartitionedCall", "StatefulPartitionedCall"}
WHILE_OPS = {"While", "StatelessWhile"}
IF_OPS = {"If", "StatelessIf"}
CONTROL_FLOW_OPS = FUNCTION_OPS | WHILE_OPS | IF_OPS
# Nodes that hold or order values but compute none: they are no op units and have no index.
SILENT_OPS = {"Const", "Placeholder", "NoOp"} | CONTROL_FLOW_OPS
ASSIGN_OPS = {"AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"}
READ_OPS = {"ReadVariableOp"}
OPAQUE = (tf.resource, tf.variant)


@dataclass(frozen=True, order=True)
class Port:
    """One output of one node."""

    node: str
    index: int

    def __str__(self) -> str:
        return f"{self.node}:{self.index}"


@dataclass(frozen=True)
class Node:
    """One node: `proto` keeps its attributes; dtypes and shapes are those of its outputs."""

    name: str
    op: str
    inputs: tuple[Port, ...]
    control: tuple[str, ...]
    proto: Any
    dtypes: tuple[tf.DType, ...]
    shapes: tuple[tf.TensorShape, ...]
    location: Location = NOWHERE

    @property
    def is_silent(self) -> bool:
        return self.op in SILENT_OPS

    def function_names(self) -> tuple[str, ...]:
        """Names of the functions this node calls, in the order of the attributes' names."""
        if self.op == "Placeholder":
            return ()
        return tuple(value.func.name for _, value in sorted(self.proto.attr.items()) if value.func.name)


@dataclass(frozen=True)
class Graph:
    """Nodes in creation order; `inputs` are placeholders, `outputs` what is returned."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[Port, ...]
    by_name: dict[str, Node] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.by_name.update((node.name, node) for node in self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def dtype(self, port: Port) -> tf.DType:
        return self.by_name[port.node].dtypes[port.index]

    def shape(self, port: Port) -> tf.TensorShape:
        return self.by_name[port.node].shapes[port.index]

    def with_locations(self, locations: dict[str, Location]) -> Graph:
        """The same graph with the location of each node replaced."""
        nodes = tuple(replace(node, location=locations[node.name]) for node in self.nodes)
        return Graph(nodes, self.inputs, self.outputs)

    def reading(self, replaced: dict[Port, Port]) -> Graph:
        """The same graph with new placeholders read instead of some ports."""
        fed = [
            Node(new.node, "Placeholder", (), (), None, (self.dtype(old),), (self.shape(old),))
            for old, new in replaced.items()
        ]
        nodes = [replace(n, inputs=tuple(replaced.get(port, port) for port in n.inputs)) for n in self.nodes]
        return Graph((*fed, *nodes), (*self.inputs, *(node.name for node in fed)), self.outputs)


def order_of_ops(graph: Graph, functions: Mapping[str, Graph]) -> dict[str, int]:
    """Node -> the index of the last op computed once the node is, in bodies of loops as well."""
    known: dict[str, int] = {}

    def last_of_function(name: str) -> int:
        if name not in known:
            known[name] = -1  # a function that calls itself is entered once
            known[name] = max(map(last_in, functions[name]), default=-1)
        return known[name]

    def last_in(node: Node) -> int:
        inner = (last_of_function(name) for name in node.function_names() if name in functions)
        return max(-1 if node.location.index is None else node.location.index, *inner, -1)

    last, order = -1, {}
    for node in graph:
        last = order[node.name] = max(last, last_in(node))
    return order


def parse_input(text: str) -> tuple[str, int | None]:
    """`"a:1"`, `"a"` or `"^a"` as (name, output index), None for a control input."""
    if text.startswith("^"):
        return text[1:], None
    name, _, index = text.partition(":")
    return name, int(index or 0)


def with_index(text: str) -> str:
    """An input as `node:0`, which a GraphDef may write `node`."""
    return text if ":" in text else f"{text}:0"


def node_of(operation: tf.Operation) -> Node:
    proto = operation.node_def
    parsed = [parse_input(text) for text in proto.input]
    return Node(
        name=operation.name,
        op=operation.type,
        inputs=tuple(Port(name, index) for name, index in parsed if index is not None),
        control=tuple(name for name, index in parsed if index is None),
        proto=proto,
        dtypes=tuple(output.dtype for output in operation.outputs),
        shapes=tuple(output.shape for output in operation.outputs),
    )


def port_of(tensor: tf.Tensor) -> Port:
    """The port of a symbolic tensor."""
    return Port(tensor.op.name, tensor.value_index)


def graph_of(func_graph: Any) -> Graph:
    """The records of a FuncGraph, with its own inputs and outputs."""
    return Graph(
        nodes=in_order(node_of(operation) for operation in func_graph.get_operations()),
        inputs=tuple(tensor.op.name for tensor in func_graph.inputs),
        outputs=tuple(port_of(tensor) for tensor in func_graph.outputs),
    )


def graph_from_def(graph_def: Any, inputs: Iterable[str], outputs: Iterable[Port]) -> Graph:
    """Records of a GraphDef; TensorFlow's shape inference fills in dtypes and shapes.

    Raises ValueError where the GraphDef is not a valid graph.
    """
    with tf.Graph().as_default() as scratch:
        tf.graph_util.import_graph_def(graph_def, name="")
        nodes = tuple(node_of(operation) for operation in scratch.get_operations())
    return Graph(in_order(nodes), tuple(inputs), tuple(outputs))


def in_order(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Nodes so that each comes after what it reads; the given order where it is free.

    While loops are functional here, so a graph has no cycles.
    """
    remaining = {node.name: node for node in nodes}
    ordered: list[Node] = []
    done: set[str] = set()
    for root in list(remaining):
        stack = [root]
        while stack:
            name = stack[-1]
            if name in done:
                stack.pop()
                continue
            node = remaining[name]
            before = [port.node for port in node.inputs] + list(node.control)
            waiting = [other for other in before if other in remaining and other not in done]
            if waiting:
                stack.extend(waiting)
            else:
                done.add(name)
                ordered.append(node)
                stack.pop()
    return tuple(ordered)
