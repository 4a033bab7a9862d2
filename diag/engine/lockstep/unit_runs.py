"""Layer units, each compiled and run by itself at the candidate.

A unit runs on the values that the reference's step had at its boundary: what it gives shows the candidate's own
error, with the fusions inside the layer left in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from diag.engine.graphs.variables import read, write
from diag.engine.lanes.lane import Lane
from diag.engine.lanes.step_results import StepRun, UnitRun
from diag.engine.step.program import Program
from diag.engine.step.units import Cut, Unit, cut
from diag.numerics.op_classes import is_free


def units_of(program: Program) -> Cut:
    """The program cut into layer units, apart from ops whose results are not unique."""
    return cut(program, frozenset(n.op for n in program.graph if is_free(n.op)))


class UnitRunner:
    """Runs units at one lane, on its scratch variables; each is compiled once.

    is_fresh: though TensorFlow may have compiled one of its structure before.
    """

    def __init__(self, lane: Lane, is_fresh: bool = False) -> None:
        self.lane, self.is_fresh = lane, is_fresh
        self._built: dict[str, Any] = {}

    def run(self, units: Sequence[Unit], run: StepRun, state: Sequence[Any] | None = None) -> Iterator[UnitRun]:
        """Each of these units when it is its turn, on the reference's inputs and state, or on another state.

        Who lets go of a unit's results before the next holds no more than one unit's.
        """
        scratch, source = self.lane.scratch, run.unit_source
        state = run.reference.before if state is None else state
        self.lane.load_scratch(state)
        captured = Counter(index for unit in units for index in set(unit.executable.captures.values()))
        several = {index for index, number in captured.items() if number > 1}
        for unit in units:
            boundary = [source.values[port] for port in unit.boundary]
            outputs = self.outputs_of(unit, boundary)
            written = [read(scratch[index]) for index in unit.writes]
            for index in several.intersection(unit.writes):
                write(scratch[index], state[index])
            reference = [source.values[port] for port in unit.outputs]
            reference += [source.after[index] for index in unit.writes]
            yield UnitRun(unit, run, boundary, [*outputs, *written], reference)

    def outputs_of(self, unit: Unit, boundary: Sequence[Any]) -> list[Any]:
        """What a unit hands on, given the values at its boundary; the scratch variables are as they were left."""
        if unit.name not in self._built:
            self._built[unit.name] = self.lane.build(unit.executable, True, self.is_fresh)
        outputs: list[Any] = self._built[unit.name](*self.lane.place_feeds(boundary))
        return outputs


def whole_step_run(unit: Unit, run: StepRun) -> UnitRun:
    """The step itself as a unit: what was watched of it, and the state it left."""
    candidate, reference = (
        [*(lane.values[port] for port in unit.outputs), *(lane.after[index] for index in unit.writes)]
        for lane in (run.candidate, run.reference)
    )
    return UnitRun(unit, run, [run.reference.values[port] for port in unit.boundary], candidate, reference)
