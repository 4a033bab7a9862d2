"""What TensorFlow made of a compiled step: the optimized graph, read beside the ops it came from.

Ops fused into one kernel, other kernels and other ops in their place, layouts and dtypes changed, casts and
transposes put in, constants folded, devices chosen.  Ops are recognised by their names and their wiring, not
by a list of known fusions, so that a rewriter of a plug-in, or a simulated one, is seen as grappler's own is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from diag.engine.faults.simulation import Simulation
from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import Node, Port, parse_input
from diag.engine.graphs.reachability import reachable
from diag.engine.graphs.tf_errors import reason_of
from diag.engine.lanes.compiled import build
from diag.engine.lanes.lane import Lane
from diag.engine.rewrites.expected import ExpectedNodes
from diag.engine.rewrites.graph_collection import CollectedGraph, collected_graphs
from diag.engine.step.program import Program
from diag.errors import UserError
from diag.machine.places import Place
from diag.verdict.rewrites import FUSED, REGROUPED, OptimizedStep, Part, Rewrite, RewriteDifference

KERNEL = "kernel"  # the same op by another library's kernel
REPLACED = "replaced"  # one op became another
SHARED = "shared"  # the same value computed once for several
LAYOUT, CAST, DTYPE, MOVED = "layout", "cast", "dtype", "moved"
FOLDED, UNUSED, LEFT_OUT = "folded", "unused", "left-out"
ABSENT = (FOLDED, UNUSED, LEFT_OUT)  # reasons why an op is not executed
PLUMBING = ("Identity", "IdentityN", "StopGradient", "Snapshot", "PreventGradient")
_COMMUTATIVE = ("Add", "AddV2", "AddN", "Mul", "Maximum", "Minimum")  # whose inputs grappler may put in another order
_ENDS = ("_Arg", "_Retval", "_DeviceArg", "_DeviceRetval", "_Send", "_Recv", "_HostSend", "_HostRecv", "NoOp", "Const")


def difference(first: OptimizedStep, second: OptimizedStep) -> RewriteDifference:
    """Changes of one alone.  An op of a watched tensor that was unused before is a change of watching, no more."""
    of_first, of_second = ({change.identity for change in step.changes} for step in (first, second))
    return RewriteDifference(
        tuple(change for change in first.changes if change.identity not in of_second),
        tuple(change for change in second.changes if change.identity not in of_first),
    )


def inspect_step(program: Program, lane: Lane, watched: Sequence[Port] = ()) -> OptimizedStep:
    """The whole step at a lane's place, with these tensors fetched beside its results.

    It runs once, on a batch of zeros and variables of its own, since TensorFlow optimizes a graph only when it
    is first called; neither the lane's state nor its simulated fault is touched.
    Raises UserError for a place that compiles nothing.
    """
    return inspect(program.step(tuple(dict.fromkeys((*program.results, *watched)))), lane, watched)


def inspect(executable: Executable, lane: Lane, watched: Sequence[Port] = ()) -> OptimizedStep:
    """As `inspect_step`, for anything that can be compiled, a layer unit for one."""
    if not lane.place.is_compiled:
        raise UserError(f"{lane.place}: nothing is compiled eagerly, so no graph is optimized; use {_as_graph(lane)}")
    num_traced = sum(node.location.index is not None for node in executable.graph)
    if lane.place.execution == "xla":
        note = "XLA compiles the step, and TensorFlow does not say what XLA fuses"
        return OptimizedStep(str(lane.place), tuple(map(str, watched)), (), {}, num_traced, 0, False, note)
    collected, note = _run_once(executable, lane)
    if not collected:
        note = note or "TensorFlow gave no graph"
        return OptimizedStep(str(lane.place), tuple(map(str, watched)), (), {}, num_traced, 0, False, note)
    known = executable.graph.by_name.keys()
    ours = max(collected, key=lambda graph: sum(node.name in known for node in graph.before.node))
    return read_graph(executable, ours, lane.place, watched, note)


def _as_graph(lane: Lane) -> Place:
    return replace(lane.place, execution="graph")


def _run_once(executable: Executable, lane: Lane) -> tuple[list[CollectedGraph], str]:
    with tf.device(lane.place.device):
        variables = [tf.Variable(value, trainable=False) for value in lane.variables]
        feeds = [_zeros(executable, name) for name in executable.feeds]
    simulation, note = _without_fault(lane.simulation), ""
    run = build(executable, lane.place, simulation, variables, is_fresh=True)
    with collected_graphs() as collected:
        try:
            run(*feeds)
        except tf.errors.OpError as error:  # the graph was optimized before its ops ran
            note = f"on a batch of zeros the step fails: {reason_of(error)}"
    return collected, note


def _zeros(executable: Executable, name: str) -> tf.Tensor:
    port = Port(name, 0)
    shape = executable.graph.shape(port)
    return tf.zeros([1 if size is None else size for size in shape.as_list()], executable.graph.dtype(port))


def _without_fault(simulation: Simulation | None) -> Simulation | None:
    """A simulated op fault is planted as calls between the ops, which are no doing of TensorFlow's."""
    if simulation is None or simulation.rewriter is None:
        return None
    return Simulation(simulation.name, rewriter=simulation.rewriter)


