"""Operands of products rounded inside a float64 graph, as a tensor core rounds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from diag.engine.graphs.editing import make_node
from diag.numerics.formats import Rounding


@dataclass(frozen=True)
class OperandRounding:
    """Operands of products rounded to `precision` significand bits.

    products: the indices of the ops whose operands are; None for every product.
    """

    precision: int
    mode: Rounding
    products: frozenset[int] | None = None

    def is_of(self, op_index: int | None) -> bool:
        """Whether the operands of a product are rounded."""
        return self.products is None or op_index in self.products


def rounding_nodes(name: str, source: str, rounding: OperandRounding) -> list[Any]:
    """Nodes that round a float64 tensor; the last bears `name`."""
    dropped = 53 - rounding.precision
    double, bits = tf.float64, tf.int64
    if rounding.mode != "nearest-even":  # on the encoding, which orders magnitudes: half a unit up, or none; cut off
        half = 1 << (dropped - 1) if rounding.mode == "nearest-away" else 0
        return [
            make_node(f"{name}/bits", "Bitcast", [source], T=double, type=bits),
            constant_node(f"{name}/half", half, bits),
            make_node(f"{name}/raised", "AddV2", [f"{name}/bits:0", f"{name}/half:0"], T=bits),
            constant_node(f"{name}/mask", -(1 << dropped), bits),
            make_node(f"{name}/kept", "BitwiseAnd", [f"{name}/raised:0", f"{name}/mask:0"], T=bits),
            make_node(name, "Bitcast", [f"{name}/kept:0"], T=bits, type=double),
        ]
    return [  # Veltkamp's splitting (Dekker 1971): the high part is the operand to nearest
        constant_node(f"{name}/split", float((1 << dropped) + 1), double),
        make_node(f"{name}/large", "Mul", [source, f"{name}/split:0"], T=double),
        make_node(f"{name}/rest", "Sub", [f"{name}/large:0", source], T=double),
        make_node(name, "Sub", [f"{name}/large:0", f"{name}/rest:0"], T=double),
    ]


def constant_node(name: str, value: float, dtype: tf.DType) -> Any:
    """A Const of one number, of shape ()."""
    tensor = tf.make_tensor_proto(value, dtype)
    return make_node(name, "Const", [], dtype=dtype, value=tf.compat.v1.AttrValue(tensor=tensor))
