"""One recorded step again, from the saved state, batch and draws: which of its tensors come out with the same bits?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.execution import to_numpy
from diag.engine.graph import Port
from diag.engine.lanes import CompiledSteps, Lane
from diag.engine.places import Place
from diag.engine.program import Program
from diag.engine.recorded import RecordedRun
from diag.engine.series import Name, series_of, tapped, values_of
from diag.engine.stored_program import with_state
from diag.engine.telescope import safe_taps, units_of
from diag.errors import UserError
from diag.numerics.figures import PairStatistics
from diag.numerics.statistics import compare
from traces.checksums import tensor_checksum


class Outcome(str, Enum):
    SAME = "same"  # the recorded bits
    OTHER = "other"
    UNSTABLE = "unstable"  # other bits, and others again when the step is run a second time from the same state


@dataclass(frozen=True)
class Tensor:
    """One tensor of the step, against what was recorded.

    statistics: recorded against replayed, None where only a checksum was recorded.  own: two replays
    against each other, where they were made.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    outcome: Outcome
    statistics: PairStatistics | None = None
    own: PairStatistics | None = None


@dataclass(frozen=True)
class Replay:
    """A step replayed in one lane at one place."""

    step: int
    lane: str
    recorded_place: str
    place: str
    start: int  # the step whose snapshot it began from
    tensors: tuple[Tensor, ...]
    loss: tuple[float, float]  # recorded, replayed
    state_reproduced: bool | None  # the state before the step, where steps had to be run to reach it
    notes: tuple[str, ...] = ()

    @property
    def is_exact(self) -> bool:
        return all(tensor.outcome is Outcome.SAME for tensor in self.tensors)

    def count(self, outcome: Outcome) -> int:
        return sum(tensor.outcome is outcome for tensor in self.tensors)


