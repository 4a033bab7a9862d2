"""Where a fault really struck, taken down by the fault itself while the program runs.

The record is the benchmark's oracle: it is made from what goes into and comes out of the fault's
function, and knows nothing of bounds, lanes or verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import numpy as np

from diag.engine.faults.bits import alive_in
from diag.engine.faults.catalogue import simulation_of
from diag.engine.faults.simulation import Call, Simulation
from diag.engine.lanes import lane as lanes
from diag.machine.places import Place

PHASES = ("forward", "backward", "optimizer")
# A change below this share of the largest element is a rounding, whatever made it.
ROUNDING = 2.0**-21
# Of ops that make each element from one of each operand: a change of an element by more steps than this is none.
ELEMENTWISE = frozenset("Add AddV2 Sub Mul RealDiv DivNoNan Square Sqrt Rsqrt Neg BiasAdd Tanh Exp Sigmoid".split())
ROUNDING_STEPS = 8.0


@dataclass(frozen=True, order=True)
class Strike:
    """One op, or one node of a rewritten graph, that a fault changed."""

    step: int
    phase_order: int
    index: int
    op_type: str = field(compare=False)
    layer: str | None = field(compare=False)
    variable: str | None = field(compare=False)
    size: float = field(compare=False)  # largest change, of the largest element
    steps: float = field(compare=False, default=np.inf)  # largest change, in steps of the format

    @property
    def is_no_rounding(self) -> bool:
        return self.size > ROUNDING or (self.op_type in ELEMENTWISE and self.steps > ROUNDING_STEPS)

    def __str__(self) -> str:
        return f"step {self.step} {PHASES[self.phase_order]} op {self.index} {self.op_type} of {self.layer}"


@dataclass
class Strikes:
    """All that one fault changed in one run."""

    by_op: set[Strike] = field(default_factory=set)
    eagerly: set[Strike] = field(default_factory=set)
    by_rewriter: set[Strike] = field(default_factory=set)

    @property
    def all_of_them(self) -> tuple[Strike, ...]:
        """Of a fault of chance, which may strike the look at an op by itself and not the step."""
        return tuple(sorted(s for s in self.by_op | self.eagerly if s.is_no_rounding))

    def first(self, least_steps: int = 0) -> tuple[Strike, ...]:
        """The first change that is no rounding, and before it those of so few steps that they may be one."""
        changes = sorted(s for s in self.by_op if s.is_no_rounding) or sorted(self.by_rewriter)
        sure = next((k for k, s in enumerate(changes) if s.steps > least_steps), -1)
        return tuple(changes[: sure + 1]) if least_steps else tuple(changes[sure : sure + 1])


@dataclass(frozen=True)
class Aim:
    """Where a fault that could strike many ops may strike: at one step, at an op that the seed draws."""

    steps: int
    seed: int

    @property
    def step(self) -> int:
        return int(np.random.default_rng(self.seed).integers(self.steps))

    def op(self, program: Any, op_types: frozenset[str] | None) -> int:
        """Of the ops of the types that the fault is about: those outside loops, whose results somebody wants."""
        alive = alive_in(program)
        nodes = [
            n for n in program.graph if n.location.index is not None and n.op in (op_types or ()) and n.name in alive
        ]
        assert nodes, "a fault is aimed among ops of types that it names"
        return int(nodes[int(np.random.default_rng([self.seed, 1]).integers(len(nodes)))].location.index)


@contextmanager
def recorded(aim: Aim | None = None) -> Iterator[Strikes]:
    """While it is open, every simulated place takes down what it changes, and strikes where it is aimed."""
    strikes = Strikes()

    def at(place: Place) -> Simulation | None:
        simulation = simulation_of(place)
        return None if simulation is None else _recording(simulation, strikes, aim)

    with mock.patch.object(lanes, "simulation_of", at):
        yield strikes


def _recording(simulation: Simulation, strikes: Strikes, aim: Aim | None) -> Simulation:
    fault, rewriter, bind = simulation.fault, simulation.rewriter, simulation.bind
    programs: list[Any] = []
    targets: list[int] = []

    def recording_fault(call: Call) -> list[np.ndarray] | None:
        assert fault is not None
        if aim is not None and (call.step, call.index) != (aim.step, targets[0]):
            return None
        changed = fault(call)
        size = 0.0 if changed is None else max(map(_change, call.outputs, changed))
        if changed is not None and size:
            seen = strikes.eagerly if call.execution == "eager" else strikes.by_op
            seen.add(_strike(call, size, max(map(_steps, call.outputs, changed))))
        return changed

    def recording_rewriter(graph_def: Any) -> Any:
        assert rewriter is not None
        before = {node.name: _wiring(node) for node in graph_def.node}
        result = rewriter(graph_def)
        for node in (result or graph_def).node:
            if before.get(node.name) != _wiring(node):
                strikes.by_rewriter.update(_rewritten(programs[0], node.name))
        return result

    def recording_bind(program: Any, seed: int) -> Any:
        programs.append(program)
        if aim is not None and not targets:
            targets.append(aim.op(program, simulation.op_types))
        return None if bind is None else bind(program, seed)

    return replace(
        simulation,
        fault=recording_fault if fault is not None else None,
        rewriter=recording_rewriter if rewriter is not None else None,
        bind=recording_bind,
    )


def _wiring(node: Any) -> tuple[str, ...]:
    return (node.op, *node.input)


def _strike(call: Call, size: float, steps: float) -> Strike:
    phase = PHASES.index(call.phase)
    if any(x.dtype == np.float64 for x in call.outputs):
        size *= 2.0**29  # what is a rounding is said in float32's
    return Strike(call.step, phase, call.index, call.op_type, call.layer, call.variable, size, steps)


def _rewritten(program: Any, name: str) -> Iterator[Strike]:
    node = program.graph.by_name.get(name)
    if node is not None and node.location.index is not None:
        location = node.location
        yield Strike(0, PHASES.index(location.phase), location.index, node.op, location.layer, location.variable, 1.0)


def _steps(before: np.ndarray, after: np.ndarray) -> float:
    """The largest change in steps of the format; infinite for what has none."""
    after = np.asarray(after)
    if before.dtype.name not in ("float16", "bfloat16", "float32") or after.dtype != before.dtype:
        return float("inf")
    if not (np.isfinite(before.astype(np.float64)).all() and np.isfinite(after.astype(np.float64)).all()):
        return float("inf")
    word, sign = np.dtype(f"i{before.itemsize}"), np.int64(1) << (8 * before.itemsize - 1)
    old, new = (np.ascontiguousarray(x).view(word).astype(np.int64) for x in (before, after))
    old, new = (np.where(x < 0, -(x + sign), x) for x in (old, new))
    return float(np.abs(new - old).max(initial=0))


def _change(before: np.ndarray, after: np.ndarray) -> float:
    """The largest change, as a share of the largest element; infinite where one side is not finite."""
    old, new = (np.asarray(x).astype(np.float64) for x in (before, after))
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    if same.all():
        return 0.0
    with np.errstate(all="ignore"):
        change = np.abs(new - old)[~same]
        largest = np.abs(old[np.isfinite(old)]).max(initial=0.0)
    if not np.isfinite(change).all() or largest == 0.0:
        return float("inf")
    return float(change.max() / largest)
