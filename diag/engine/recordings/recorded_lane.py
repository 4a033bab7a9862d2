"""A lane that ran elsewhere: its recorded values, with a stand-in here for what was not kept.

The stand-in computes the same step from the same state on this machine's CPU.  It gives the inputs
at the boundaries of layer units and the draws; what was recorded is what the candidate is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from diag.engine.graphs.graph import Port
from diag.engine.lanes.lane import Lane, Recorded, check_device
from diag.engine.recordings.recorded_run import RecordedRun, summary
from diag.engine.step.program import Program
from diag.machine.places import Place


class RecordedLane(Lane):
    """The lane `source` of a trace.  Steps of which it has no state run on from the stand-in's own."""

    def __init__(self, name: str, recorded_run: RecordedRun, source: str, place: Place, first_step: int) -> None:
        check_device(place)
        state = recorded_run.state(first_step, source)
        assert state is not None
        super().__init__(name, place, None, state)
        self.run = recorded_run
        self.source = source
        self.uncompared: list[int] = []
        self._knows_state = False

    @property
    def label(self) -> str:
        return f"trace:{self.run.path.name} ({self.source}, {self.run.reader.environment(self.source)['place']})"

    def environment(self) -> dict[str, Any]:
        return {**self.run.reader.environment(self.source), "place": self.label, "stand_in": str(self.place)}

    def begin(self, step: int) -> None:
        state = self.run.state(step, self.source)
        if state is not None:
            self.load(state)
        self._knows_state = state is not None or self.run.is_state(step, self.source, self.state().arrays)

    def recorded(self, step: int, program: Program) -> Recorded | None:
        values = self.run.values(step, self.source, program) if self._knows_state else {}
        if not values:
            self.uncompared.append(step)
            return None
        after = [None if x is None else tf.constant(x) for x in self.run.state_after(step, self.source)]
        return Recorded({port: tf.constant(x) for port, x in values.items()}, after)

    def carried(self) -> dict[str, Any]:
        return {**super().carried(), "uncompared": list(self.uncompared)}

    def take_up(self, carried: dict[str, Any]) -> None:
        super().take_up(carried)
        self.uncompared = carried["uncompared"]

    def draws(self, step: int, program: Program) -> Mapping[Port, Any]:
        return {port: tf.constant(value) for port, value in self.run.draws(step, program).items()}

    @property
    def notes(self) -> list[str]:
        if not self.uncompared:
            return []
        return [
            f"steps {summary(sorted(set(self.uncompared)))}: {self.run.path.name} holds no state or no tensors of "
            f"them, so the candidate is compared with {self.place} there instead"
        ]