@dataclass
class Replayer:
    """Replays steps of one recorded run.

    place: where, None for where each lane was recorded.  seed: of the step's random streams, None for
    the recorded state of each.  start: begin at this snapshot, None for the last one before the step.
    """

    run: RecordedRun
    place: Place | None = None
    seed: int | None = None
    start: int | None = None
    notes: list[str] = field(default_factory=list)

    def replay(self, step: int, lane: str) -> Replay:
        """Run the step again in a lane.

        Raises:
          UserError: the trace has not what this needs, or this machine has no such place.
        """
        self.notes = []
        place = self.place or self.run.place(lane)
        runner, reproduced = self.reach(step, lane, place)
        return self._compared(step, lane, runner, reproduced)

    def reach(self, step: int, lane: str, place: Place) -> tuple[Lane, bool | None]:
        """A lane at a place in the recorded state before a step.

        Also whether the steps run to get there ended with the recorded bits; None where none were run.
        """
        self.check(step)
        start = self.run.snapshot_before(step) if self.start is None else self.start
        followed = lane if self.run.follow == "free" else self.run.follow
        runner = self._lane(lane, place, start, followed)
        leader = runner
        if followed != lane:
            leader = self._lane(followed, self._place_of(followed, place), start, followed)
        for number in range(start, step):
            self._one_step(leader, followed, number)
            if self.start is not None and leader is not runner:  # a place with a memory has to live through all of them
                runner.load(leader.state() if number == start else runner.state())
                self._one_step(runner, lane, number)
        if leader is not runner:
            runner.load(leader.state())
        return runner, self._state_is_recorded(step, followed, runner) if start < step else None

    def check(self, step: int) -> None:
        """Refuse a step that was not recorded, or cannot be reached from any snapshot."""
        steps = self.run.reader.steps
        if step not in steps:
            raise UserError(f"--step {step}: {self.run.path} holds steps {min(steps)} to {max(steps)}")
        if self.start is not None and self.start not in self.run.reader.snapshots:
            raise UserError(f"--from {self.start}: {self.run.path} holds the states before {self.run.reader.snapshots}")
        if self.start is not None and self.start > step:
            raise UserError(f"--from {self.start} is after --step {step}; name a snapshot before the step")
        for number in range(self.run.snapshot_before(step) if self.start is None else self.start, step + 1):
            self.run[number]  # raises where the batch was not kept

    def _place_of(self, lane: str, otherwise: Place) -> Place:
        """Where the lane that leads was recorded, or the replay's own place where this machine has no such."""
        recorded = self.run.place(lane)
        devices = {device.name.split(":", 1)[1] for device in tf.config.list_logical_devices()}
        if f"device:{recorded.device}" in devices or recorded.device in devices:
            return recorded
        self.notes.append(f"the steps before are run at {otherwise}: this machine has no {recorded.device}")
        return otherwise

    def _lane(self, name: str, place: Place, start: int, followed: str) -> Lane:
        state = self.run.state(start, followed)
        assert state is not None
        program = with_state(self.run.program(start), self._seeded(state))
        return Lane.at(name, place, program, self.run.seed)

    def _seeded(self, state: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The state with the random streams moved to another seed, where one is wanted."""
        if self.seed is None:
            return list(state)
        names = [spec.name for spec in self.run.program(self.run.first_step).variables]
        streams = [i for i, name in enumerate(names) if "seed_generator" in name]
        if not streams:
            raise UserError(f"--seed {self.seed}: the recorded step has no random stream of Keras to seed")
        changed = list(state)
        for index in streams:
            changed[index] = changed[index].copy()
            changed[index][0] = self.seed
        return changed

    def _one_step(self, lane: Lane, recorded_as: str, step: int) -> tuple[Program, dict[Port, Any]]:
        """Run a step as it was recorded: with the same tensors tapped, and the kept draws."""
        program = self.run.program(step)
        taps = self._taps(program, recorded_as, step)
        lane.enter_step(step)
        batch = [tf.constant(value) for value in self.run[step].inputs]
        draws = {} if self.seed is not None else self.run.draws(step, program)
        given = {port: tf.constant(value) for port, value in draws.items()}
        return program, CompiledSteps(lane, program).run(batch, taps, given)

    def _taps(self, program: Program, recorded_as: str, step: int) -> tuple[Port, ...]:
        """What the recording lane showed: a tensor that is fetched may be computed in another way."""
        if recorded_as == "reference" and self.run.reader.is_checked(step):
            return (*safe_taps(program), *units_of(program).taps)
        return safe_taps(program)

    def _state_is_recorded(self, step: int, followed: str, lane: Lane) -> bool | None:
        """Whether the steps that led here ended with the recorded bits."""
        known = self.run.state(step, followed)
        if known is not None:
            return all(_same_bits(a, to_numpy(b)) for a, b in zip(known, lane.state(), strict=True))
        program = self.run.program(step - 1)
        values = values_of(program, {}, lane.state(), lane.state())
        checksums = {n: self.run.reader.checksum(step - 1, followed, *n) for n in values if n[0] != "update"}
        return all(tensor_checksum(values[name]) == sum_ for name, sum_ in checksums.items() if sum_ is not None)

    # -- what came out -----------------------------------------------------------------------------

    def _compared(self, step: int, lane: str, runner: Lane, reproduced: bool | None) -> Replay:
        before = runner.state()
        program, values = self._one_step(runner, lane, step)
        mine = values_of(program, values, before, runner.state())
        again: Mapping[Name, np.ndarray] = {}
        if any(self._outcome(step, lane, name, array) is Outcome.OTHER for name, array in mine.items()):
            runner.load(before)
            _, values_again = self._one_step(runner, lane, step)
            again = values_of(program, values_again, before, runner.state())
        tensors = [
            self._tensor(step, lane, name, mine[name], again.get(name)) for name in _order(program) if name in mine
        ]
        reader = self.run.reader
        start = self.run.snapshot_before(step) if self.start is None else self.start
        loss = (float(reader.losses[lane][reader.steps.index(step)]), float(values[program.loss]))
        return Replay(
            step, lane, str(reader.environment(lane)["place"]), str(runner.place), start,
            tuple(tensor for tensor in tensors if tensor is not None), loss, reproduced, tuple(self.notes),
        )  # fmt: skip

    def _outcome(self, step: int, lane: str, name: Name, array: np.ndarray) -> Outcome | None:
        recorded = self.run.reader.checksum(step, lane, *name)
        if recorded is None:
            return None
        return Outcome.SAME if recorded == tensor_checksum(array) else Outcome.OTHER

    def _tensor(self, step: int, lane: str, name: Name, mine: np.ndarray, again: np.ndarray | None) -> Tensor | None:
        outcome = self._outcome(step, lane, name, mine)
        if outcome is None:
            return None
        statistics = own = None
        if outcome is Outcome.OTHER:
            if self.run.reader.holds(step, lane, *name):
                statistics = compare(self.run.reader.tensor(step, lane, *name), mine)
            if again is not None and not _same_bits(mine, again):
                outcome, own = Outcome.UNSTABLE, compare(mine, again)
        return Tensor(*name, mine.shape, mine.dtype.name, outcome, statistics, own)


def _order(program: Program) -> list[Name]:
    """Names in the order in which a step computes them: draws and activations as the graph has them."""
    position = {node.name: index for index, node in enumerate(program.graph)}
    ports = tapped(program)
    names = [(series.kind, series.name) for series in series_of(program)]
    return sorted(names, key=lambda name: position[ports[name].node] if name in ports else len(position))


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
