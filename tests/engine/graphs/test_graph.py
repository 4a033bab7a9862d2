"""Where nodes stand among ops, by hand."""

from __future__ import annotations

import tensorflow as tf

from diag.engine.graphs.graph import Graph, Node, Port, order_of_ops
from diag.engine.graphs.locations import FORWARD, Location


def node(name: str, op: str, index: int | None, body: str | None = None) -> Node:
    proto = tf.compat.v1.NodeDef(name=name, op=op)
    if body is not None:
        proto.attr["body"].func.name = body
    return Node(name, op, (), (), proto, (), (), Location(FORWARD, None, None, index))


def graph(*nodes: Node) -> Graph:
    return Graph(nodes, (), ())


def test_silent_nodes_do_not_count_and_the_bodies_of_loops_do():
    """A constant before an op must not make the op's layer later than the next layer's op."""
    body = graph(node("inside", "Mul", 1), node("called", "PartitionedCall", None, "deep"))
    deep = graph(node("deepest", "Add", 2))
    outer = graph(
        node("c0", "Const", None), node("c1", "Const", None), node("first", "Conv2D", 0),
        node("loop", "While", None, "body"), node("last", "MatMul", 3), node("returned", "Identity", None),
    )  # fmt: skip
    assert order_of_ops(outer, {"body": body, "deep": deep}) == {
        "c0": -1, "c1": -1, "first": 0, "loop": 2, "last": 3, "returned": 3,
    }  # fmt: skip


def test_a_function_that_calls_itself_is_entered_once():
    body = graph(node("again", "PartitionedCall", None, "body"), node("inside", "Mul", 5))
    outer = graph(node("call", "PartitionedCall", None, "body"))
    assert order_of_ops(outer, {"body": body}) == {"call": 5}


def test_a_port_is_written_as_tensorflow_writes_it():
    assert str(Port("a/b", 1)) == "a/b:1"
