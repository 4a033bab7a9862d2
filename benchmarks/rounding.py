"""Lanes that differ as two devices do: every product of a graph is computed of an operand times three, over three."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# Which operand of each product is taken times three.
OPERANDS = {
    "Conv2D": 1, "DepthwiseConv2dNative": 1, "MatMul": 1, "BatchMatMulV2": 1, "BatchMatMulV3": 1, "Einsum": 1,
    "Conv2DBackpropInput": 2, "Conv2DBackpropFilter": 2, "DepthwiseConv2dNativeBackpropInput": 2,
    "DepthwiseConv2dNativeBackpropFilter": 2,
}  # fmt: skip
FLOAT = tf.float32.as_datatype_enum


def thirds(graph_def: Any) -> Any:
    """A rewriter: right to the rounding of two more operations a product, and so other bits nearly everywhere."""
    products = [node for node in graph_def.node if node.op in OPERANDS and node.attr["T"].type == FLOAT]
    renamed = {f"{node.name}{index}": f"{node.name}/thirds:0" for node in products for index in ("", ":0")}
    for node in graph_def.node:
        for position, text in enumerate(node.input):
            node.input[position] = renamed.get(text, text)
    for node in products:
        three, times, over = f"{node.name}/three", f"{node.name}/times", f"{node.name}/thirds"
        operand = node.input[OPERANDS[node.op]]
        node.input[OPERANDS[node.op]] = f"{times}:0"
        graph_def.node.extend(
            [_three(three), _binary(times, "Mul", operand, three), _binary(over, "RealDiv", node.name, three)]
        )
    return graph_def


def _three(name: str) -> Any:
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = FLOAT
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(3.0, tf.float32))
    return node


def _binary(name: str, op: str, a: str, b: str) -> Any:
    node = tf.compat.v1.NodeDef(name=name, op=op, input=[a, b])
    node.attr["T"].type = FLOAT
    return node
