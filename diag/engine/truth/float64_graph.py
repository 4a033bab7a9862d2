"""The truth lane's program: the same graph with every floating tensor in float64, or complex128.

An op that has a float64 kernel on the CPU gets it.  An op that has none is computed from its definition
(diag/numerics/definitions.py); without one it keeps its dtype between two casts, and is named in `unpromoted`, since
what it computes is then no truth.  Random ops keep theirs as well: in float64 they would draw another stream.  A cast
to a narrower dtype still rounds, for both lanes read the rounded value and so must the truth.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import tensorflow as tf

from diag.engine.graphs.editing import Body, edit, make_node, rewired
from diag.engine.graphs.graph import CONTROL_FLOW_OPS, Graph, Node, Port
from diag.engine.graphs.python_calls import python_call
from diag.engine.graphs.tf_runtime import (
    COMPLEXES,
    FLOATS,
    REALS,
    attributes,
    format_of_dtype,
    in_double,
    in_precision_of,
    readable_attributes,
    type_attributes,
)
from diag.engine.truth.own_decisions import close_gates, decided
from diag.engine.truth.rounding_nodes import OperandRounding, constant_node, rounding_nodes
from diag.engine.truth.sum_orders import loss_in_order, merged_terms
from diag.engine.truth.transforms import is_transformable, nodes_of_mixed_scale, nodes_of_product_norm
from diag.numerics.definitions import defined, has_definition
from diag.numerics.formats import FLOAT32
from diag.numerics.op_classes import ErrorClass, class_of, is_product, is_random
from diag.numerics.terms import MATRIX_PRODUCTS

_NARROW = "/lockstep_narrow"
DOUBLES = (tf.float64, tf.complex128)


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


@dataclass
class Promotion:
    """Rewrites GraphDefs to float64; `unpromoted` are the ops that could not be, `alive` is what has to live as long.

    With `operands`, the operands of every product, or of those it names, are rounded to a narrower format first, as
    a tensor core does.

    With `noise`, every input, every variable read and the result of every op that rounds, or those of them that the
    kind of noise is of, is moved at random by up to one rounding of its own format, each time anew: the spread of such
    runs is what rounding does to the whole graph (Monte Carlo arithmetic: Parker 1997; Denis, de Oliveira Castro and
    Petit 2016).  Where a policy mixes formats, what is computed in float32 is held to float32.  `still` are nodes of
    which nothing is moved.

    With `own_decisions`, comparisons are made in the graph's own formats (diag/engine/truth/own_decisions.py).
    """

    graph: Graph
    functions: dict[str, Graph]
    noise: Noise | None = None
    operands: OperandRounding | None = None
    still: Collection[str] = ()
    own_decisions: bool = False
    unpromoted: set[str] = field(default_factory=set)
    alive: list[object] = field(default_factory=list)
    _wide: dict[str, str] = field(default_factory=dict)

    def apply(self, graph_def: Any) -> Any:
        return edit(graph_def, self._change, _widen_signature)

    def wide_port(self, port: Port) -> Port:
        """Where the float64 value of a port of the graph is: behind a cast or behind its noise, if there is one."""
        return Port(self._wide[str(port)].removesuffix(":0"), 0) if str(port) in self._wide else port

    def _change(self, body: Body, function_name: str | None) -> Body:
        known = self.graph if function_name is None else self.functions[function_name]
        originals = (
            [type(proto).FromString(proto.SerializeToString()) for proto in body.nodes] if self.own_decisions else []
        )
        promoted = _PromotedBody(self, known, is_step=function_name is None)
        for proto in list(body.nodes):
            node = known.by_name.get(proto.name)
            if node is not None:
                promoted.add(proto, node)
        replaced, added = promoted.replaced, promoted.added
        if self.own_decisions and function_name is None:
            nodes, read_instead = decided(known, originals)
            added += nodes
            replaced |= read_instead
        own = {node.name for node in added if node.name.startswith("lockstep_wide/")}
        body = rewired(body, replaced, keep=lambda name: name in own)
        body.nodes.extend(added)
        for node in added:
            if node.name not in own:
                inputs = [_renamed(text, replaced) for text in node.input]
                del node.input[:]
                node.input.extend(inputs)
        if function_name is None:
            self._wide |= replaced
            if self.own_decisions:
                close_gates(body)
        return body


class _PromotedBody:
    """The nodes of one body, changed in place.

    added: new nodes.  replaced: outputs (`name:index`) whose readers are to read another.
    """

    def __init__(self, promotion: Promotion, known: Graph, is_step: bool) -> None:
        self.promotion, self.known, self.is_step = promotion, known, is_step
        self.replaced: dict[str, str] = {}
        self.added: list[Any] = []
        self.scalars: set[str] = set()

    def add(self, proto: Any, node: Node) -> None:
        """One node in float64, or in its own dtype between casts."""
        is_floating = any(self.known.dtype(port) in FLOATS for port in node.inputs) or bool(_floating(node))
        if node.op == "Const":
            self._widen_constant(proto, node)
        elif node.op in CONTROL_FLOW_OPS or node.op == "Placeholder" or node.op in _CONTAINERS:
            _widen_all_types(proto)
            if self.promotion.noise and "parallel_iterations" in proto.attr:
                proto.attr["parallel_iterations"].i = 1  # else the rounds of a loop take each other's draws
            if self.is_step and node.op in ("Placeholder", "ReadVariableOp") and _floating(node):
                self._move_at_random(node, 0)
        elif node.op == "Cast" and node.dtypes[0] in FLOATS:
            self._cast(proto, node, self.known.dtype(node.inputs[0]) in FLOATS)
        elif is_floating or _has_float_type(proto):
            self._compute(proto, node)

    def _compute(self, proto: Any, node: Node) -> None:
        if is_random(node.op):
            self._keep_narrow(proto, node)
        elif node.op != "Bitcast" and in_double(node.op, attributes(proto)) is not None:
            self._widen_node(proto, node)
        else:
            wide = self._define(proto, node) if has_definition(node.op) else self._keep_narrow(proto, node)
            for position, name in wide.items() if class_of(node.op) is not ErrorClass.EXACT else ():
                self._move_at_random(node, position, name)

    def _widen_node(self, proto: Any, node: Node) -> None:
        for name in type_attributes(node.op):
            if name in proto.attr:
                _widen(proto.attr[name])
        self._round_operands(proto, node)
        if class_of(node.op) is not ErrorClass.EXACT and self._is_moved(node):
            size = self._size(proto, node)
            for position in _floating(node):
                self._move_at_random(node, position, size=size)
        self._keep_limit(node)

    def _define(self, proto: Any, node: Node) -> dict[int, str]:
        """The op by its definition, beside the op itself, which nothing reads then.

        Returns the nodes that hold its floating outputs, by their position.
        """
        data = [text for text in proto.input if not text.startswith("^")]
        inputs = [(text, _wide(self.known.dtype(port))) for text, port in zip(data, node.inputs, strict=True)]
        op, attrs, num, name = node.op, readable_attributes(proto), len(node.dtypes), f"{node.name}/lockstep_defined"
        results = [_wide(dtype) for dtype in node.dtypes]
        lost = format_of_dtype(node.dtypes[0]).unit_roundoff if self._is_moved(node) else 0.0
        call, kept = python_call(name, lambda *arrays: defined(op, arrays, attrs, lost)[:num], inputs, results)
        self._keep_narrow(proto, node)
        self.promotion.alive.append(kept)
        self.added.append(call)
        shaped = {position: f"{name}/shaped{position}" for position in _floating(node)}
        for position, text in shaped.items():
            self.added.append(make_node(text, "EnsureShape", [f"{name}:{position}"], T=results[position]))
            self.added[-1].attr["shape"].shape.CopyFrom(node.shapes[position].as_proto())
            self.replaced[f"{node.name}:{position}"] = f"{text}:0"
        return shaped

    def _keep_limit(self, node: Node) -> None:
        """The value of an empty segment: the limit of the op's own format, not of float64."""
        if node.op not in EMPTY_IS_LIMIT:
            return
        limit, own = EMPTY_IS_LIMIT[node.op](tf.float64), EMPTY_IS_LIMIT[node.op](node.dtypes[0])
        base, value = f"lockstep_wide/{node.name}/limit", f"{node.name}:0"
        self.added += [
            make_node(f"{base}/is_empty", "Equal", [value, self._scalar(limit)], T=tf.float64),
            make_node(base, "SelectV2", [f"{base}/is_empty:0", self._scalar(own), value], T=tf.float64),
        ]
        self.replaced[value] = f"{base}:0"

    @staticmethod
    def _widen_constant(proto: Any, node: Node) -> None:
        if node.dtypes[0] in FLOATS:
            wide = _wide(node.dtypes[0])
            value = tf.make_ndarray(proto.attr["value"].tensor).astype(wide.as_numpy_dtype)
            proto.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
            proto.attr["dtype"].type = wide.as_datatype_enum

    def _round_operands(self, proto: Any, node: Node) -> None:
        rounding = self.promotion.operands
        if rounding is None or not is_product(node.op) or not rounding.is_of(node.location.index):
            return
        for position, port in enumerate(node.inputs):
            if self.known.dtype(port) in REALS:
                base = f"{proto.name}/lockstep_operand{position}"
                self.added += rounding_nodes(base, proto.input[position], rounding)
                proto.input[position] = f"{base}:0"

    def _size(self, proto: Any, node: Node) -> str | None:
        """What a result's noise is a part of, where that is not the result itself."""
        if self.promotion.noise is Noise.TRANSFORMS:
            if node.op in MATRIX_PRODUCTS:
                size, added = nodes_of_product_norm(proto, node)
            else:
                size, added = nodes_of_mixed_scale(proto, node, self.known.shape(Port(node.name, 0)).rank)
            self.added += added
            return size
        if self.promotion.noise is Noise.UNDERFLOW:
            return None
        is_sum = node.op in PLAIN_SUMS or self.promotion.noise is Noise.ORDERS
        return self._sum_of_sizes(proto, node) if is_sum and node.dtypes[0] in REALS else None

    def _sum_of_sizes(self, proto: Any, node: Node) -> str:
        """|A||B|, the op on absolute values: each of its additions may round by u of that."""
        sizes = type(proto)()
        sizes.CopyFrom(proto)
        sizes.name = f"{proto.name}/lockstep_sizes"
        for position, port in enumerate(node.inputs):
            if self.known.dtype(port) in FLOATS:
                absolute = f"{proto.name}/lockstep_absolute{position}"
                self.added.append(make_node(absolute, "Abs", [proto.input[position]], T=tf.float64))
                sizes.input[position] = f"{absolute}:0"
        self.added.append(sizes)
        return f"{sizes.name}:0"

    def _lost_in_order(self, node: Node, size: str) -> str:
        """A number: what the op's sums lose that are made one term after the other, in units of u|A||B|."""
        merged = merged_terms(node, self.known)
        ports = node.inputs if merged is None else (merged,)
        inputs = [(str(port), _wide(self.known.dtype(port))) for port in ports]
        name = f"{node.name}/lockstep_lost"
        lost = loss_in_order(node, merged is not None)
        call, kept = python_call(name, lost, [*inputs, (size, tf.float64)], [tf.float64])
        self.promotion.alive.append(kept)
        self.added += [call, make_node(f"{name}/shaped", "EnsureShape", [f"{name}:0"], T=tf.float64)]
        self.added[-1].attr["shape"].shape.CopyFrom(tf.TensorShape([]).as_proto())
        return f"{name}/shaped:0"

    def _is_moved(self, node: Node) -> bool:
        noise = self.promotion.noise
        if noise in (Noise.ORDERS, Noise.TRANSFORMS) and any(dtype in COMPLEXES for dtype in node.dtypes):
            return False  # what they lose is not known of complex numbers
        return noise is not None and noise.moves(node.op) and node.name not in self.promotion.still

    def _move_at_random(self, node: Node, position: int, wide: str | None = None, size: str | None = None) -> None:
        """With noise, port * uniform(1 - u, 1 + u), each port with a stream of its own that every process repeats.

        With a size, port + size * uniform(-u, u).  Infinities stay: a part of an infinite size could be minus infinity,
        and the sum of both NaN.
        wide: the node that holds the port's value in float64, by default the port itself.  size: of what the noise
        is a part, by default of the value.
        """
        if not self._is_moved(node):
            return
        port = Port(node.name, position)
        base = f"lockstep_wide/{port.node}/noise{port.index}"
        value = str(port) if wide is None else f"{wide}:0"
        dtype, double = node.dtypes[position], tf.float64
        format = format_of_dtype(dtype)
        u = format.underflow if self.promotion.noise is Noise.UNDERFLOW else format.unit_roundoff
        if self.promotion.noise is Noise.TRANSFORMS:
            u = min(u, FLOAT32.unit_roundoff)  # narrower products are summed in float32
        moved = base
        if dtype in COMPLEXES:  # the pairs of its reals are moved
            moved, pairs = f"{base}/moved", f"{base}/pairs"
            self.added += [
                make_node(pairs, "Bitcast", [value], T=tf.complex128, type=double),
                make_node(base, "Bitcast", [f"{moved}:0"], T=double, type=tf.complex128),
            ]
            value = f"{pairs}:0"
        seed = {"seed": 1, "seed2": zlib.crc32(base.encode())}  # a seed is what op determinism asks for
        middle = 1.0 if size is None and self.promotion.noise is not Noise.UNDERFLOW else 0.0
        width, low = self._scalar(2 * u), self._scalar(middle - u)
        if self.promotion.noise is Noise.ORDERS:
            assert size is not None
            self.replaced[str(port)] = self._moved_as_one(
                base, value, size, self._lost_in_order(node, size), min(u, FLOAT32.unit_roundoff), seed
            )
            return
        self.added += [
            make_node(f"{base}/shape", "Shape", [value], T=double, out_type=tf.int32),
            make_node(f"{base}/uniform", "RandomUniform", [f"{base}/shape:0"], T=tf.int32, dtype=double, **seed),
            make_node(f"{base}/spread", "Mul", [f"{base}/uniform:0", width], T=double),
            make_node(f"{base}/factor", "AddV2", [f"{base}/spread:0", low], T=double),
        ]
        if self.promotion.noise is Noise.UNDERFLOW:  # what is zero exactly is nothing that was flushed
            self.added += [
                make_node(f"{base}/sign", "Sign", [value], T=double),
                make_node(f"{base}/lost", "Mul", [f"{base}/sign:0", f"{base}/factor:0"], T=double),
                make_node(moved, "AddV2", [value, f"{base}/lost:0"], T=double),
            ]
        elif size is None:
            self.added.append(make_node(moved, "Mul", [value, f"{base}/factor:0"], T=double))
        else:
            least, most = self._scalar(-sys.float_info.max), self._scalar(sys.float_info.max)
            self.added += [
                make_node(f"{base}/finite", "ClipByValue", [size, least, most], T=double),
                make_node(f"{base}/moved", "Mul", [f"{base}/finite:0", f"{base}/factor:0"], T=double),
                make_node(base, "AddV2", [value, f"{base}/moved:0"], T=double),
            ]
        self.replaced[str(port)] = f"{base}:0"

    def _moved_as_one(self, base: str, value: str, size: str, lost: str, u: float, seed: dict[str, int]) -> str:
        """value + size * u * lost, or minus, all elements alike."""
        double = tf.float64
        scalar = tf.compat.v1.AttrValue(tensor=tf.make_tensor_proto([], tf.int32))
        self.added += [
            make_node(f"{base}/shape", "Const", [], dtype=tf.int32, value=scalar),
            make_node(f"{base}/uniform", "RandomUniform", [f"{base}/shape:0"], T=tf.int32, dtype=double, **seed),
            make_node(f"{base}/centred", "Sub", [f"{base}/uniform:0", self._scalar(0.5)], T=double),
            make_node(f"{base}/sign", "Sign", [f"{base}/centred:0"], T=double),
            make_node(f"{base}/lost", "Mul", [f"{base}/sign:0", lost], T=double),
            make_node(f"{base}/factor", "Mul", [f"{base}/lost:0", self._scalar(u)], T=double),
            make_node(f"{base}/moved", "Mul", [size, f"{base}/factor:0"], T=double),
            make_node(base, "AddV2", [value, f"{base}/moved:0"], T=double),
        ]
        return f"{base}:0"

    def _scalar(self, value: float) -> str:
        """A constant of the body, made once."""
        name = f"lockstep_wide/scalar/{value.hex().replace('+', '')}"
        if name not in self.scalars:
            self.scalars.add(name)
            self.added.append(constant_node(name, value, tf.float64))
        return f"{name}:0"

    def _cast(self, proto: Any, node: Node, from_float: bool) -> None:
        target = node.dtypes[0]
        source = tf.dtypes.as_dtype(proto.attr["SrcT"].type)
        if from_float:
            proto.attr["SrcT"].type = _wide(source).as_datatype_enum
        if not from_float or source.real_dtype.size <= target.real_dtype.size:
            proto.attr["DstT"].type = _wide(target).as_datatype_enum
            return
        wide = f"lockstep_wide/{node.name}"
        self.added.append(make_node(wide, "Cast", [f"{node.name}:0"], SrcT=target, DstT=_wide(target)))
        self.replaced[f"{node.name}:0"] = f"{wide}:0"
        self._move_at_random(node, 0, wide)  # to a narrower format: an error far below it may tip the rounding

    def _keep_narrow(self, proto: Any, node: Node) -> dict[int, str]:
        """An op in its own dtype; returns the nodes that hold its outputs in float64, by their position."""
        if not is_random(node.op) and not has_definition(node.op):
            self.promotion.unpromoted.add(node.op)
        data = [text for text in proto.input if not text.startswith("^")]
        control = [text for text in proto.input if text.startswith("^")]
        for position, port in enumerate(node.inputs):
            dtype = self.known.dtype(port)
            if dtype in FLOATS and dtype not in DOUBLES:
                name = f"{node.name}{_NARROW}{position}"
                self.added.append(make_node(name, "Cast", [data[position]], SrcT=_wide(dtype), DstT=dtype))
                data[position] = f"{name}:0"
        del proto.input[:]
        proto.input.extend([*data, *control])
        narrow = [position for position in _floating(node) if node.dtypes[position] not in DOUBLES]
        wide = {position: f"lockstep_wide/{node.name}/{position}" for position in narrow}
        for position, text in wide.items():
            dtype, own = node.dtypes[position], f"{node.name}:{position}"
            self.added.append(make_node(text, "Cast", [own], SrcT=dtype, DstT=_wide(dtype)))
            self.replaced[own] = f"{text}:0"
        return wide


