"""Graph rewriters that are wrong: each changes what is compiled in a way that a faulty optimizer would.

They see the GraphDef alone, and take what they find by its ops and wiring.
"""

from __future__ import annotations


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
