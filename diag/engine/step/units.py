"""Cutting the step into layer units.

A layer unit is all that one layer computes in a step, forward and backward together (or the
update of one variable), with the fusions between its ops left possible: only what leaves the
layer is fetched, so a tensor that stays inside can still be fused away, as in the whole step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import tensorflow as tf

from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import ASSIGN_OPS, FUNCTION_OPS, IF_OPS, OPAQUE, READ_OPS, WHILE_OPS, Graph, Node, Port
from diag.engine.graphs.reachability import called_functions
from diag.engine.graphs.subgraph import subgraph
from diag.engine.step.program import Program

UnitKey = tuple[str, "str | None"]


@dataclass(frozen=True)
class Unit:
    """One layer, or one variable's update; or several that are compiled as one, then `joined` holds their names.

    `boundary` are the ports of the whole step that it reads, in the order of the executable's
    feeds; `outputs` the ports it hands on, in execution order; `writes` the variables it assigns.
    """

    layer: str
    variable: str | None
    boundary: tuple[Port, ...]
    outputs: tuple[Port, ...]
    writes: tuple[int, ...]
    executable: Executable
    first_index: int
    joined: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.layer} ({self.variable})" if self.variable else self.layer

    @property
    def op_indices(self) -> frozenset[int]:
        """Indices of the ops of this unit, those in its loops and branches included."""
        graph, functions = self.executable.graph, self.executable.functions
        bodies = [functions[name] for name in called_functions(graph, functions)]
        nodes = (node for each in (graph, *bodies) for node in each)
        return frozenset(node.location.index for node in nodes if node.location.index is not None)

    @cached_property
    def writers(self) -> Sequence[Node]:
        """Nodes that assign variables, or do something else than give an output."""
        return [node for node in self.executable.graph if not node.dtypes or "Assign" in node.op]

    def phase(self, port: Port) -> str:
        return self.executable.graph.by_name[port.node].location.phase


@dataclass(frozen=True)
class Cut:
    """All units in execution order; `uncut` are those that cannot stand alone, with the reason."""

    units: tuple[Unit, ...]
    uncut: dict[str, str]

    @property
    def boundary_ports(self) -> tuple[Port, ...]:
        """Every port of the step whose value some unit reads or hands on."""
        ports = [port for unit in self.units for port in (*unit.boundary, *unit.outputs)]
        return tuple(dict.fromkeys(ports))


def cut(program: Program, shared: frozenset[str] = frozenset()) -> Cut:
    """Cut a program into layer units.

    `shared` are op types whose results every lane takes from the reference (random masks): they
    belong to no unit.
    """
    cutter = _Cutter(program, _members(program, shared))
    units, uncut = [], {}
    for key in [key for key, nodes in cutter.members.items() if nodes]:
        try:
            unit = cutter.unit([key])
        except _CannotCut as error:
            uncut[key[1] or key[0]] = str(error)
        else:
            if unit.outputs or unit.writes:
                units.append(unit)
    return Cut(tuple(sorted(units, key=lambda unit: unit.first_index)), uncut)


def joined(
    program: Program, groups: Iterable[Collection[UnitKey]], shared: frozenset[str] = frozenset()
) -> tuple[Unit, ...]:
    """Several units as one, for each group of them: what passes between them alone is not fetched.

    A group that cannot be cut out is left out.
    """
    cutter, found = _Cutter(program, _members(program, shared)), []
    for keys in groups:
        try:
            unit = cutter.unit(keys)
        except _CannotCut:
            continue
        if unit.outputs or unit.writes:
            found.append(unit)
    return tuple(sorted(found, key=lambda unit: unit.first_index))


def _members(program: Program, shared: frozenset[str]) -> dict[UnitKey, list[Node]]:
    """The nodes of each unit, in the order of the step."""
    members: dict[UnitKey, list[Node]] = defaultdict(list)
    plumbing = {port.node for port in program.graph.outputs}
    for node in program.graph:
        if node.op in ("Const", "Placeholder", "NoOp") or node.op in shared:
            continue
        if node.name in plumbing and node.location.index is None:
            continue
        members[node.location.unit].append(node)
    return members


def _name_of_joined(keys: Collection[UnitKey]) -> UnitKey:
    """`dense+activation`; of an update its variable."""
    if len(keys) == 1:
        return next(iter(keys))
    return "+".join(variable or layer for layer, variable in keys), None


STEP = "step"


def whole_step(program: Program, watched: tuple[Port, ...]) -> Unit:
    """The step as a unit of its own: random draws and batch go in, watched tensors and state come out."""
    random = program.random_ports
    outputs = tuple(dict.fromkeys(port for port in (*program.results, *watched) if port not in random))
    executable = program.step(outputs, random)
    batch = tuple(Port(name, 0) for name in program.batch_inputs)
    writes = tuple(sorted(_Cutter(program, {}).writers))
    return Unit(STEP, None, (*batch, *random), outputs, writes, executable, 0)


class _CannotCut(Exception):
    pass


class _Cutter:
    def __init__(self, program: Program, members: dict[UnitKey, list[Node]]) -> None:
        self.program = program
        self.graph = program.graph
        self.members = members
        self.key_of = {node.name: key for key, nodes in members.items() for node in nodes}
        self.position = {node.name: index for index, node in enumerate(self.graph)}
        self.readers: dict[Port, list[Node]] = defaultdict(list)
        for node in self.graph:
            for port in node.inputs:
                self.readers[port].append(node)
        self.handles = self._trace_handles(self.graph, dict(program.captures))
        self.writers: dict[int, list[Node]] = defaultdict(list)
        for node in self.graph:
            for index in self._written(node):
                self.writers[index].append(node)
        self._join_writers()
        self.kept_outputs = {port for ports in program.layer_outputs.values() for port in ports}
        self.kept_outputs |= set(program.results)

    def _join_writers(self) -> None:
        """All assignments to one variable are of one unit, the one that is named for it if there is one.

        Weight decay before an update and a constraint after it are the optimizer's as a whole; what either leaves in
        the variable is known of the step only together with the update.
        """
        for nodes in self.writers.values():
            keys = list(dict.fromkeys(self.key_of[node.name] for node in nodes if node.name in self.key_of))
            own = next((key for key in keys if key[1] is not None), keys[0] if keys else None)
            for node in nodes:
                key = self.key_of.get(node.name)
                if own is not None and key not in (None, own) and node.op in ASSIGN_OPS:
                    self.members[key].remove(node)
                    self.members[own].append(node)
                    self.key_of[node.name] = own

    def _trace_handles(self, graph: Graph, known: dict[str, int]) -> dict[Port, int]:
        """Which variable a resource port is a handle of."""
        handles = {Port(name, 0): index for name, index in known.items()}
        for node in graph:
            if node.dtypes == (tf.resource,) and len(node.inputs) == 1 and node.inputs[0] in handles:
                handles[Port(node.name, 0)] = handles[node.inputs[0]]
        return handles

    def _written(self, node: Node) -> set[int]:
        handles = [self.handles.get(port) for port in node.inputs]
        if node.op in ASSIGN_OPS or (node.op.startswith("Resource") and not node.dtypes):
            return {index for index in handles[:1] if index is not None}
        if node.op in WHILE_OPS | IF_OPS | FUNCTION_OPS:
            return {
                index for position, index in enumerate(handles)
                if index is not None and self._body_writes(node, position)
            }  # fmt: skip
        return set()

    def _body_writes(self, node: Node, position: int) -> bool:
        """Whether a function that `node` calls assigns to its input number `position`."""
        shift = 1 if node.op in IF_OPS else 0
        for name in node.function_names():
            body = self.program.functions[name]
            if position - shift < 0 or position - shift >= len(body.inputs):
                continue
            handles = self._trace_handles(body, {body.inputs[position - shift]: 0})
            for inner in body:
                reads = [i for i, port in enumerate(inner.inputs) if port in handles]
                if inner.op in ASSIGN_OPS or (inner.op.startswith("Resource") and not inner.dtypes):
                    if reads[:1] == [0]:
                        return True
                elif any(self._body_writes(inner, i) for i in reads if inner.function_names()):
                    return True
        return False

    def _reads_anothers_write(self, node: Node, keys: Collection[UnitKey]) -> bool:
        """A read that comes after another unit's assignment must take the value from the step."""
        index = self.handles.get(node.inputs[0], -1)
        earlier = [w for w in self.writers.get(index, []) if self.position[w.name] < self.position[node.name]]
        return any(self.key_of.get(writer.name) not in keys for writer in earlier)

    def unit(self, keys: Collection[UnitKey]) -> Unit:
        members = [n for key in keys for n in self.members[key]]
        self._refuse_shared_writes(members, keys)
        nodes = [n for n in members if not (n.op in READ_OPS and self._reads_anothers_write(n, keys))]
        nodes.sort(key=lambda node: self.position[node.name])
        inside = {node.name for node in nodes}
        boundary: dict[Port, str] = {}
        copied: dict[str, Node] = {}
        captures: dict[str, int] = {}
        constants: dict[str, object] = {}
        for node in nodes:
            for port in node.inputs:
                if port.node in inside:
                    continue
                source = self.graph.by_name[port.node]
                if source.op == "Const":
                    copied[source.name] = source
                elif source.name in self.program.captures:
                    copied[source.name], captures[source.name] = source, self.program.captures[source.name]
                elif source.name in self.program.constants:
                    copied[source.name], constants[source.name] = source, self.program.constants[source.name]
                elif self.graph.dtype(port) in OPAQUE:
                    raise _CannotCut(f"{node.op} reads a {self.graph.dtype(port).name} made by another unit")
                elif port not in boundary:
                    boundary[port] = f"lockstep_in/{len(boundary)}"
        outputs = self._outputs(nodes, inside, self.kept_outputs if len(keys) == 1 else self.program.results)
        kept = sorted([*copied.values(), *nodes], key=lambda node: self.position[node.name])
        functions = self.program.functions
        graph, graph_def = subgraph(kept, boundary, self.graph, functions, self.program.graph_def)
        executable = Executable(graph, functions, graph_def, tuple(boundary.values()), captures, constants, outputs)
        writes = tuple(sorted({index for node in nodes for index in self._written(node)}))
        first = min(self.position[node.name] for node in nodes)
        computing = [key for key in keys if self.members[key]]  # a layer that hands on what it gets has no ops
        names = sorted(computing, key=lambda key: min(self.position[n.name] for n in self.members[key]))
        layer, variable = _name_of_joined(names)
        together = tuple(v or name for name, v in names) if len(names) > 1 else ()
        return Unit(layer, variable, tuple(boundary), outputs, writes, executable, first, together)

    def _refuse_shared_writes(self, members: Sequence[Node], keys: Collection[UnitKey]) -> None:
        for index in {index for node in members for index in self._written(node)}:
            others = [node for node in self.writers[index] if self.key_of.get(node.name) not in keys]
            if others:
                name = self.program.variables[index].name
                raise _CannotCut(f"it assigns {name}, and so does {others[0].op} of another unit")

    def _outputs(self, nodes: list[Node], inside: set[str], kept: Collection[Port]) -> tuple[Port, ...]:
        found = []
        for node in nodes:
            for index, dtype in enumerate(node.dtypes):
                port = Port(node.name, index)
                leaves = any(reader.name not in inside for reader in self.readers[port])
                if dtype not in OPAQUE and (leaves or port in kept):
                    found.append(port)
        return tuple(found)