def _floating(node: Node) -> list[int]:
    """The positions of a node's floating outputs."""
    return [position for position, dtype in enumerate(node.dtypes) if dtype in FLOATS]


# Ops that hold tensors of any dtype and compute nothing: their kernels name no dtype.
_CONTAINERS = {
    "TensorListReserve", "TensorListFromTensor", "TensorListGetItem", "TensorListSetItem", "TensorListStack",
    "TensorListPushBack", "TensorListPopBack", "EmptyTensorList", "TensorListConcatV2", "TensorListResize",
    "ReadVariableOp", "AssignVariableOp", "VarHandleOp", "Identity", "IdentityN", "StopGradient", "PreventGradient",
}  # fmt: skip


# What these give for a segment with nothing in it, by dtype: the lowest number of its format, or the largest.
EMPTY_IS_LIMIT: dict[str, Callable[[tf.DType], float]] = {
    "UnsortedSegmentMax": lambda dtype: float(dtype.min),
    "UnsortedSegmentMin": lambda dtype: float(dtype.max),
}


# Sums of their input alone, in its own format: where terms cancel, what they lose is no part of the result.
PLAIN_SUMS = {"Sum", "Mean", "BiasAddGrad", "SegmentSum", "SegmentSumV2", "UnsortedSegmentSum", "Cumsum"}


