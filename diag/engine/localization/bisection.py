"""Narrowing a faulty layer whose ops are innocent to the fewest of its ops that, compiled together, still fail.

A fused kernel is wrong only as a whole, so no op can be blamed by itself.  Ops are cut off the end of the layer
and off its start, by bisection, and then left out one by one; what is left is compiled again each time.  What
the rest of the layer would have handed it comes from an execution op by op.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import ASSIGN_OPS, OPAQUE, READ_OPS, Node, Port
from diag.engine.graphs.interpreter import Interpreter
from diag.engine.graphs.reachability import reachable
from diag.engine.graphs.subgraph import subgraph
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.compiled import build
from diag.engine.lanes.eager import EagerPlace, SingleLane, VariableRef
from diag.engine.lanes.lane import Lane
from diag.engine.lanes.step_results import UnitInputs
from diag.engine.step.units import Unit
from diag.engine.truth.unit_truth import UnitTruth
from diag.numerics.bits import same_bits
from diag.numerics.bounds import composite_bound, exact_bound, where_both_overflow
from diag.numerics.errors_against_truth import absolute_error

_HELD = ("Const", "Placeholder", "NoOp")  # nodes that hold or order, and compute nothing


@dataclass(frozen=True)
class RegionRun:
    """Some ops of a layer, compiled by themselves and run once.

    outputs, expected: what the region handed on, and then each variable it wrote, as it ran and as the ops did
    one by one.  `state` is the whole training state before the step.
    """

    unit: Unit
    boundary: Sequence[Any]
    state: Sequence[Any]
    outputs: Sequence[Any]
    expected: Sequence[Any]


Judge = Callable[[RegionRun], bool]  # True: rounding does not explain it


@dataclass(frozen=True)
class Region:
    """The fewest ops that still fail, in the order of the step.  ran: how they failed."""

    ops: tuple[Node, ...]
    unit: Unit
    ran: RegionRun

    @property
    def name(self) -> str:
        """`MatMul+BiasAdd+Relu`."""
        return "+".join(node.op for node in self.ops)

    @property
    def op_indices(self) -> tuple[int, ...]:
        """Of its ops in the step, ascending."""
        return tuple(node.location.index for node in self.ops if node.location.index is not None)


def smallest_failing_region(
    unit: Unit,
    boundary: Sequence[Any],
    state: Sequence[Any],
    lane: Lane,
    judge: Judge | None = None,
    seconds: float = math.inf,
) -> Region | None:
    """The smallest compiled region of a layer unit that still fails at a lane's place, None where none does.

    boundary: the unit's feeds.  state: all variables before the step; the lane's own are left alone.  Without
    a `judge`, outputs are held against float64 truth as those of any layer are.  seconds: no new region is tried
    after that; what is found by then may not be the smallest.
    """
    search = _Search(unit, boundary, state, lane, judge or TruthJudge(lane), time.monotonic() + seconds)
    names = [node.name for node in search.ops]
    if not search.fails(names):
        return None
    names = search.shortest(names, lambda ops, length: ops[:length])
    names = search.shortest(names, lambda ops, length: ops[len(ops) - length :])
    names = search.without_bystanders(names)
    members = set(names)
    found = tuple(node for node in search.ops if node.name in members)
    ran = search.run(frozenset(members))
    assert ran is not None
    return Region(found, ran.unit, ran)


def watched_away(region: Region, lane: Lane, judge: Judge | None = None) -> tuple[Port, ...]:
    """The tensors inside a failing region that make it right when they are fetched too: then they are not fused."""
    ran, judge, found = region.ran, judge or TruthJudge(lane), []
    inner = [port for node in region.ops for port in _visible(node) if port not in ran.unit.outputs]
    for port in inner:
        executable = replace(ran.unit.executable, fetches=(*ran.unit.executable.fetches, port))
        variables = _variables(ran.unit, ran.state, lane)
        outputs = build(executable, lane.place, lane.simulation, variables)(*lane.place_feeds(ran.boundary))[:-1]
        written = [variables[i].read_value() for i in ran.unit.writes]
        if not judge(replace(ran, outputs=[*outputs, *written])):
            found.append(port)
    return tuple(found)


class TruthJudge:
    """Holds a region against float64, in units of what rounding does to it; equal bits need no truth."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    def __call__(self, run: RegionRun) -> bool:
        pairs = [(to_numpy(x), to_numpy(e)) for x, e in zip(run.outputs, run.expected, strict=True)]
        if all(same_bits(x, expected) for x, expected in pairs):
            return False
        truth = UnitTruth(run.unit, self.lane.variables)
        expected, received = (UnitInputs(run.boundary, run.state, x) for x in (run.expected, run.outputs))
        of_expected = truth.outputs(expected)
        spreads = truth.spreads(expected, of_expected).values()
        of_received = truth.outputs(received)
        return any(not _is_explained(*each) for each in zip(pairs, of_expected, of_received, spreads, strict=True))


