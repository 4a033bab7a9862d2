"""The truth lane's program: the same graph with every floating tensor in float64.

An op that has a float64 kernel on the CPU gets it.  An op that has none keeps its dtype between
two casts, and is named in `unpromoted`, since what it computes is then no truth.  Random ops keep
theirs as well: in float64 they would draw another stream.  A cast to a narrower dtype still
rounds, for both lanes read the rounded value and so must the truth.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from diag.engine.graphs.editing import Body, edit, make_node, rewired
from diag.engine.graphs.graph import CONTROL_FLOW_OPS, Graph, Node, Port
from diag.engine.graphs.tf_runtime import FLOATS, attributes, in_double, type_attributes
from diag.numerics.formats import Rounding, format_of
from diag.numerics.op_classes import ErrorClass, class_of, is_product, is_random

_NARROW = "/lockstep_narrow"
_WIDE = "/lockstep_wide"


@dataclass(frozen=True)
class OperandRounding:
    """Operands of products rounded to `precision` significand bits."""

    precision: int
    mode: Rounding


@dataclass
class Promotion:
    """Rewrites GraphDefs to float64; `unpromoted` are the ops that could not be.

    With `operands`, the operands of every product are rounded to a narrower format first, as a
    tensor core does.

    With `noise`, every input, every variable read and the result of every op that rounds is moved at
    random by up to one rounding of its own format, each time anew: the spread of such runs is what rounding
    does to the whole graph (Monte Carlo arithmetic: Parker 1997; Denis, de Oliveira Castro and
    Petit 2016).  Where a policy mixes formats, what is computed in float32 is held to float32.
    """

    graph: Graph
    functions: dict[str, Graph]
    noise: bool = False
    operands: OperandRounding | None = None
    unpromoted: set[str] = field(default_factory=set)

    def apply(self, graph_def: Any) -> Any:
        return edit(graph_def, self._change, _widen_signature)

    def _change(self, body: Body, function_name: str | None) -> Body:
        known = self.graph if function_name is None else self.functions[function_name]
        replaced: dict[str, str] = {}
        added: list[Any] = []
        for proto in list(body.nodes):
            node = known.by_name.get(proto.name)
            if node is not None:
                self._promote(proto, node, known, replaced, added, is_step=function_name is None)
        own = {node.name for node in added if node.name.startswith("lockstep_wide/")}
        body = rewired(body, replaced, keep=lambda name: name in own)
        body.nodes.extend(added)
        for node in added:
            if node.name not in own:
                inputs = [_renamed(text, replaced) for text in node.input]
                del node.input[:]
                node.input.extend(inputs)
        return body

    def _promote(
        self, proto: Any, node: Node, known: Graph, replaced: dict[str, str], added: list[Any], is_step: bool
    ) -> None:
        if node.op == "Const":
            if node.dtypes[0] in FLOATS:
                value = tf.make_ndarray(proto.attr["value"].tensor).astype("float64")
                proto.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
                proto.attr["dtype"].type = tf.float64.as_datatype_enum
            return
        floating_in = [known.dtype(port) in FLOATS for port in node.inputs]
        floating_out = [dtype in FLOATS for dtype in node.dtypes]
        if node.op in CONTROL_FLOW_OPS or node.op == "Placeholder" or node.op in _CONTAINERS:
            _widen_all_types(proto)
            if self.noise and node.op in ("Placeholder", "ReadVariableOp") and any(floating_out) and is_step:
                self._add_noise(Port(node.name, 0), node.dtypes[0], replaced, added)
            return
        if node.op == "Cast" and floating_out[0]:
            self._cast(proto, node, floating_in[0], replaced, added)
            return
        if not any(floating_in) and not any(floating_out) and not _has_float_type(proto):
            return
        wide = None if is_random(node.op) or node.op == "Bitcast" else in_double(node.op, attributes(proto))
        if wide is not None:
            for name in type_attributes(node.op):
                if name in proto.attr:
                    _widen(proto.attr[name])
            if self.operands is not None and is_product(node.op):
                self._round_operands(proto, floating_in, added)
            if self.noise and class_of(node.op) is not ErrorClass.EXACT:
                size = self._sum_of_sizes(proto, added) if node.op in PLAIN_SUMS else None
                for position in (i for i, is_float in enumerate(floating_out) if is_float):
                    self._add_noise(Port(node.name, position), node.dtypes[position], replaced, added, size=size)
            return
        if not is_random(node.op):
            self.unpromoted.add(node.op)
        self._keep_narrow(proto, node, floating_in, floating_out, known, replaced, added)
        if self.noise and not is_random(node.op) and class_of(node.op) is not ErrorClass.EXACT:
            for position in (i for i, is_float in enumerate(floating_out) if is_float):
                port, dtype = Port(node.name, position), node.dtypes[position]
                if dtype != tf.float64:
                    self._add_noise(port, dtype, replaced, added, f"lockstep_wide/{node.name}/{position}")

    def _round_operands(self, proto: Any, floating_in: list[bool], added: list[Any]) -> None:
        assert self.operands is not None
        for position in (i for i, is_float in enumerate(floating_in) if is_float):
            base = f"{proto.name}/lockstep_operand{position}"
            added += rounding_nodes(base, proto.input[position], self.operands)
            proto.input[position] = f"{base}:0"

    @staticmethod
    def _sum_of_sizes(proto: Any, added: list[Any]) -> str:
        """The sum of absolute values where an op sums the values: each of its additions may round by u of that."""
        absolute, total = f"{proto.name}/lockstep_absolute", f"{proto.name}/lockstep_sizes"
        added.append(make_node(absolute, "Abs", [proto.input[0]], T=tf.float64))
        sizes = type(proto)()
        sizes.CopyFrom(proto)
        sizes.name, sizes.input[0] = total, f"{absolute}:0"
        added.append(sizes)
        return f"{total}:0"

    @staticmethod
    def _add_noise(
        port: Port, dtype: tf.DType, replaced: dict[str, str], added: list[Any], wide: str | None = None,
        size: str | None = None,
    ) -> None:  # fmt: skip
        """port + u * size * uniform(-1, 1), each port with a stream of its own that every process repeats.

        Infinities stay: a part of an infinite size could be minus infinity, and the sum of both NaN.
        wide: the node that holds the port's value in float64, by default the port itself.  size: of what the noise
        is a part, by default of the value.
        """
        base = f"lockstep_wide/{port.node}/noise{port.index}"
        value = str(port) if wide is None else f"{wide}:0"
        double, u = tf.float64, format_of(dtype.as_numpy_dtype).unit_roundoff
        seed = {"seed": 1, "seed2": zlib.crc32(base.encode())}  # a seed is what op determinism asks for
        added += [
            make_node(f"{base}/shape", "Shape", [value], T=double, out_type=tf.int32),
            make_node(f"{base}/uniform", "RandomUniform", [f"{base}/shape:0"], T=tf.int32, dtype=double, **seed),
            _scalar(f"{base}/width", 2 * u),
            _scalar(f"{base}/low", -u),
            make_node(f"{base}/spread", "Mul", [f"{base}/uniform:0", f"{base}/width:0"], T=double),
            make_node(f"{base}/factor", "AddV2", [f"{base}/spread:0", f"{base}/low:0"], T=double),
            _scalar(f"{base}/most", sys.float_info.max),
            _scalar(f"{base}/least", -sys.float_info.max),
            make_node(f"{base}/finite", "ClipByValue", [size or value, f"{base}/least:0", f"{base}/most:0"], T=double),
            make_node(f"{base}/moved", "Mul", [f"{base}/finite:0", f"{base}/factor:0"], T=double),
            make_node(base, "AddV2", [value, f"{base}/moved:0"], T=double),
        ]
        replaced[str(port)] = f"{base}:0"

    def _cast(self, proto: Any, node: Node, from_float: bool, replaced: dict[str, str], added: list[Any]) -> None:
        target = node.dtypes[0]
        source = tf.dtypes.as_dtype(proto.attr["SrcT"].type)
        if from_float:
            proto.attr["SrcT"].type = tf.float64.as_datatype_enum
        if not from_float or source.size <= target.size:
            proto.attr["DstT"].type = tf.float64.as_datatype_enum
            return
        wide = f"lockstep_wide/{node.name}"
        added.append(make_node(wide, "Cast", [f"{node.name}:0"], SrcT=target, DstT=tf.float64))
        replaced[f"{node.name}:0"] = f"{wide}:0"
        if self.noise:  # to a narrower format: an error far below it may tip the rounding
            self._add_noise(Port(node.name, 0), target, replaced, added, wide)

    @staticmethod
    def _keep_narrow(
        proto: Any, node: Node, floating_in: list[bool], floating_out: list[bool], known: Graph,
        replaced: dict[str, str], added: list[Any],
    ) -> None:  # fmt: skip
        data = [text for text in proto.input if not text.startswith("^")]
        control = [text for text in proto.input if text.startswith("^")]
        for position, (port, is_float) in enumerate(zip(node.inputs, floating_in, strict=True)):
            if is_float and known.dtype(port) != tf.float64:
                name = f"{node.name}{_NARROW}{position}"
                added.append(make_node(name, "Cast", [data[position]], SrcT=tf.float64, DstT=known.dtype(port)))
                data[position] = f"{name}:0"
        del proto.input[:]
        proto.input.extend([*data, *control])
        for position, is_float in enumerate(floating_out):
            if is_float and node.dtypes[position] != tf.float64:
                wide = f"lockstep_wide/{node.name}/{position}"
                added.append(
                    make_node(wide, "Cast", [f"{node.name}:{position}"], SrcT=node.dtypes[position], DstT=tf.float64)
                )
                replaced[f"{node.name}:{position}"] = f"{wide}:0"


# Ops that hold tensors of any dtype and compute nothing: their kernels name no dtype.
_CONTAINERS = {
    "TensorListReserve", "TensorListFromTensor", "TensorListGetItem", "TensorListSetItem", "TensorListStack",
    "TensorListPushBack", "TensorListPopBack", "EmptyTensorList", "TensorListConcatV2", "TensorListResize",
    "ReadVariableOp", "AssignVariableOp", "VarHandleOp", "Identity", "IdentityN", "StopGradient", "PreventGradient",
}  # fmt: skip


# Sums of their input alone, in its own format: where terms cancel, what they lose is no part of the result.
PLAIN_SUMS = {"Sum", "Mean", "BiasAddGrad", "SegmentSum", "SegmentSumV2", "UnsortedSegmentSum", "Cumsum"}


def rounding_nodes(name: str, source: str, rounding: OperandRounding) -> list[Any]:
    """Nodes that round a float64 tensor; the last bears `name`."""
    dropped = 53 - rounding.precision
    double, bits = tf.float64, tf.int64
    if rounding.mode != "nearest-even":  # on the encoding, which orders magnitudes: half a unit up, or none; cut off
        half = 1 << (dropped - 1) if rounding.mode == "nearest-away" else 0
        return [
            make_node(f"{name}/bits", "Bitcast", [source], T=double, type=bits),
            _constant(f"{name}/half", half, bits),
            make_node(f"{name}/raised", "AddV2", [f"{name}/bits:0", f"{name}/half:0"], T=bits),
            _constant(f"{name}/mask", -(1 << dropped), bits),
            make_node(f"{name}/kept", "BitwiseAnd", [f"{name}/raised:0", f"{name}/mask:0"], T=bits),
            make_node(name, "Bitcast", [f"{name}/kept:0"], T=bits, type=double),
        ]
    return [  # Veltkamp's splitting (Dekker 1971): the high part is the operand to nearest
        _constant(f"{name}/split", float((1 << dropped) + 1), double),
        make_node(f"{name}/large", "Mul", [source, f"{name}/split:0"], T=double),
        make_node(f"{name}/rest", "Sub", [f"{name}/large:0", source], T=double),
        make_node(name, "Sub", [f"{name}/large:0", f"{name}/rest:0"], T=double),
    ]


def _constant(name: str, value: float, dtype: tf.DType) -> Any:
    tensor = tf.make_tensor_proto(value, dtype)
    return make_node(name, "Const", [], dtype=dtype, value=tf.compat.v1.AttrValue(tensor=tensor))


def _scalar(name: str, value: float) -> Any:
    return _constant(name, value, tf.float64)


def _renamed(text: str, replaced: dict[str, str]) -> str:
    return replaced.get(text if ":" in text else f"{text}:0", text)


def _widen(value: Any) -> None:
    double = tf.float64.as_datatype_enum
    floats = {dtype.as_datatype_enum for dtype in FLOATS}
    if value.type in floats:
        value.type = double
    for index, kind in enumerate(value.list.type):
        if kind in floats:
            value.list.type[index] = double


def _widen_all_types(proto: Any) -> None:
    for name, value in proto.attr.items():
        if not name.startswith("_"):
            _widen(value)


def _widen_signature(function_def: Any) -> None:
    for argument in [*function_def.signature.input_arg, *function_def.signature.output_arg]:
        if argument.type in {dtype.as_datatype_enum for dtype in FLOATS}:
            argument.type = tf.float64.as_datatype_enum


def _has_float_type(proto: Any) -> bool:
    floats = {dtype.as_datatype_enum for dtype in FLOATS}
    return any(v.type in floats or any(t in floats for t in v.list.type) for k, v in proto.attr.items() if k[0] != "_")