def rounds_most(op_type: str) -> bool:
    """Ops of which one rounding of each result, and of what is read, is most of what rounding does to a step."""
    return is_product(op_type) or op_type in PLAIN_SUMS or op_type in ("Placeholder", "ReadVariableOp")


def _renamed(text: str, replaced: dict[str, str]) -> str:
    return replaced.get(text if ":" in text else f"{text}:0", text)


def _wide(dtype: tf.DType) -> tf.DType:
    return in_precision_of(tf.float64, dtype)


_WIDE = {dtype.as_datatype_enum: _wide(dtype).as_datatype_enum for dtype in FLOATS}


def _widen(value: Any) -> None:
    if value.type in _WIDE:
        value.type = _WIDE[value.type]
    for index, kind in enumerate(value.list.type):
        value.list.type[index] = _WIDE.get(kind, kind)


def _widen_all_types(proto: Any) -> None:
    for name, value in proto.attr.items():
        if not name.startswith("_"):
            _widen(value)


def _widen_signature(function_def: Any) -> None:
    for argument in [*function_def.signature.input_arg, *function_def.signature.output_arg]:
        argument.type = _WIDE.get(argument.type, argument.type)


def _has_float_type(proto: Any) -> bool:
    return any(v.type in _WIDE or any(t in _WIDE for t in v.list.type) for k, v in proto.attr.items() if k[0] != "_")
