"""Numbers on the way that leave the range of their format: float64 holds them, the format does not.

Where a product of float16 passes 65,504 the rest of a layer computes with infinity, though what the layer hands on is
small.  Whether it passes it hangs on the order of products and sums, which compilers change (XLA computes x (2 g) for
(2 x) g, grappler moves constants; a mean may be divided before it is added up), and on what a fusion keeps in float32.
So a layer has several truths there, none better than the others: float64's, with what a cast to a narrower format makes
infinite, and without (`KEPT_WIDE`); that of the ops as they are written, each with the range of its format; and that of
the order that leaves the range first.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.engine.graphs.editing import body_of_graph, graph_of_body, make_node, rewired
from diag.engine.graphs.graph import READ_OPS, SILENT_OPS, Graph, Node, Port, with_index
from diag.engine.graphs.tf_runtime import REALS, format_of_dtype
from diag.engine.truth.float64_graph import Promotion
from diag.engine.truth.rounding_nodes import constant_node
from diag.engine.truth.sum_orders import PLAIN_SUMS, sum_of_sizes
from diag.numerics.op_classes import is_product

OUT_OF_RANGE = "intermediate-overflow"


class Way(Enum):
    """Of computing with formats that have a range."""

    KEPT_WIDE = "kept wide"
    AS_WRITTEN = "as written"
    ANY_ORDER = "any order"


_PREFIX = "lockstep_range"
# Of ops that multiply, the input that each factor is; RealDiv multiplies by the reciprocal of its second.
_PRODUCTS = {
    "Mul": (0, 1), "RealDiv": (0, 1), "Square": (0, 0), "RsqrtGrad": (0, 0, 0, 1), "InvGrad": (0, 0, 1),
    "ReciprocalGrad": (0, 0, 1),
}  # fmt: skip
# What hands a factor on, as its first input.
_CARRIERS = frozenset(
    {"BroadcastTo", "Cast", "ExpandDims", "Identity", "Neg", "Reshape", "Squeeze", "Tile", "Transpose"}
)
_SLACK = 16  # roundings of the format by which a lane may be nearer to its limit than truth is


def with_ranges(graph_def: Any, promotion: Promotion, way: Way) -> tuple[Any, dict[Port, Port]]:
    """A float64 graph in which what leaves the range of its own format is infinite, or is not, if it is `KEPT_WIDE`.

    promotion: what the graph was made by.  Returns the graph, and which port to read in place of which.
    """
    body = body_of_graph(graph_def)
    sizes = _Sizes({proto.name: proto for proto in body.nodes}, promotion.graph, way)
    replaced: dict[Port, Port] = {}
    for node in promotion.graph:
        if node.name not in sizes.protos or node.op in SILENT_OPS or node.op in READ_OPS:
            continue
        for index, dtype in enumerate(node.dtypes):
            port = promotion.wide_port(Port(node.name, index))
            if dtype not in REALS or dtype == tf.float64:
                continue
            if way is not Way.KEPT_WIDE:
                replaced[port] = sizes.limited(node, index, str(port))
            elif port.node != node.name and node.op == "Cast":
                replaced[port] = sizes.kept(node, str(port))
    body = rewired(body, {str(old): str(new) for old, new in replaced.items()}, keep=lambda _: False)
    body.nodes.extend(sizes.added)
    return graph_of_body(body, graph_def.library.function, graph_def.versions), replaced


class _Sizes:
    """How large results are, and may be on the way in any order of their factors and terms, where that is the way.

    protos: the float64 nodes by name.  graph: as it was.  added: new nodes.
    """

    def __init__(self, protos: dict[str, Any], graph: Graph, way: Way) -> None:
        self.protos, self._graph, self._way = protos, graph, way
        self.added: list[Any] = []
        self._known: dict[str, tuple[str, str]] = {}
        self._sizes: dict[str, str] = {}

    def limited(self, node: Node, index: int, value: str) -> Port:
        """A node's value that is infinite, with its sign, where its size is beyond the limit of the format."""
        size = self._largest(node, value)
        base, format = f"{_PREFIX}/{node.name}/{index}", format_of_dtype(node.dtypes[index])
        self.added += [
            constant_node(f"{base}/limit", format.largest * (1 - _SLACK * format.unit_roundoff), tf.float64),
            constant_node(f"{base}/infinity", np.inf, tf.float64),
            make_node(f"{base}/is_out", "Greater", [size, f"{base}/limit:0"], T=tf.float64),
            make_node(f"{base}/infinite", "Mul", [value, f"{base}/infinity:0"], T=tf.float64),
            make_node(base, "Select", [f"{base}/is_out:0", f"{base}/infinite:0", value], T=tf.float64),
        ]
        return Port(base, 0)

    def kept(self, node: Node, value: str) -> Port:
        """What a cast to a narrower format makes infinite, as it was."""
        base, source = f"{_PREFIX}/{node.name}/0", self.protos[node.name].input[0]
        self.added += [
            make_node(f"{base}/is_held", "IsFinite", [value], T=tf.float64),
            make_node(base, "Select", [f"{base}/is_held:0", value, source], T=tf.float64),
        ]
        return Port(base, 0)

    def _largest(self, node: Node, value: str) -> str:
        """What has to be in range: the value itself, or what any order of its factors or terms comes to."""
        if self._way is Way.AS_WRITTEN:
            return self._absolute(value)
        assert self._way is Way.ANY_ORDER
        if node.op in _PRODUCTS:
            return self._of(value)[0]
        is_sum = node.op in PLAIN_SUMS or is_product(node.op)
        return self._of_terms(node) if is_sum and _is_wide(self.protos[node.name]) else self._absolute(value)

    def _absolute(self, value: str) -> str:
        if value not in self._sizes:
            self._sizes[value] = self._make("Abs", [value], value, "absolute")
        return self._sizes[value]

    def _of_terms(self, node: Node) -> str:
        """What a sum comes to at most, in any order; a mean's before it is divided."""
        self.added += sum_of_sizes(self.protos[node.name], node, self._graph)
        if node.op == "Mean":
            self.added[-1].op = "Sum"
        return f"{self.added[-1].name}:0"

    def _of(self, value: str) -> tuple[str, str]:
        """The product of all factors of a value that are above 1, and of all that are below."""
        if value not in self._known:
            self._known[value] = self._measure(value)
        return self._known[value]

    def _measure(self, value: str) -> tuple[str, str]:
        proto = self.protos.get(value.removesuffix(":0"))
        if proto is not None and proto.op in _PRODUCTS:
            factors = [self._of(with_index(proto.input[position])) for position in _PRODUCTS[proto.op]]
            above, below = (list(sizes) for sizes in zip(*factors, strict=True))
            if proto.op == "RealDiv":
                above[1], below[1] = below[1], above[1]
            op = "RealDiv" if proto.op == "RealDiv" else "Mul"
            return self._product(op, above, f"{value}/large"), self._product(op, below, f"{value}/small")
        if proto is not None and proto.op in _CARRIERS and _is_wide(proto):
            large, small = self._of(with_index(proto.input[0]))
            return self._carried(proto, large, "large"), self._carried(proto, small, "small")
        one, size = f"{_PREFIX}/sizes/{_named(value)}/one", self._absolute(value)
        self.added.append(constant_node(one, 1.0, tf.float64))
        return (
            self._make("Maximum", [size, f"{one}:0"], value, "large"),
            self._make("Minimum", [size, f"{one}:0"], value, "small"),
        )

    def _make(self, op: str, inputs: list[str], value: str, what: str) -> str:
        name = f"{_PREFIX}/sizes/{_named(value)}/{what}"
        self.added.append(make_node(name, op, inputs, T=tf.float64))
        return f"{name}:0"

    def _product(self, op: str, factors: list[str], name: str) -> str:
        result = factors[0]
        for number, factor in enumerate(factors[1:], start=1):
            result = self._make(op, [result, factor], name, str(number))
        return result

    def _carried(self, proto: Any, size: str, what: str) -> str:
        copy = type(proto)()
        copy.CopyFrom(proto)
        copy.name = f"{_PREFIX}/sizes/{_named(proto.name)}/{what}"
        if copy.op == "Neg":
            copy.op = "Identity"
        copy.input[0] = size
        self.added.append(copy)
        return f"{copy.name}:0"


def nearest(x: npt.NDArray[Any], truths: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Of each element, the truth that x is nearest to; x itself where neither is finite."""
    best = truths[0]
    with np.errstate(invalid="ignore"):
        for truth in truths[1:]:
            is_nearer = np.abs(x - truth) < np.abs(x - best)
            is_nearer |= np.isfinite(x) & np.isfinite(truth) & ~np.isfinite(best)
            best = np.where(~np.isfinite(x) & ~np.isfinite(truth), x, np.where(is_nearer, truth, best))
    return np.asarray(best, np.float64)


def _is_wide(proto: Any) -> bool:
    """Whether an op takes and gives float64."""
    if proto.op == "Cast":
        return proto.attr["SrcT"].type == proto.attr["DstT"].type == tf.float64.as_datatype_enum
    return proto.attr["T"].type == tf.float64.as_datatype_enum


def _named(value: str) -> str:
    """`split:1` as `split/1`: no other value is named so, whatever nodes are called."""
    return with_index(value).replace(":", "/")
