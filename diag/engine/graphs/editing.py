"""Changing graphs and the functions in their library by one kind of edit.

In a GraphDef an input is written `node:3`; in a FunctionDef `node:output_name:1`, or the plain
name of an argument.  Here both become a `Body` with the GraphDef's way of writing, are edited,
and go back.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from diag.engine.graphs.graph import parse_input
from diag.engine.graphs.tf_runtime import PYTHON_FUNCTIONS, op_def


@dataclass
class Body:
    """Nodes whose inputs are written as in a GraphDef; `returns` and `arguments` of a function."""

    nodes: list[Any]
    arguments: list[str]
    returns: list[str]


def outputs_of(node: Any) -> list[tuple[str, int]]:
    """`[("y:0", 1), ("sums:0", 1)]`: the outputs of a node in order, as a FunctionDef writes them, and their dtypes."""
    outputs: list[tuple[str, int]] = []
    for argument in op_def(node.op).output_arg:
        if argument.type_list_attr:
            dtypes = list(node.attr[argument.type_list_attr].list.type)
        else:
            dtype = node.attr[argument.type_attr].type if argument.type_attr else argument.type
            dtypes = [dtype] * (node.attr[argument.number_attr].i if argument.number_attr else 1)
        outputs.extend((f"{argument.name}:{index}", dtype) for index, dtype in enumerate(dtypes))
    return outputs


def output_names(node: Any) -> list[str]:
    """`["y:0", "sums:0", "sums:1"]`: how a FunctionDef writes the outputs of a node, in order."""
    return [name for name, _ in outputs_of(node)]


def body_of_function(function_def: Any) -> Body:
    nodes = [_copy(node) for node in function_def.node_def]
    positions = {
        f"{node.name}:{name}": f"{node.name}:{index}" for node in nodes for index, name in enumerate(output_names(node))
    }
    for node in nodes:
        inputs = [positions.get(text, text) for text in node.input]
        del node.input[:]
        node.input.extend(inputs)
    arguments = [argument.name for argument in function_def.signature.input_arg]
    returns = [function_def.ret[argument.name] for argument in function_def.signature.output_arg]
    return Body(nodes, arguments, [positions.get(text, text) for text in returns])


def function_of_body(template: Any, body: Body, name: str) -> Any:
    """A FunctionDef as `template` but with the nodes and returns of `body`."""
    function_def = _copy(template)
    function_def.signature.name = name
    del function_def.node_def[:]
    written = {
        (node.name, index): f"{node.name}:{text}"
        for node in body.nodes
        for index, text in enumerate(output_names(node))
    }

    def write(text: str) -> str:
        source, index = parse_input(text)
        return text if index is None else written.get((source, index), source)

    for node in body.nodes:
        copy = function_def.node_def.add()
        copy.CopyFrom(node)
        del copy.input[:]
        copy.input.extend(write(text) for text in node.input)
    for argument, text in zip(function_def.signature.output_arg, body.returns, strict=True):
        function_def.ret[argument.name] = write(text)
    kept = {node.name for node in body.nodes}
    for key in [key for key, value in function_def.control_ret.items() if value not in kept]:
        del function_def.control_ret[key]
    return function_def


def body_of_graph(graph_def: Any) -> Body:
    return Body([_copy(node) for node in graph_def.node], [], [])


def graph_of_body(body: Body, library: Iterable[Any], versions: Any) -> Any:
    graph_def = tf.compat.v1.GraphDef()
    graph_def.versions.CopyFrom(versions)
    graph_def.node.extend(body.nodes)
    graph_def.library.function.extend(library)
    return graph_def


XLA = "_XlaMustCompile"
_copies = itertools.count()


def edit(
    graph_def: Any, change: Callable[[Body, str | None], Body], signature: Callable[[Any], None] | None = None
) -> Any:
    """A GraphDef with `change(body, function name or None)` made to it and to all its functions.

    Changed functions get new names: a runtime that knows a name keeps its first definition.  Where the change calls
    Python, which XLA cannot, no function of the graph is left to XLA.
    `signature` may change the dtypes of a function's arguments in place.
    """
    suffix = f"_lockstep{next(_copies)}"
    renamed = {f.signature.name: f.signature.name + suffix for f in graph_def.library.function}
    body = change(body_of_graph(graph_def), None)
    library = [
        function_of_body(f, change(body_of_function(f), f.signature.name), renamed[f.signature.name])
        for f in graph_def.library.function
    ]
    if signature is not None:
        for function_def in library:
            signature(function_def)
    for node in [*body.nodes, *(node for f in library for node in f.node_def)]:
        for value in node.attr.values():
            if value.func.name in renamed:
                value.func.name = renamed[value.func.name]
    _keep_python_from_xla(body, library)
    return graph_of_body(body, library, graph_def.versions)


def _keep_python_from_xla(body: Body, library: Sequence[Any]) -> None:
    nodes = [*body.nodes, *(node for f in library for node in f.node_def)]
    if any(node.op in PYTHON_FUNCTIONS for node in nodes):
        for carrier in (*nodes, *library):
            if XLA in carrier.attr:
                del carrier.attr[XLA]


def rewired(body: Body, replaced: Mapping[str, str], keep: Callable[[str], bool]) -> Body:
    """Every reader of a replaced output (`name:index`) reads the new one, but nodes for which `keep`."""

    def new(text: str) -> str:
        source, index = parse_input(text)
        return text if index is None else replaced.get(f"{source}:{index}", text)

    for node in body.nodes:
        if not keep(node.name):
            inputs = [new(text) for text in node.input]
            del node.input[:]
            node.input.extend(inputs)
    return Body(body.nodes, body.arguments, [new(text) for text in body.returns])


def make_node(name: str, op: str, inputs: Iterable[str], **attrs: Any) -> Any:
    """A NodeDef; attributes are truth values, integers, bytes, dtypes, lists of integers or dtypes, or AttrValues."""
    node = tf.compat.v1.NodeDef(name=name, op=op)
    node.input.extend(inputs)
    for key, value in attrs.items():
        if isinstance(value, tf.DType):
            node.attr[key].type = value.as_datatype_enum
        elif isinstance(value, list):
            node.attr[key].list.i.extend(x for x in value if isinstance(x, int))
            node.attr[key].list.type.extend(x.as_datatype_enum for x in value if isinstance(x, tf.DType))
        elif isinstance(value, bool):
            node.attr[key].b = value
        elif isinstance(value, bytes):
            node.attr[key].s = value
        elif isinstance(value, int):
            node.attr[key].i = value
        else:
            node.attr[key].CopyFrom(value)
    return node


def _copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
