"""Changes to the recorded step that stand for changes a person can make to the model's code.

Each is made to the graph before any rewriter sees it, so that trying one is to run what the changed code would
be traced to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from diag.engine.graphs.editing import make_node
from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import Graph, Node
from diag.engine.graphs.locations import FORWARD, Location
from diag.engine.graphs.pinning import pin, pin_in
from diag.engine.lanes.lane import Edit
from diag.engine.step.program import Program

SPLIT, ON_CPU = "split", "cpu"


@dataclass(frozen=True)
class Split:
    """The last op of a layer's forward pass and what it reads first: an Identity goes between.

    before: the layer that hands it what it reads, where that is another one.
    """

    layer: str
    node: str
    op: str
    source_op: str
    before: str | None = None


def split_of(program: Program, layer: str) -> Split | None:
    """Where a layer can be split: before the op that makes its output, if that reads what another op computed."""
    for port in program.layer_outputs.get(layer, ()):
        node = program.graph.by_name[port.node]
        source = program.graph.by_name[node.inputs[0].node] if node.inputs else None
        if source is not None and node.location.layer == layer and not source.is_silent:
            before = source.location.layer if source.location.layer != layer else None
            return Split(layer, node.name, node.op, source.op, before)
    return None


def edit_of(name: str, program: Program) -> Edit:
    """`split:LAYER` or `cpu:LAYER`, or of several layers with commas between, as a function of what is to be built."""
    kind, _, layers = name.partition(":")
    if kind == ON_CPU:
        named = set(layers.split(","))
        return pinned_where(lambda location: location.layer in named and location.phase == FORWARD)
    splits = [split_of(program, layer) for layer in layers.split(",")]
    assert kind == SPLIT and all(splits), name

    def apply(executable: Executable) -> Executable:
        for split in splits:
            assert split is not None
            executable = _split(executable, split)
        return executable

    return apply


def _split(executable: Executable, split: Split) -> Executable:
    """Numerically nothing; for a rewriter that looks for a chain of ops, another op in the chain."""
    node = executable.graph.by_name.get(split.node)
    if node is None:
        return executable
    graph_def = type(executable.graph_def)()
    graph_def.CopyFrom(executable.graph_def)
    name = f"{split.node}/lockstep_split"
    for proto in graph_def.node:
        if proto.name == split.node:
            identity = make_node(name, "Identity", [proto.input[0]], T=executable.graph.dtype(node.inputs[0]))
            proto.input[0] = f"{name}:0"
    graph_def.node.append(identity)
    return replace(executable, graph_def=graph_def)


def pinned_where(wanted: Callable[[Location], bool], with_variables: bool = False) -> Edit:
    """Every op at such a location on the CPU, in loops and branches too.

    with_variables: also what reads and writes variables, which on a real device stay where they are.
    """

    def names_in(graph: Graph) -> set[str]:
        ops = (node for node in graph if node.location.index is not None and wanted(node.location))
        return {node.name for node in ops if with_variables or _can_move(node)}

    def apply(executable: Executable) -> Executable:
        names = names_in(executable.graph)
        bodies = {(function, name) for function, g in executable.functions.items() for name in names_in(g)}
        return replace(
            executable,
            graph=_pinned(executable.graph, names),
            functions={
                function: _pinned(graph, {name for f, name in bodies if f == function})
                for function, graph in executable.functions.items()
            },
            graph_def=pin_in(executable.graph_def, names, bodies),
        )

    return apply


def _can_move(node: Node) -> bool:
    """What reads or writes a variable stays where the variable lives."""
    return "resource" not in {dtype.name for dtype in node.dtypes} and "Variable" not in node.op


def _pinned(graph: Graph, names: Collection[str]) -> Graph:
    if not names:
        return graph

    def marked(node: Node) -> Node:
        proto: Any = type(node.proto)()
        proto.CopyFrom(node.proto)
        pin(proto)
        return replace(node, proto=proto)

    nodes = tuple(marked(node) if node.name in names else node for node in graph)
    return Graph(nodes, graph.inputs, graph.outputs)
