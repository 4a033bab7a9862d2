"""Calls of functions made before TensorFlow 2, such as those of `tf.nn.ctc_loss`, as the calls of today.

`Defun` calls a function by an op of the function's own name, which no registry knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diag.engine.graphs.graph import Graph


def with_calls_of_today(graph_def: Any, graph: Graph) -> Graph:
    """The graph of a GraphDef with every function called by PartitionedCall; so is the GraphDef, in place."""
    signatures = {function.signature.name: function.signature for function in graph_def.library.function}
    for function in graph_def.library.function:
        _call_in_body(function, signatures)
    changed = {node.name: node for node in graph_def.node if node.op in signatures}
    for node in changed.values():
        _call(node, signatures)
    nodes = (
        replace(node, op=changed[node.name].op, proto=changed[node.name]) if node.name in changed else node
        for node in graph
    )
    return Graph(tuple(nodes), graph.inputs, graph.outputs) if changed else graph


def _call(node: Any, signatures: Mapping[str, Any]) -> None:
    signature = signatures[node.op]
    node.attr["f"].func.name = node.op
    node.attr["Tin"].list.type.extend(argument.type for argument in signature.input_arg)
    node.attr["Tout"].list.type.extend(argument.type for argument in signature.output_arg)
    node.op = "StatefulPartitionedCall" if signature.is_stateful else "PartitionedCall"


def _call_in_body(function: Any, signatures: Mapping[str, Any]) -> None:
    """In a body outputs have names: the calls of today give all theirs one, `output`."""
    outputs = {}
    for node in function.node_def:
        if node.op in signatures:
            for index, argument in enumerate(signatures[node.op].output_arg):
                outputs[f"{node.name}:{argument.name}:0"] = f"{node.name}:output:{index}"
            _call(node, signatures)
    for node in function.node_def if outputs else ():
        inputs = [outputs.get(text, text) for text in node.input]
        del node.input[:]
        node.input.extend(inputs)
    for name, text in list(function.ret.items()) if outputs else ():
        function.ret[name] = outputs.get(text, text)