def _is_explained(pair: tuple[Any, Any], of_expected: Any, of_received: Any, spread: Any) -> bool:
    x, expected = pair
    if x.dtype.kind in "biu":
        return exact_bound(x, expected).is_explained
    error = absolute_error(expected, where_both_overflow(expected, x, of_expected))
    return composite_bound(x, where_both_overflow(x, expected, of_received), spread, error).is_explained


class _Search:
    """Which sets of ops fail, each tried once."""

    def __init__(
        self, unit: Unit, boundary: Sequence[Any], state: Sequence[Any], lane: Lane, judge: Judge, deadline: float
    ) -> None:
        self.unit, self.state, self.lane, self.judge, self.deadline = unit, state, lane, judge, deadline
        self.ops = [node for node in unit.executable.graph if node.name in _computing(unit)]
        self.values, self.after = op_by_op(unit, boundary, state, lane)
        self.known: dict[frozenset[str], bool] = {}

    def fails(self, names: Iterable[str]) -> bool:
        members = frozenset(names)
        if members not in self.known and time.monotonic() > self.deadline:
            return False
        if members not in self.known:
            self.known[members] = bool(members) and self._fails(members)
        return self.known[members]

    def shortest(self, names: list[str], part: Callable[[list[str], int], list[str]]) -> list[str]:
        """The shortest part that fails, where all longer ones do."""
        passing, failing = 0, len(names)
        while failing - passing > 1:
            middle = (passing + failing) // 2
            if self.fails(part(names, middle)):
                failing = middle
            else:
                passing = middle
        return part(names, failing)

    def without_bystanders(self, names: list[str]) -> list[str]:
        """Ops of other chains stand between those of one that fails: ever smaller parts, until none can be left out."""
        kept, size = list(names), max(len(names) // 2, 1)
        while True:
            before = list(kept)
            for start in reversed(range(0, len(kept), size)):
                fewer = kept[:start] + kept[start + size :]
                if fewer and self.fails(fewer):
                    kept = fewer
            if size > 1:
                size //= 2
            elif kept == before:
                return kept

    def _fails(self, members: frozenset[str]) -> bool:
        ran = self.run(members)
        return ran is not None and self.judge(ran)

    def run(self, members: frozenset[str]) -> RegionRun | None:
        """These ops compiled and run once; None where nothing comes of them."""
        region = region_of(self.unit, members)
        if not region.outputs and not region.writes:
            return None
        boundary = [self.values[port] for port in region.boundary]
        variables = _variables(region, self.state, self.lane)
        run = build(region.executable, self.lane.place, self.lane.simulation, variables)
        outputs = [*run(*self.lane.place_feeds(boundary)), *(variables[i].read_value() for i in region.writes)]
        expected = [*(self.values[port] for port in region.outputs), *(self.after[i] for i in region.writes)]
        return RegionRun(region, boundary, self.state, outputs, expected)


def op_by_op(
    unit: Unit, boundary: Sequence[Any], state: Sequence[Any], lane: Lane
) -> tuple[dict[Port, Any], dict[int, Any]]:
    """Every tensor inside a unit, by port, and the variables it writes, op by op at the lane's place."""
    executable = unit.executable
    variables = _variables(unit, state, lane)
    feeds = dict(zip(executable.feeds, lane.place_feeds(boundary), strict=True))
    captured = {name: VariableRef(index) for name, index in executable.captures.items()}
    wanted = [port for node in executable.graph for port in _visible(node)]
    handler = SingleLane(EagerPlace(lane.place.eagerly(), None), variables)
    interpreter: Interpreter[Any] = Interpreter(executable.functions, handler)
    values = interpreter.run(executable.graph, {**feeds, **captured, **executable.constants}, wanted)
    return values, {index: variables[index].read_value() for index in unit.writes}


def _variables(unit: Unit, state: Sequence[Any], lane: Lane) -> list[Any]:
    """Variables of their own for what a unit captures, by the indices of the program's."""
    result: list[Any] = [None] * len(lane.variables)
    with tf.device(lane.place.device):
        for index in unit.executable.captures.values():
            result[index] = tf.Variable(state[index], trainable=False)
    return result


def _visible(node: Node) -> list[Port]:
    return [Port(node.name, index) for index, dtype in enumerate(node.dtypes) if dtype not in OPAQUE]


# ---------------------------------------------------------------------------------------------
# Cutting a region out of a unit


def _computing(unit: Unit) -> frozenset[str]:
    """The nodes that can be cut off: not those that hold a value, nor reads of variables."""
    return frozenset(n.name for n in unit.executable.graph if n.op not in _HELD and n.op not in READ_OPS)


def region_of(unit: Unit, members: Iterable[str]) -> Unit:
    """Some nodes of a unit as a unit of their own, with ports named as in the unit's graph.

    A constant, or a read of a variable that the unit does not write, comes along with whoever reads it, and a tensor
    that cannot be fed (a list, a handle) with its maker.
    """
    return _Region(unit, set(members)).cut()


class _Region:
    def __init__(self, unit: Unit, members: set[str]) -> None:
        self.unit, self.graph, self.inside = unit, unit.executable.graph, members
        self.kept = reachable(
            members, lambda name: [p.node for p in self.graph.by_name[name].inputs if self._comes_along(p)]
        )

    def cut(self) -> Unit:
        unit, whole = self.unit, self.unit.executable
        nodes = [node for node in self.graph if node.name in self.kept]
        ports = dict.fromkeys(port for node in nodes for port in node.inputs if port.node not in self.kept)
        boundary = {port: f"lockstep_region/{index}" for index, port in enumerate(ports)}
        graph, graph_def = subgraph(nodes, boundary, self.graph, whole.functions, whole.graph_def)
        outputs = tuple(port for node in nodes for port in _visible(node) if self._leaves(port))
        executable = Executable(
            graph,
            whole.functions,
            graph_def,
            tuple(boundary.values()),
            {name: index for name, index in whole.captures.items() if name in graph.by_name},
            {name: value for name, value in whole.constants.items() if name in graph.by_name},
            outputs,
        )
        return Unit(
            unit.layer, unit.variable, tuple(boundary), outputs, self._writes(nodes), executable, unit.first_index
        )

    def _comes_along(self, port: Port) -> bool:
        node, whole = self.graph.by_name[port.node], self.unit.executable
        if node.op == "Const" or node.name in whole.captures or node.name in whole.constants:
            return True
        if node.op in READ_OPS:
            return whole.captures.get(node.inputs[0].node) not in (None, *self.unit.writes)
        return self.graph.dtype(port) in OPAQUE

    def _leaves(self, port: Port) -> bool:
        if port.node not in self.inside:
            return False
        is_read = any(port in node.inputs for node in self.graph if node.name not in self.kept)
        return is_read or port in self.unit.outputs

    def _writes(self, nodes: list[Node]) -> tuple[int, ...]:
        """A branch or a loop may write any variable that it is handed; the unit knows which are written at all."""
        captures, assigned = self.unit.executable.captures, set()
        for node in nodes:
            if node.op in ASSIGN_OPS or not node.dtypes or node.function_names():
                assigned |= {captures.get(port.node) for port in node.inputs}
        return tuple(index for index in self.unit.writes if index in assigned)
