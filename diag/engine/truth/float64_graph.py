"""The truth lane's program: the same graph with every floating tensor in float64, or complex128.

An op that has a float64 kernel on the CPU gets it.  An op that has none is computed from its definition
(diag/numerics/definitions.py); without one it keeps its dtype between two casts, and is named in `unpromoted`, since
what it computes is then no truth.  Random ops keep theirs as well: in float64 they would draw another stream.  A cast
to a narrower dtype still rounds, for both lanes read the rounded value and so must the truth.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from diag.engine.graphs.editing import Body, edit, make_node, rewired
from diag.engine.graphs.graph import CONTROL_FLOW_OPS, Graph, Node, Port, with_index
from diag.engine.graphs.python_calls import python_call
from diag.engine.graphs.tf_runtime import (
    FLOATS,
    REALS,
    attributes,
    format_of_dtype,
    in_double,
    in_precision_of,
    readable_attributes,
    type_attributes,
)
from diag.engine.truth.noise import Noise, NoiseNodes
from diag.engine.truth.own_decisions import close_gates, decided
from diag.engine.truth.rounding_nodes import OperandRounding, rounding_nodes
from diag.numerics.definitions import defined, has_definition
from diag.numerics.op_classes import ErrorClass, class_of, is_product, is_random

_NARROW = "/lockstep_narrow"
DOUBLES = (tf.float64, tf.complex128)


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
        """The graph and the functions that it calls in float64, these under new names."""
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
        self.noise = NoiseNodes(promotion.noise, known, promotion.still, self.added, promotion.alive)

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
        if class_of(node.op) is not ErrorClass.EXACT and self.noise.moves(node):
            size = self.noise.size_of(proto, node)
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
        lost = format_of_dtype(node.dtypes[0]).unit_roundoff if self.noise.moves(node) else 0.0
        samples = itertools.count()
        call, kept = python_call(
            name, lambda *arrays: defined(op, arrays, attrs, lost, next(samples))[:num], inputs, results
        )
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
            make_node(f"{base}/is_empty", "Equal", [value, self.noise.scalar(limit)], T=tf.float64),
            make_node(base, "SelectV2", [f"{base}/is_empty:0", self.noise.scalar(own), value], T=tf.float64),
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

    def _move_at_random(self, node: Node, position: int, wide: str | None = None, size: str | None = None) -> None:
        if self.noise.moves(node):
            self.replaced[f"{node.name}:{position}"] = self.noise.moved(node, position, wide, size)

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


def _renamed(text: str, replaced: dict[str, str]) -> str:
    return replaced.get(with_index(text), text)


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
