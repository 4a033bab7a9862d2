"""Graph rewriters that are wrong: each changes what is compiled in a way that a faulty optimizer would.

They see the GraphDef alone, and take what they find by its ops and wiring.
"""

from __future__ import annotations

from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2


def _source(text):
    return text.split(":")[0].lstrip("^")


def _by_name(graph_def):
    return {node.name: node for node in graph_def.node}


def _as_identity(node, source):
    """The node hands on one input and takes no others but for control."""
    control = [text for text in node.input if text.startswith("^")]
    dtype = node.attr["T"].type
    node.op = "Identity"
    del node.input[:]
    node.input.extend([source, *control])
    node.attr.clear()
    node.attr["T"].type = dtype


def normalization_folded(graph_def):
    """The moving mean's place in a folded normalization is taken by zero: beta is added as it is."""
    nodes = _by_name(graph_def)
    for node in graph_def.node:
        if node.op == "Sub" and nodes[_source(node.input[1])].op == "Mul" and "gradient" not in node.name:
            inner = nodes[_source(node.input[0])]
            if "Read" in inner.op or inner.op == "Identity":
                _as_identity(node, node.input[0])
    return graph_def


def activation_twice(graph_def):
    """A tanh is applied again to its own result."""
    for node in list(graph_def.node):
        if node.op == "Tanh":
            inner = graph_def.node.add()
            inner.CopyFrom(node)
            inner.name = f"{node.name}/once"
            del node.input[:]
            node.input.append(inner.name)
    return graph_def


def projections_in_tf32(graph_def):
    """Of an attention, the projections run on tensor cores; its scores and its mixture do not."""
    return _in_tf32(graph_def, lambda node, _: node.op == "BatchMatMulV2")


def mixtures_in_tf32(graph_def):
    """Of an attention, the products of two activations run on tensor cores."""
    return _in_tf32(graph_def, lambda node, _: node.op == "Einsum")


def branch_in_tf32(graph_def):
    """Of two branches of a layer, the product behind a tanh runs on tensor cores."""
    return _in_tf32(graph_def, lambda node, op_of: "Tanh" in map(op_of, node.input))


def _in_tf32(graph_def, is_chosen):
    """The operands of some products rounded to nearest even at 11 significand bits."""
    nodes = _by_name(graph_def)
    products = [node for node in graph_def.node if node.op in ("MatMul", "BatchMatMulV2", "Einsum")]
    for node in [node for node in products if is_chosen(node, lambda text: nodes[_source(text)].op)]:
        for position, source in enumerate(node.input):
            if not source.startswith("^"):
                node.input[position] = _rounded_to_tf32(graph_def, f"{node.name}/tf32_{position}", source)
    return graph_def


def _rounded_to_tf32(graph_def, base, source):
    """The name of a node that rounds a float32 tensor, on its bits: half a unit of the last kept, to even, cut off."""

    def add(name, op, *inputs, **types):
        made = graph_def.node.add(name=f"{base}/{name}", op=op, input=inputs)
        for key, value in types.items():
            made.attr[key].type = value
        return made.name

    def number(value):
        name = add(f"number{value:x}", "Const", dtype=types_pb2.DT_INT32)
        graph_def.node[-1].attr["value"].tensor.CopyFrom(
            tensor_pb2.TensorProto(
                dtype=types_pb2.DT_INT32, tensor_shape=tensor_shape_pb2.TensorShapeProto(), int_val=[value]
            )
        )
        return name

    whole = {"T": types_pb2.DT_INT32}
    bits = add("bits", "Bitcast", source, T=types_pb2.DT_FLOAT, type=types_pb2.DT_INT32)
    last = add("last", "BitwiseAnd", add("kept", "RightShift", bits, number(13), **whole), number(1), **whole)
    half = add("half", "AddV2", number(0xFFF), last, **whole)
    raised = add("raised", "AddV2", bits, half, **whole)
    cut = add("cut", "BitwiseAnd", raised, number(-0x2000), **whole)
    return add("result", "Bitcast", cut, T=types_pb2.DT_INT32, type=types_pb2.DT_FLOAT)
