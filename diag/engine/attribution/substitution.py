"""Intervention: the candidate trains with one layer, or one op, computed outside its fault.

On a real device the unit's ops are placed on the CPU; on a simulated place its fault does not reach them
(diag/engine/graphs/pinning.py).  All the rest stays the candidate's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.attribution.edits import pinned_where
from diag.engine.graphs.locations import OPTIMIZER, Location
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.runs.twins import perturbed
from diag.engine.step.program import Program
from diag.engine.step.tracing import flat_batch
from diag.errors import UserError
from diag.machine.places import Place
from diag.numerics.envelope import FEWEST_TWINS
from diag.verdict.substitution import OP, Substitution


def unit_named(names: str, program: Program) -> Callable[[Location], bool]:
    """Which sites belong to a layer, to a variable's update, or to one op; or to any of several, a comma between.

    Raises UserError where the step has none, with those it has.
    """
    wanted = [_one_unit(name, program) for name in names.split(",")]
    return lambda location: any(is_wanted(location) for is_wanted in wanted)


def _one_unit(name: str, program: Program) -> Callable[[Location], bool]:
    if name.startswith(OP):
        index = int(name.removeprefix(OP))
        if index >= len(program.ops):
            raise UserError(f"--substitute {name}: the step has the ops 0 to {len(program.ops) - 1}")
        return lambda location: location.index == index
    layers = {node.location.layer for node in program.ops if node.location.layer}
    variables = {node.location.variable for node in program.ops if node.location.variable}
    if name in layers:  # forward and backward; the update of its variables is no part of a layer
        return lambda location: location.layer == name and (location.phase != OPTIMIZER or location.variable is None)
    if name in variables:
        return lambda location: location.variable == name
    raise UserError(f"--substitute {name}: the step has no such layer or variable; it has {', '.join(sorted(layers))}")


@dataclass
class _Path:
    """A lane on its own path."""

    lane: Lane
    losses: list[float] = field(default_factory=list)
    built: dict[int, CompiledSteps] = field(default_factory=dict)

    def step(self, number: int, program: Program, batch: Sequence[Any], draws: dict[Any, Any]) -> dict[Any, Any]:
        """One step; what it drew where nothing was given."""
        compiled = self.built.setdefault(id(program), CompiledSteps(self.lane, program))
        self.lane.enter_step(number)
        watched = () if draws else stateful_draws(program)
        values = compiled.run(batch, watched, draws)
        if self.lane.simulation is not None:
            self.lane.simulation.check()
        self.losses.append(program.figure(values))
        return {port: values[port] for port in watched}


def stateful_draws(program: Program) -> tuple[Any, ...]:
    """Draws that no variable determines: every lane takes the reference's, or each would train on other masks."""
    return tuple(p for p in program.random_ports if not program.graph.by_name[p.node].op.startswith("Stateless"))


def substitute(
    name: str, programs: Callable[[Any], Program], batches: Any, places: tuple[Place, Place], steps: range, seed: int
) -> Substitution:
    """Train the reference, its twins, the candidate, and the candidate with the unit substituted.

    places: the reference's and the candidate's.  steps: their numbers; the first starts from the program's
    own state.

    Raises:
      UserError: no such unit.
    """
    program = programs(batches[steps.start])
    wanted = unit_named(name, program)
    reference, candidate = places
    changed = Lane.at("substituted", candidate, program, seed, [pinned_where(wanted, candidate.is_simulated)])
    paths = [
        _Path(Lane.at("reference", reference, program, seed)),
        _Path(Lane.at("candidate", candidate, program, seed)),
    ]
    paths += [_Path(changed), *(_Path(_twin(reference, program, seed, number)) for number in range(FEWEST_TWINS))]
    traced = {_shapes(batches[steps.start]): program}
    for number in steps:
        batch = batches[number]
        if _shapes(batch) not in traced:
            traced[_shapes(batch)] = programs(batch)
        known, inputs = traced[_shapes(batch)], [tf.constant(value) for value in flat_batch(batch)]
        draws: dict[Any, Any] = {}
        for path in paths:
            draws |= path.step(number, known, inputs, draws)
    found = [tuple(path.losses) for path in paths]
    num_ops = sum(wanted(node.location) for node in program.ops)
    return Substitution(name, num_ops, steps.start, found[0], found[1], found[2], tuple(found[3:]))


def _twin(place: Place, program: Program, seed: int, number: int) -> Lane:
    lane = Lane.at(f"twin {number + 1}", place, program, seed)
    lane.load(perturbed(program, lane.state(), np.random.default_rng((abs(seed), number + 1))))
    return lane


def _shapes(batch: Any) -> tuple[Any, ...]:
    return tuple((value.shape, str(value.dtype)) for value in flat_batch(batch))
