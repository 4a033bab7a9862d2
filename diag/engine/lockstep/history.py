"""What an op depends on besides its inputs: run again, run in isolation, and the steps before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from diag.causes.wrong_output import EarlierExecution
from diag.engine.graphs.graph import ASSIGN_OPS, Node
from diag.engine.graphs.interpreter import Interpreter
from diag.engine.graphs.tf_runtime import float64_array, to_numpy
from diag.engine.lanes.eager import EagerPlace, SingleLane, VariableRef
from diag.engine.step.program import Program
from diag.machine.places import Place

# Ops that are looked up in earlier steps in one run: each costs an eager step.
MAX_LOOKS = 6


def with_nothing_remembered(place: EagerPlace) -> EagerPlace:
    """The same place as if it had never computed anything; on a real device, fresh buffers are all there is."""
    simulation = place.simulation
    return EagerPlace(place.place, None if simulation is None else replace(simulation, memory={}))


@dataclass(frozen=True)
class _Step:
    number: int
    program: Program
    state: Sequence[Any]
    batch: Sequence[Any]

    @property
    def num_rows(self) -> int:
        return num_rows_of(self.batch)

    def carried(self) -> dict[str, Any]:
        state, batch = ([to_numpy(value) for value in values] for values in (self.state, self.batch))
        return {"number": self.number, "state": state, "batch": batch}

    @classmethod
    def taken_up(cls, carried: dict[str, Any], program: Program) -> _Step:
        state, batch = ([tf.constant(value) for value in carried[name]] for name in ("state", "batch"))
        return cls(carried["number"], program, state, batch)


def num_rows_of(batch: Sequence[Any]) -> int:
    """The length of a batch's arrays along their first axis."""
    return max((int(x.shape[0]) for x in batch if len(x.shape)), default=0)


class History:
    """The steps before the one at hand that may have left something behind: the last, and the last that was larger."""

    def __init__(self, place: Place) -> None:
        self.place = place.eagerly()
        self._last: _Step | None = None
        self._larger: _Step | None = None
        self._looks = 0

    def remember(self, number: int, program: Program, state: Sequence[Any], batch: Sequence[Any]) -> None:
        """A step that is over: the state before it, and its batch."""
        step = _Step(number, program, state, batch)
        if self._last is not None and self._last.num_rows > step.num_rows:
            self._larger = self._last
        if self._larger is not None and self._larger.num_rows <= step.num_rows:
            self._larger = None
        self._last = step

    def carried(self) -> dict[str, Any]:
        """The steps remembered, to go on in another process."""
        steps = {"last": self._last, "larger": self._larger}
        return {"looks": self._looks, **{name: step and step.carried() for name, step in steps.items()}}

    def take_up(self, carried: dict[str, Any], program_for: Callable[[Sequence[Any]], Program]) -> None:
        """Go on from what `carried` gave in another process; program_for: the traced step for a batch's arrays."""
        self._looks = carried["looks"]
        self._last, self._larger = (
            None if step is None else _Step.taken_up(step, program_for(step["batch"]))
            for step in (carried["last"], carried["larger"])
        )

    def of(self, index: int, output: int, num_rows: int) -> list[EarlierExecution]:
        """The op with this index at the last step and at the last one with more rows than now, the latest first."""
        steps = [step for step in (self._last, self._larger) if step is not None]
        if len(steps) == 2 and steps[0].num_rows > num_rows:
            del steps[1]
        if not steps or self._looks >= MAX_LOOKS:
            return []
        self._looks += 1
        found = [self._look(step, index, output) for step in steps]
        return [earlier for earlier in found if earlier is not None]

    def _look(self, step: _Step, index: int, output: int) -> EarlierExecution | None:
        """Run the step again, eagerly and without a fault, up to its end."""
        with tf.device(self.place.device):
            variables = [tf.Variable(value, trainable=False) for value in step.state]
        lane = _Looking(EagerPlace(self.place, None), variables, index)
        program = step.program
        feeds: dict[str, Any] = dict(zip(program.batch_inputs, step.batch, strict=True))
        feeds |= {name: VariableRef(position) for name, position in program.captures.items()}
        feeds |= program.constants
        Interpreter[Any](program.functions, lane).run(program.graph, feeds, [])
        if lane.execution is None or output >= len(lane.execution[1]):
            return None
        inputs, outputs = lane.execution
        return EarlierExecution(step.number, [float64_array(x) for x in inputs], float64_array(outputs[output]))


class _Looking(SingleLane):
    """Executes a step and keeps what one op read and gave."""

    def __init__(self, place: EagerPlace, variables: Sequence[tf.Variable], index: int) -> None:
        super().__init__(place, variables)
        self.index = index
        self.execution: tuple[list[Any], list[Any]] | None = None

    def compute(self, node: Node, inputs: Sequence[Any]) -> list[Any]:
        values = [self._value(x) for x in inputs] if node.location.index == self.index else []
        outputs = super().compute(node, inputs)
        if values and node.op in ASSIGN_OPS:
            self.execution = (values, [self._value(inputs[0])])
        elif values:
            self.execution = (values, list(outputs))
        return outputs

    def _value(self, x: Any) -> Any:
        return self.variables[x.index].read_value() if isinstance(x, VariableRef) else x
