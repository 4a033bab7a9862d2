"""Units compiled together where one hands a tensor to the next and to nobody else.

TensorFlow may fuse a Dense with the Activation layer behind it, since nothing else reads what passes between them
(watching.py).  Compiled each by itself, both layers are right; so layers with such a tensor between them are also run
as one unit, a *fusion group*.  There are such tensors in the backward pass and before the optimizer too, one between
almost any two layers; those groups are cut only once the whole step is wrong and no layer of it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from diag.engine.graphs.graph import OPAQUE, Node, Port
from diag.engine.graphs.locations import FORWARD
from diag.engine.graphs.reachability import reachable
from diag.engine.step.program import Program
from diag.engine.step.units import Unit, UnitKey, joined
from diag.engine.step.watching import PLUMBING, Readers
from diag.numerics.op_classes import is_free, is_product

PADDINGS = {"Pad", "PadV2", "MirrorPad"}
MOST_JOINED = 5  # layers: a padding, a product, its normalization, a sum with a shortcut, an activation


def forward_fusion_groups(program: Program) -> tuple[Unit, ...]:
    """Layers joined by an output that is not watched, each chain of them as one unit.

    A fusion begins with a product and takes what follows it (TensorFlow, grappler/optimizers/remapper.cc), and of what
    comes before it only a padding: so a chain ends where the next product begins.  Of more layers than a kernel takes,
    as hang together by what a model computes between them, every two are a group.
    """
    outputs = {port for ports in program.layer_outputs.values() for port in ports}
    edges = _Edges(program)
    found = [edge for port in sorted(outputs & program.watched.refused.keys()) for edge in edges.at(port)]
    chains = _components([edge for edge in found if edges.may_fuse(*edge)])
    groups = [group for chain in chains for group in _within_a_kernel(chain, found)]
    return joined(program, groups, _free_ops(program))


def _within_a_kernel(
    chain: Collection[UnitKey], edges: Iterable[tuple[UnitKey, UnitKey]]
) -> Iterable[Collection[UnitKey]]:
    if len(chain) <= MOST_JOINED:
        return [chain]
    return dict.fromkeys(edge for edge in edges if edge[0] in chain and edge[1] in chain)


def all_fusion_groups(program: Program) -> tuple[Unit, ...]:
    """Every two units with a tensor between them that one op alone reads, in the order of the step."""
    edges = _Edges(program)
    floats = (port for node in program.graph for port in _floats_of(node))
    pairs = {frozenset(edge) for port in floats if not edges.readers.why_safe(port) for edge in edges.at(port)}
    return joined(program, sorted((sorted(pair, key=str) for pair in pairs), key=str), _free_ops(program))


def _free_ops(program: Program) -> frozenset[str]:
    return frozenset(node.op for node in program.graph if is_free(node.op))


def _floats_of(node: Node) -> Iterable[Port]:
    if node.location.index is None:
        return ()
    return (Port(node.name, i) for i, dtype in enumerate(node.dtypes) if dtype not in OPAQUE and dtype.is_floating)


class _Edges:
    """From the unit that makes a tensor to those that read it, as far as the step needs them."""

    def __init__(self, program: Program) -> None:
        self.graph = program.graph
        self.readers = Readers(program.graph, program.results)
        self.nodes: dict[Port, list[Node]] = defaultdict(list)
        self.forward_ops: dict[UnitKey, set[str]] = defaultdict(set)
        for node in program.graph:
            for port in dict.fromkeys(node.inputs) if node.name in self.readers.live else ():
                self.nodes[port].append(node)
            if node.location.index is not None and node.location.phase == FORWARD:
                self.forward_ops[node.location.unit].add(node.op)

    def at(self, port: Port) -> list[tuple[UnitKey, UnitKey]]:
        maker = self.graph.by_name[port.node].location.unit
        units = dict.fromkeys(node.location.unit for node in self._reading(port) if node.location.index is not None)
        return [(maker, other) for other in units if other != maker]

    def may_fuse(self, maker: UnitKey, reader: UnitKey) -> bool:
        """Whether ops of two layers, one behind the other, may be fused."""
        is_padding = self.forward_ops[maker] <= PADDINGS
        return is_padding or not any(map(is_product, self.forward_ops[reader]))

    def _reading(self, port: Port) -> Iterable[Node]:
        """Ops that read a tensor, directly or through nodes that hand it on as it is."""

        def handed_on(current: Port) -> list[Port]:
            readers = (node for node in self.nodes[current] if node.op in PLUMBING)
            return [Port(node.name, node.inputs.index(current)) for node in readers]

        return (node for each in reachable([port], handed_on) for node in self.nodes[each])


def _components(edges: Collection[tuple[UnitKey, UnitKey]]) -> list[list[UnitKey]]:
    """What hangs together."""
    beside: dict[UnitKey, set[UnitKey]] = defaultdict(set)
    for one, other in edges:
        beside[one].add(other)
        beside[other].add(one)
    components: list[list[UnitKey]] = []
    for start in beside:
        if not any(start in component for component in components):
            components.append(list(reachable([start], beside.__getitem__)))
    return components