def read_graph(
    executable: Executable, collected: CollectedGraph, place: Place, watched: Sequence[Port] = (), note: str = ""
) -> OptimizedStep:
    """An optimized graph beside the executable it came from."""
    executed = {node.name: node for graph in collected.parts for node in graph.node}
    expected = ExpectedNodes(executable.graph, executable.functions, executable.fetches, executed.keys())
    reading = _Reading(expected, executed, place.device)
    changes = reading.changes()
    num_traced = sum(node.location.index is not None for node in expected.nodes.values())
    num_executed = sum(node.op not in _ENDS and node.op not in PLUMBING for node in executed.values())
    return OptimizedStep(
        str(place), tuple(map(str, watched)), changes, reading.absent(changes), num_traced, num_executed, True, note
    )


class _Reading:
    """Two graphs side by side, paired by names and, where names are gone, by who reads what."""

    def __init__(self, expected: ExpectedNodes, executed: Mapping[str, Any], device: str) -> None:
        self.expected, self.executed, self.device = expected, executed, device
        self.position = {name: index for index, name in enumerate(expected.nodes)}
        self.passed: set[str] = set()  # gone, and whoever read them reads what they read
        self.roots: dict[str, list[str]] = defaultdict(list)  # executed node -> traced nodes whose values it gives
        for name, now in executed.items():
            if self._is_changed(name):
                self.roots[name].append(name)
            if name in expected.nodes:
                self._pair_inputs(expected.nodes[name], now)

    def _is_gone(self, name: str) -> bool:
        return name in self.expected.nodes and name in self.expected.live and name not in self.executed

    def _is_changed(self, name: str) -> bool:
        """Whether a node is executed under its name, as another op."""
        node, now = self.expected.nodes.get(name), self.executed.get(name)
        return node is not None and now is not None and now.op != node.op and now.op not in _ENDS

    def _upstream(self, name: str) -> tuple[list[str], set[str]]:
        """Gone nodes from `name` on upwards, itself included, and the nodes still there that they read."""

        def is_border(current: str) -> bool:
            return current != name and not self._is_gone(current)

        def sources(current: str) -> list[str]:
            if is_border(current) or current not in self.expected.nodes:
                return []
            read = (self._through_plumbing(port).node for port in self.expected.nodes[current].inputs)
            return [source for source in read if not self.expected.is_constant(source)]

        start = self._through_plumbing(Port(name, 0)).node
        met = reachable([] if self.expected.is_constant(start) else [start], sources)
        return [each for each in met if not is_border(each)], {each for each in met if is_border(each)}

    def _through_plumbing(self, port: Port) -> Port:
        """What a port hands on, where a gone Identity stands before it."""
        while self._is_gone(port.node) and self.expected.nodes[port.node].op in PLUMBING:
            port = self.expected.nodes[port.node].inputs[port.index]
        return port

    def _pair_inputs(self, node: Node, now: Any) -> None:
        """Who reads a node now gone tells what gives its value instead."""
        before = [self._through_plumbing(port) for port in node.inputs]
        after = [Port(source, index) for source, index in map(parse_input, now.input) if index is not None]
        if len(before) != len(after):
            return
        if node.op in _COMMUTATIVE:
            before, after = self._in_one_order(before, after)
        for port, source in zip(before, after, strict=True):
            if port.node == source.node or not self._is_gone(port.node) or self.expected.is_constant(port.node):
                continue
            inside, border = self._upstream(port.node)
            if source.node in border:
                self.passed.update(inside)
            elif now.op == node.op and self._gives(source.node, port.node, border):
                self.roots[source.node].append(port.node)

    def _in_one_order(self, before: list[Port], after: list[Port]) -> tuple[list[Port], list[Port]]:
        """What is left once equal inputs are taken out, in pairs where a pairing is sure."""
        gone = [port for port in before if port not in after]
        new = [port for port in after if port not in before]
        pairs = []
        for port in gone:
            border = self._upstream(port.node)[1]
            over = next((source for source in new if source.node in border), None)
            if over is not None:
                pairs.append((port, over))
                new.remove(over)
        left = [port for port in gone if all(port != known for known, _ in pairs)]
        if len(left) == len(new) == 1:
            pairs.append((left[0], new[0]))
        return [port for port, _ in pairs], [source for _, source in pairs]

    def _gives(self, source: str, gone: str, border: set[str]) -> bool:
        """Whether an executed node computes a gone one: from what that one read, or as its twin."""
        now, before = self.executed.get(source), self.expected.nodes.get(source)
        if now is None or now.op in _ENDS or gone in self.roots[source]:
            return False
        if before is not None and before.op == now.op:
            return now.op == self.expected.nodes[gone].op
        return bool(border & self._sources(source))

    def _sources(self, name: str) -> set[str]:
        """Traced nodes that an executed node reads, through nodes that grappler made."""
        return {source for each in [name, *self._new_above(name)] for source in _data(self.executed[each])}

    def _new_above(self, name: str) -> list[str]:
        """Executed nodes with no traced name, from those that `name` reads upwards; loops are entered once."""

        def new_sources(current: str) -> list[str]:
            return [source for source in _data(self.executed[current]) if self._is_new(source)]

        return list(reachable(new_sources(name), new_sources))

    def _is_new(self, name: str) -> bool:
        now = self.executed.get(name)
        return now is not None and name not in self.expected.nodes and now.op not in _ENDS

    # -- what changed ------------------------------------------------------------------------------

    def changes(self) -> tuple[Rewrite, ...]:
        found = [self._absorbing(name, roots) for name, roots in self.roots.items() if roots]
        for name, now in self.executed.items():
            found.extend(self._of_node(name, now))
        kept = [change for change in found if change is not None]
        return tuple(sorted(kept, key=lambda c: (min((self._place(p.name) for p in c.parts), default=0), c.node)))

    def _place(self, name: str) -> int:
        return self.position.get(name, len(self.position))

    def _absorbing(self, name: str, roots: Iterable[str]) -> Rewrite | None:
        now, before = self.executed[name], self.expected.nodes.get(name)
        if before is not None and now.op == before.op:
            return Rewrite(SHARED, now.op, name, self._parts([name, *roots]))
        inside = [each for root in roots for each in self._upstream(root)[0] if each not in self.passed]
        parts = self._parts(inside)
        if not parts:
            return None
        if before is None:
            op = "+".join(sorted({now.op, *(self.executed[each].op for each in self._new_above(name))}))
            if len(parts) == 1 and parts[0].op == op:
                return None  # the same op under another name
            return Rewrite(FUSED if "+" not in op and len(parts) > 1 else REGROUPED, op, name, parts)
        if len(parts) > 1:
            return Rewrite(FUSED, now.op, name, parts, _fused_ops(now))
        return Rewrite(KERNEL if before.op in now.op else REPLACED, now.op, name, parts)

    def _of_node(self, name: str, now: Any) -> Iterable[Rewrite]:
        before = self.expected.nodes.get(name)
        if before is None:
            is_new = now.op in ("Transpose", "Cast") and not self._is_copy(now)
            if is_new and (near := self._near(name)) is not None:
                yield Rewrite(LAYOUT if now.op == "Transpose" else CAST, now.op, name, (near,), _conversion(now))
            return
        part = _part(before)
        if part.index is None or now.op in _ENDS:
            return
        for attribute, kind in (("data_format", LAYOUT), ("T", DTYPE)):
            then, since = (_readable(node, attribute) for node in (before.proto, now))
            if then and since and then != since:
                yield Rewrite(kind, now.op, name, (part,), f"{then} to {since}")
        placed = now.device.rpartition("device:")[2]
        if placed and placed != self.device:
            yield Rewrite(MOVED, now.op, name, (part,), f"{self.device} to {placed}")

    def _is_copy(self, now: Any) -> bool:
        """A cast or transpose that was traced, which grappler moved past an Identity."""
        source = parse_input(now.input[0])[0]
        return any(
            node.op == now.op
            and self._through_plumbing(node.inputs[0]).node == source
            and _conversion(node.proto) == _conversion(now)
            for node in self.expected.nodes.values()
        )

    def _near(self, name: str) -> Part | None:
        """The traced node a new node was made for: its name holds that node's."""
        held = [
            known for known, node in self.expected.nodes.items() if known in name and node.location.index is not None
        ]
        return _part(self.expected.nodes[max(held, key=len)]) if held else None

    # -- what is gone ------------------------------------------------------------------------------

    def absent(self, changes: Iterable[Rewrite]) -> dict[str, tuple[Part, ...]]:
        taken = {part.name for change in changes for part in change.parts}
        found: dict[str, list[Part]] = {reason: [] for reason in ABSENT}
        for name, node in self.expected.nodes.items():
            if node.location.index is None or node.op in PLUMBING or name in taken:
                continue
            now = self.executed.get(name)
            if now is not None and now.op != "Const":
                continue
            if name not in self.expected.live:
                found[UNUSED].append(_part(node))
            elif now is not None or self.expected.is_constant(name):
                found[FOLDED].append(_part(node))
            else:
                found[LEFT_OUT].append(_part(node))
        return {reason: tuple(parts) for reason, parts in found.items()}

    def _parts(self, names: Iterable[str]) -> tuple[Part, ...]:
        nodes = [self.expected.nodes[name] for name in dict.fromkeys(names)]
        parts = [_part(node) for node in nodes if node.location.index is not None and node.op not in PLUMBING]
        return tuple(sorted(parts, key=lambda part: self._place(part.name)))


def _data(node: Any) -> list[str]:
    """Names of the nodes whose outputs a NodeDef reads."""
    return [source for source, index in map(parse_input, node.input) if index is not None]


def _part(node: Node) -> Part:
    location = node.location
    return Part(node.name, node.op, location.layer, location.variable, location.phase, location.index)


def _fused_ops(node: Any) -> str:
    """TensorFlow's own list of what is fused into a kernel, where the kernel has one."""
    if "fused_ops" not in node.attr:
        return ""
    return "+".join(text.decode() for text in node.attr["fused_ops"].list.s)


def _conversion(node: Any) -> str:
    return f"{_readable(node, 'SrcT')} to {_readable(node, 'DstT')}" if node.op == "Cast" else ""


def _readable(node: Any, attribute: str) -> str:
    """A dtype's name or a text, "" where there is none.  To ask a proto's map for what it has not puts it there."""
    if attribute not in node.attr:
        return ""
    value = node.attr[attribute]
    if value.type:
        name: str = tf.dtypes.as_dtype(value.type).name
        return name
    text: str = value.s.decode()
    return text
