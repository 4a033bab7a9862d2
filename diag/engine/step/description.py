"""The ops of a traced step in words and numbers, for a reader that has no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from diag.common.wording import shortened
from diag.engine.graphs.graph import Graph, Node, Port
from diag.engine.step.program import Program
from traces.described import DescribedOp, OpInput

LONGEST_VALUE = 200
"""Characters of an attribute."""
UNKNOWN = "?"


def described_ops(program: Program) -> tuple[DescribedOp, ...]:
    """All ops of the step by index, those in bodies of loops among them."""
    fed = _names_of_fed(program)
    found = [
        _described(node, graph, program, fed if graph is program.graph else {})
        for graph in (program.graph, *program.functions.values())
        for node in graph
        if node.location.index is not None
    ]
    return tuple(sorted(found, key=lambda op: op.index))


def _names_of_fed(program: Program) -> dict[str, str]:
    """What each placeholder stands for."""
    names = {name: f"batch, part {number}" for number, name in enumerate(program.batch_inputs)}
    return names | {name: program.variables[index].name for name, index in program.captures.items()}


def _described(node: Node, graph: Graph, program: Program, fed: Mapping[str, str]) -> DescribedOp:
    location = node.location
    assert location.index is not None
    return DescribedOp(
        index=location.index,
        name=node.name,
        op_type=node.op,
        phase=location.phase,
        layer=location.layer,
        variable=location.variable,
        line=program.lines.get(location.index),
        outputs=", ".join(" ".join(_kind(Port(node.name, i), graph)).strip() for i in range(len(node.dtypes))),
        inputs=tuple(_input(port, graph, fed) for port in node.inputs),
        attributes=_attributes(node),
    )


def _input(port: Port, graph: Graph, fed: Mapping[str, str]) -> OpInput:
    made_by = graph.by_name[port.node]
    name = fed.get(port.node) or (_constant(made_by) if made_by.op == "Const" else port.node)
    return OpInput(name, made_by.location.index, port.index, *_kind(port, graph))


def _kind(port: Port, graph: Graph) -> tuple[str, str]:
    shape = graph.shape(port)
    axes = None if shape.rank is None else [UNKNOWN if axis is None else str(axis) for axis in shape.as_list()]
    return graph.dtype(port).name, UNKNOWN if axes is None else "x".join(axes)


def _constant(node: Node) -> str:
    return f"constant {_tensor(node.proto.attr['value'].tensor)}"


def _tensor(proto: Any) -> str:
    """A few values, or how many there are."""
    size = 1
    for axis in proto.tensor_shape.dim:
        size *= axis.size
    return shortened(str(tf.make_ndarray(proto).tolist()), LONGEST_VALUE) if size <= 8 else f"of {size:,} elements"


def _attributes(node: Node) -> dict[str, str]:
    """Those that are not TensorFlow's own notes; as Python writes values."""
    shown = {name: value for name, value in sorted(node.proto.attr.items()) if not name.startswith("_")}
    return {name: shortened(_value(value), LONGEST_VALUE) for name, value in shown.items()}


def _value(value: Any) -> str:
    kind = value.WhichOneof("value")
    return "" if kind is None else _WORDS[kind](getattr(value, kind))


def _list(values: Any) -> str:
    for kind, found in values.ListFields():
        return "[" + ", ".join(_WORDS[kind.name](each) for each in found) + "]"
    return "[]"


def _shape(shape: Any) -> str:
    return UNKNOWN if shape.unknown_rank else str([axis.size for axis in shape.dim])


_WORDS: Mapping[str, Callable[[Any], str]] = {
    "s": lambda text: text.decode(errors="backslashreplace"),
    "i": str,
    "f": lambda number: f"{number:.9g}",
    "b": lambda truth: str(truth).lower(),
    "type": lambda dtype: tf.as_dtype(dtype).name,
    "shape": _shape,
    "tensor": _tensor,
    "list": _list,
    "func": lambda function: function.name,
    "placeholder": str,
}
