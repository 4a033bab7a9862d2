"""A step in which some layers compute in another dtype: what a layer's own dtype policy would be traced to.

The layers' ops, forward and backward, have kernels of the other dtype, and casts stand where a tensor goes in or out
of them, not between them.  Variables keep their dtype.  The result is a program of its own, with a truth and bounds
of its own: fewer digits are no error in it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from diag.engine.graphs.editing import make_node
from diag.engine.graphs.graph import Graph, Node, Port, in_order
from diag.engine.graphs.locations import OPTIMIZER
from diag.engine.graphs.subgraph import with_inputs
from diag.engine.graphs.tf_runtime import REALS, attributes, in_dtype, takes_handle, type_attributes
from diag.engine.step.program import Program
from diag.engine.step.watching import with_watched_tensors
from diag.numerics.op_classes import is_random

DTYPE = "dtype"
DTYPES = ("bfloat16", "float32")  # fusions of one dtype are often not those of another; float16 has too little range
DIGITS = {"bfloat16": "3 digits", "float32": "7 digits"}
POLICY = {"bfloat16": "mixed_bfloat16", "float32": "float32"}


def dtypes_to_try(program: Program, layers: Collection[str]) -> list[str]:
    """Those of DTYPES that the layers do not compute in already; none where a layer cannot be cast."""
    nodes = _of_layers(program, layers)
    now = {dtype.name for node in nodes for dtype in node.dtypes if dtype in REALS}
    if not nodes or any(node.function_names() for node in program.graph if _is_inside(node, layers)):
        return []
    return [name for name in DTYPES if name not in now]


def in_another_dtype(program: Program, layers: Collection[str], dtype: str) -> Program:
    """The program with these layers computed in `dtype`."""
    return _Cast(program, layers, tf.dtypes.as_dtype(dtype)).program_


def parse(name: str) -> tuple[list[str], str]:
    """Layers and dtype of `dtype:LAYER,LAYER=DTYPE`."""
    layers, _, dtype = name.removeprefix(f"{DTYPE}:").rpartition("=")
    return layers.split(","), dtype


def _is_inside(node: Node, layers: Collection[str]) -> bool:
    return node.location.layer in layers and node.location.phase != OPTIMIZER


def _of_layers(program: Program, layers: Collection[str]) -> list[Node]:
    """The layers' ops that compute with floating numbers and have kernels of other dtypes."""
    return [node for node in program.graph if _is_inside(node, layers) and _can_change(node, tf.bfloat16)]


def _can_change(node: Node, dtype: tf.DType) -> bool:
    if node.location.index is None or node.op == "Cast" or takes_handle(node.op) or is_random(node.op):
        return False
    if node.function_names() or not any(each in REALS for each in node.dtypes):
        return False
    return in_dtype(node.op, attributes(node.proto), dtype) is not None


class _Cast:
    def __init__(self, program: Program, layers: Collection[str], dtype: tf.DType) -> None:
        self.program, self.graph, self.dtype = program, program.graph, dtype
        self.inside = {n.name for n in program.graph if _is_inside(n, layers) and _can_change(n, dtype)}
        self.casts: dict[str, Node] = {}
        nodes = [self._node(node) for node in program.graph]
        self._cast_back_what_is_named()
        self.program_ = self._program(in_order([*nodes, *self.casts.values()]))

    def _node(self, node: Node) -> Node:
        """A node of the layers in the new dtype, another one as it is; each reads what has its dtype."""
        is_inside = node.name in self.inside
        inputs = tuple(self._read(port, is_inside) for port in node.inputs)
        if not is_inside and inputs == node.inputs:
            return node
        changed = with_inputs(node, inputs)
        if not is_inside:
            return changed
        for name in type_attributes(node.op):
            value = changed.proto.attr[name]
            if value.type and tf.dtypes.as_dtype(value.type) in REALS:
                value.type = self.dtype.as_datatype_enum
            for index, each in enumerate(value.list.type):
                if tf.dtypes.as_dtype(each) in REALS:
                    value.list.type[index] = self.dtype.as_datatype_enum
        dtypes = tuple(self.dtype if dtype in REALS else dtype for dtype in node.dtypes)
        return replace(changed, dtypes=dtypes)

    def _read(self, port: Port, is_inside: bool) -> Port:
        dtype = self.graph.dtype(port)
        if dtype not in REALS or (port.node in self.inside) == is_inside:
            return port
        return self._cast(port, self.dtype if is_inside else dtype)

    def _cast(self, port: Port, dtype: tf.DType) -> Port:
        source = self.graph.by_name[port.node]
        if (
            source.op == "Cast"
            and self.graph.dtype(source.inputs[0]) == dtype
            and source.inputs[0].node not in self.inside
        ):
            return source.inputs[0]  # a variable that the layer's policy casts, say
        name = f"lockstep_dtype/{dtype.name}/{port.node}/{port.index}"
        if name not in self.casts:
            given = self.dtype if port.node in self.inside else self.graph.dtype(port)
            proto = make_node(name, "Cast", [str(port)], SrcT=given, DstT=dtype)
            location = replace(source.location, index=None)
            self.casts[name] = Node(name, "Cast", (port,), (), proto, (dtype,), (self.graph.shape(port),), location)
        return Port(name, 0)

    def _cast_back_what_is_named(self) -> None:
        """Results, gradients and layer outputs are read from outside."""
        program = self.program
        outputs = [port for ports in program.layer_outputs.values() for port in ports]
        for port in (*program.results, *program.gradients.values(), *outputs, *program.graph.outputs):
            self._read(port, False)

    def _program(self, nodes: Sequence[Node]) -> Program:
        program, graph_def = self.program, type(self.program.graph_def)()
        graph_def.versions.CopyFrom(program.graph_def.versions)
        graph_def.library.CopyFrom(program.graph_def.library)
        graph_def.node.extend(node.proto for node in nodes)
        outputs = tuple(self._read(port, False) for port in self.graph.outputs)
        return with_watched_tensors(
            replace(
                program,
                graph=Graph(tuple(nodes), self.graph.inputs, outputs),
                graph_def=graph_def,
                results=tuple(self._read(port, False) for port in program.results),
                layer_outputs={k: tuple(self._read(p, False) for p in v) for k, v in program.layer_outputs.items()},
                gradients={name: self._read(port, False) for name, port in program.gradients.items()},
            )
        )


def with_dtypes(program: Program, names: Sequence[str]) -> Program:
    """The program with every `dtype:LAYERS=DTYPE` among the names made to it."""
    result: Any = program
    for name in names:
        if name.startswith(f"{DTYPE}:"):
            result = in_another_dtype(result, *parse(name))
    return result  # type: ignore[no-any-return]
