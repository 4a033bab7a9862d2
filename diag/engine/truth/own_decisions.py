"""Branches that hang on what a format can hold: float64 takes another than float32 does, and neither is wrong.

A square that underflows, an exponential that overflows, the lowest number of a format: truth of what follows is taken
by the decision that the format's own arithmetic comes to, on the unit's own inputs.

A gate that is closed, such as a relu's gradient, is multiplied by zero by some kernels of TensorFlow and passed over by
others: of an infinite or NaN gradient the former make NaN, the latter zero.  Here it is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from diag.engine.graphs.editing import Body, make_node
from diag.engine.graphs.graph import CONTROL_FLOW_OPS, READ_OPS, Graph, Node, Port
from diag.engine.graphs.reachability import reachable
from diag.engine.graphs.runtime_functions import has_effect
from diag.engine.graphs.tf_runtime import FLOATS, in_precision_of
from diag.numerics.op_classes import is_random

OWN_DECISION = "own-decision"
_PREFIX = "lockstep_wide/decided"
_DECISIONS = frozenset(
    ("Equal", "Greater", "GreaterEqual", "IsFinite", "IsInf", "IsNan", "Less", "LessEqual", "NotEqual")
)

GATES = frozenset({"ReluGrad", "Relu6Grad"})
"""Gradients that pass as they are or not at all: what becomes of a gradient of 1 tells by which feature."""


def has_decisions(graph: Graph) -> bool:
    """Whether anything in a graph hangs on what a format can hold."""
    return bool(decisions(graph)) or any(node.op in GATES for node in graph)


def decisions(graph: Graph) -> list[Node]:
    """The nodes that compare floating numbers, or ask whether they are finite."""
    return [n for n in graph if n.op in _DECISIONS and any(graph.dtype(port) in FLOATS for port in n.inputs)]


def decided(graph: Graph, protos: Iterable[Any]) -> tuple[list[Any], dict[str, str]]:
    """What leads to the decisions of a graph in its own formats, beside the graph in float64.

    protos: the nodes as they are before they are widened.  Returns the nodes to add, and whose output (`name:index`)
    is to be read in place of which.
    """
    made = decisions(graph)
    start = [node.name for node in made]
    inside = reachable(start, lambda name: _sources(graph, name))
    kept = {name for name in inside if not _is_given(graph, graph.by_name[name])}
    added: dict[str, Any] = {}

    def read(port: Port) -> str:
        node, name = graph.by_name[port.node], f"{_PREFIX}/{port.node}"
        if port.node in kept:
            return f"{name}:{port.index}"
        dtype = graph.dtype(port)
        if dtype not in FLOATS or is_random(node.op):
            return str(port)
        cast = f"{name}/given{port.index}"
        wide = in_precision_of(tf.float64, dtype)
        added[cast] = make_node(cast, "Cast", [str(port)], SrcT=wide, DstT=dtype)
        return f"{cast}:0"

    for proto in protos:
        if proto.name in kept:
            added[proto.name] = _copied(proto, graph.by_name[proto.name], read)
    return list(added.values()), {f"{name}:0": f"{_PREFIX}/{name}:0" for name in start}


def close_gates(body: Body) -> None:
    """Have the gates of a float64 graph, whose nodes are changed, pass zero where they are closed."""
    gates = [node for node in body.nodes if node.op in GATES and node.attr["T"].type == tf.float64.as_datatype_enum]
    for node in gates:
        gradient, feature = node.input[:2]
        base = f"{_PREFIX}/{node.name}"
        ones, zeros, passed, is_closed, gated = (
            f"{base}/{name}" for name in ("ones", "zeros", "passed", "is_closed", "gated")
        )
        body.nodes += [
            make_node(ones, "OnesLike", [feature], T=tf.float64),
            make_node(zeros, "ZerosLike", [feature], T=tf.float64),
            make_node(passed, node.op, [f"{ones}:0", feature], T=tf.float64),
            make_node(is_closed, "Equal", [f"{passed}:0", f"{zeros}:0"], T=tf.float64),
            make_node(gated, "SelectV2", [f"{is_closed}:0", f"{zeros}:0", gradient], T=tf.float64),
        ]
        node.input[0] = f"{gated}:0"


def _copied(proto: Any, node: Node, read: Callable[[Port], str]) -> Any:
    copy = type(proto)()
    copy.CopyFrom(proto)
    copy.name = f"{_PREFIX}/{node.name}"
    del copy.input[:]
    copy.input.extend(read(port) for port in node.inputs)
    return copy


def _is_given(graph: Graph, node: Node) -> bool:
    """Whether a node's results are read from the graph in float64 and not computed anew.

    What reads a list is: a loop has put numbers of float64 there.
    """
    return (
        any(graph.dtype(port) == tf.variant for port in node.inputs)
        or node.op in ("Placeholder", *READ_OPS, *CONTROL_FLOW_OPS)
        or node.op.endswith("PartitionedCall")
        or is_random(node.op)
        or has_effect(node.op)
    )


def _sources(graph: Graph, name: str) -> list[str]:
    node = graph.by_name[name]
    return [] if _is_given(graph, node) else [port.node for port in node.inputs]
