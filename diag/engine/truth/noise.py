"""Results of a float64 graph moved at random, by as much as rounding, or another right algorithm, may move them."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Collection
from enum import Enum
from typing import Any

import tensorflow as tf

from diag.engine.graphs.editing import make_node
from diag.engine.graphs.graph import Graph, Node, Port
from diag.engine.graphs.python_calls import python_call
from diag.engine.graphs.tf_runtime import COMPLEXES, REALS, format_of_dtype, in_precision_of
from diag.engine.truth.rounding_nodes import constant_node
from diag.engine.truth.sum_orders import PLAIN_SUMS, loss_in_order, merged_terms, sum_of_sizes
from diag.engine.truth.transforms import is_transformable, nodes_of_mixed_scale, nodes_of_product_norm
from diag.numerics.formats import FLOAT32
from diag.numerics.op_classes import is_product
from diag.numerics.terms import MATRIX_PRODUCTS


class Noise(Enum):
    """Which results are moved at random, and by how much.

    ROUNDING: all that round, by up to one rounding.  PRODUCTS: of those the results of products and sums alone, which
    is most of it at a third of the cost.  TRANSFORMS: the results of convolutions and matrix products alone, by up to u
    times what a transform or a fast product mixes into each element (diag/engine/truth/transforms.py).  ORDERS: the
    results of products and sums, all elements of one alike, by what a sum of one term after the other loses
    (diag/engine/truth/sum_orders.py).
    UNDERFLOW: all that round, by up to the smallest normal number, as a kernel does that flushes subnormal ones.
    """

    ROUNDING = "rounding"
    PRODUCTS = "products"
    TRANSFORMS = "transforms"
    ORDERS = "orders"
    UNDERFLOW = "underflow"

    def moves(self, op_type: str) -> bool:
        """Whether results of an op have it."""
        if self is Noise.TRANSFORMS:
            return is_transformable(op_type)
        if self is Noise.ORDERS:
            return is_product(op_type) or op_type in PLAIN_SUMS
        return self in (Noise.ROUNDING, Noise.UNDERFLOW) or rounds_most(op_type)


def rounds_most(op_type: str) -> bool:
    """Ops of which one rounding of each result, and of what is read, is most of what rounding does to a step."""
    return is_product(op_type) or op_type in PLAIN_SUMS or op_type in ("Placeholder", "ReadVariableOp")


class NoiseNodes:
    """The nodes that move results of one body, which has the graph `known` where nothing is widened.

    still: nodes of which nothing is moved.  added: the nodes, in order.  alive: what has to live as long as they.
    """

    def __init__(
        self, noise: Noise | None, known: Graph, still: Collection[str], added: list[Any], alive: list[object]
    ) -> None:
        self.noise, self.known, self.still, self.added, self.alive = noise, known, still, added, alive
        self._scalars: set[str] = set()

    def moves(self, node: Node) -> bool:
        """Whether results of a node are moved."""
        noise = self.noise
        if noise in (Noise.ORDERS, Noise.TRANSFORMS) and any(dtype in COMPLEXES for dtype in node.dtypes):
            return False  # what they lose is not known of complex numbers
        return noise is not None and noise.moves(node.op) and node.name not in self.still

    def size_of(self, proto: Any, node: Node) -> str | None:
        """What a result's noise is a part of, where that is not the result itself."""
        if self.noise is Noise.TRANSFORMS:
            if node.op in MATRIX_PRODUCTS:
                size, added = nodes_of_product_norm(proto, node)
            else:
                size, added = nodes_of_mixed_scale(proto, node, self.known.shape(Port(node.name, 0)).rank)
            self.added += added
            return size
        if self.noise is Noise.UNDERFLOW:
            return None
        is_sum = node.op in PLAIN_SUMS or self.noise is Noise.ORDERS
        if not is_sum or node.dtypes[0] not in REALS:
            return None
        self.added += sum_of_sizes(proto, node, self.known)
        return f"{self.added[-1].name}:0"

    def _lost_in_order(self, node: Node, size: str) -> str:
        """A number: what the op's sums lose that are made one term after the other, in units of u|A||B|."""
        merged = merged_terms(node, self.known)
        ports = node.inputs if merged is None else (merged,)
        inputs = [(str(port), in_precision_of(tf.float64, self.known.dtype(port))) for port in ports]
        name = f"{node.name}/lockstep_lost"
        lost = loss_in_order(node, merged is not None)
        call, kept = python_call(name, lost, [*inputs, (size, tf.float64)], [tf.float64])
        self.alive.append(kept)
        self.added += [call, make_node(f"{name}/shaped", "EnsureShape", [f"{name}:0"], T=tf.float64)]
        self.added[-1].attr["shape"].shape.CopyFrom(tf.TensorShape([]).as_proto())
        return f"{name}/shaped:0"

    def moved(self, node: Node, position: int, wide: str | None = None, size: str | None = None) -> str:
        """Port * uniform(1 - u, 1 + u), each port with a stream of its own that every process repeats.

        With a size, port + size * uniform(-u, u).
        wide: the node that holds the port's value in float64, by default the port itself.  size: of what the noise
        is a part, by default of the value.
        """
        port, dtype = Port(node.name, position), node.dtypes[position]
        base = f"lockstep_wide/{port.node}/noise{port.index}"
        value, u = str(port) if wide is None else f"{wide}:0", self._most(dtype)
        if self.noise is Noise.ORDERS:
            assert size is not None
            self._move_as_one(base, value, size, self._lost_in_order(node, size), u)
        elif dtype in COMPLEXES:  # the pairs of its reals are moved
            pairs, moved = f"{base}/pairs", f"{base}/moved"
            self.added.append(make_node(pairs, "Bitcast", [value], T=tf.complex128, type=tf.float64))
            self._move(moved, base, f"{pairs}:0", size, u)
            self.added.append(make_node(base, "Bitcast", [f"{moved}:0"], T=tf.float64, type=tf.complex128))
        else:
            self._move(base, base, value, size, u)
        return f"{base}:0"

    def _most(self, dtype: tf.DType) -> float:
        """The most that a result is moved by, as a part of its size; of underflow, the number."""
        format = format_of_dtype(dtype)
        if self.noise is Noise.UNDERFLOW:
            return format.underflow
        if self.noise in (Noise.TRANSFORMS, Noise.ORDERS):  # narrower products are summed in float32
            return min(format.unit_roundoff, FLOAT32.unit_roundoff)
        return format.unit_roundoff

    def _move(self, name: str, base: str, value: str, size: str | None, u: float) -> None:
        """The node `name`: a value moved by up to u, each element by itself.

        Infinities stay: a part of an infinite size could be minus infinity, and the sum of both NaN.
        """
        double, is_factor = tf.float64, size is None and self.noise is not Noise.UNDERFLOW
        middle = 1.0 if is_factor else 0.0
        self.added.append(make_node(f"{base}/shape", "Shape", [value], T=double, out_type=tf.int32))
        self._draw(base)
        self.added += [
            make_node(f"{base}/spread", "Mul", [f"{base}/uniform:0", self.scalar(2 * u)], T=double),
            make_node(f"{base}/factor", "AddV2", [f"{base}/spread:0", self.scalar(middle - u)], T=double),
        ]
        if is_factor:
            self.added.append(make_node(name, "Mul", [value, f"{base}/factor:0"], T=double))
            return
        if size is None:  # what is zero exactly is nothing that was flushed
            part = make_node(f"{base}/part", "Sign", [value], T=double)
        else:
            least, most = self.scalar(-sys.float_info.max), self.scalar(sys.float_info.max)
            part = make_node(f"{base}/part", "ClipByValue", [size, least, most], T=double)
        self.added += [
            part,
            make_node(f"{base}/added", "Mul", [f"{base}/part:0", f"{base}/factor:0"], T=double),
            make_node(name, "AddV2", [value, f"{base}/added:0"], T=double),
        ]

    def _move_as_one(self, base: str, value: str, size: str, lost: str, u: float) -> None:
        """The node `base`: value + size * u * lost, or minus, all elements alike."""
        double = tf.float64
        scalar = tf.compat.v1.AttrValue(tensor=tf.make_tensor_proto([], tf.int32))
        self.added.append(make_node(f"{base}/shape", "Const", [], dtype=tf.int32, value=scalar))
        self._draw(base)
        self.added += [
            make_node(f"{base}/centred", "Sub", [f"{base}/uniform:0", self.scalar(0.5)], T=double),
            make_node(f"{base}/sign", "Sign", [f"{base}/centred:0"], T=double),
            make_node(f"{base}/lost", "Mul", [f"{base}/sign:0", lost], T=double),
            make_node(f"{base}/factor", "Mul", [f"{base}/lost:0", self.scalar(u)], T=double),
            make_node(f"{base}/added", "Mul", [size, f"{base}/factor:0"], T=double),
            make_node(base, "AddV2", [value, f"{base}/added:0"], T=double),
        ]

    def _draw(self, base: str) -> None:
        """Uniform numbers in [0, 1), of the shape that stands in `shape`."""
        seed = {"seed": 1, "seed2": zlib.crc32(base.encode())}  # a seed is what op determinism asks for
        node = make_node(f"{base}/uniform", "RandomUniform", [f"{base}/shape:0"], T=tf.int32, dtype=tf.float64, **seed)
        self.added.append(node)

    def scalar(self, value: float) -> str:
        """A constant of the body, made once."""
        name = f"lockstep_wide/scalar/{value.hex().replace('+', '')}"
        if name not in self._scalars:
            self._scalars.add(name)
            self.added.append(constant_node(name, value, tf.float64))
        return f"{name}:0"
