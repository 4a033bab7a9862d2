"""What a random op of a step draws from, as far as its graph says."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.graphs.graph import Graph, Node, Port
from diag.engine.graphs.tf_runtime import op_def
from diag.numerics.random_laws import RandomLaw, law_of_op

_SAME_VALUES = ("Identity", "BroadcastTo", "Reshape", "ExpandDims", "Cast", "Fill")


def law_of(graph: Graph, node: Node) -> RandomLaw | None:
    """None where the op has no one law, or one whose parameters are no constants of the graph."""
    names = [argument.name for argument in op_def(node.op).input_arg]
    found = {name: constant_of(graph, port) for name, port in zip(names, node.inputs, strict=False)}
    given = {name: value for name, value in found.items() if value is not None}
    return law_of_op(node.op, node.dtypes[0].name, given)


def constant_of(graph: Graph, port: Port) -> np.ndarray[Any, Any] | None:
    """The elements of a tensor that is a constant, or one in another shape or dtype; None of any other."""
    node = graph.by_name[port.node]
    while node.op in _SAME_VALUES:
        node = graph.by_name[node.inputs[1 if node.op == "Fill" else 0].node]
    return np.asarray(tf.make_ndarray(node.proto.attr["value"].tensor)) if node.op == "Const" else None
