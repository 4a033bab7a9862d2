"""One recorded step again, from the saved state, batch and draws: which of its tensors come out with the same bits?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.graphs.graph import Node, Port
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import CompiledSteps, Lane, check_device, has_device
from diag.engine.recordings.recorded_run import RecordedRun, summary
from diag.engine.step.named_tensors import Name, Shown, series_of, viewed, watched_tensors
from diag.engine.step.program import Program
from diag.engine.step.serialization import with_state
from diag.errors import UserError
from diag.machine.places import Place
from diag.numerics.bits import same_bits
from diag.numerics.op_classes import is_random
from diag.numerics.statistics import compare
from diag.verdict.replay import Replay, ReplayOutcome, Tensor
from traces.checksums import tensor_checksum


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
    _compiled: dict[tuple[int, int], CompiledSteps] = field(default_factory=dict)

    def replay(self, step: int, lane: str) -> Replay:
        """Run the step again in a lane.

        Raises:
          UserError: the trace has not what this needs, or this machine has no such place.
        """
        self.notes = []
        runner, reproduced = self.reach(step, lane, self.place_of(lane))
        return self._compared(step, lane, runner, reproduced)

    def place_of(self, lane: str) -> Place:
        """Where a lane is replayed: as asked, else where it was recorded, which this machine must have.

        Raises:
          UserError: it has not, or the place asks for another dtype policy than the recorded step's.
        """
        place, recorded = self.place or self.run.place_to_run(lane), self.run.place(lane)
        if self.place is not None and place.policy not in (None, recorded.policy or "float32"):
            raise UserError(
                f"--place {place}: the recorded step computes in {recorded.policy or 'float32'}, and a replay cannot "
                "change that; leave the policy out"
            )
        if self.place is None and not has_device(place):
            raise UserError(
                f"the {lane} was recorded at {place}, and this machine has no {place.device}; name another --place, "
                "such as CPU:0, or the other --lane"
            )
        check_device(place)
        return replace(place, policy=recorded.policy)

    def reach(self, step: int, lane: str, place: Place) -> tuple[Lane, bool | None]:
        """A lane at a place in the recorded state before a step.

        Also whether the steps run to get there ended with the recorded bits; None where none were run.
        """
        start = self.start_of(step)
        followed = lane if self.run.follow == "free" else self.run.follow
        runner = leader = self._lane(lane, place, start, followed)
        if followed != lane:
            leader = self._lane(followed, self._leading_place(followed, place), start, followed)
        for number in range(start, step):
            if self.start is not None and leader is not runner:  # a place with a memory has to live through all of them
                runner.load(leader.state())
                self._one_step(runner, number)
            self._one_step(leader, number)
        if leader is not runner:
            runner.load(leader.state())
        return runner, self.run.is_state(step, followed, list(map(to_numpy, runner.state()))) if start < step else None

    def start_of(self, step: int) -> int:
        """The step from whose stored state a step is reached."""
        return self.run.snapshot_before(step) if self.start is None else self.start

    def check(self, step: int) -> None:
        """Refuse a step that was not recorded, or cannot be reached from any snapshot."""
        first, steps, snapshots = self.run.first_step, self.run.reader.steps, self.run.reader.snapshots
        if step not in steps or step < first:
            raise UserError(f"--step {step}: {self.run.path} holds the steps {summary(steps)}")
        if self.start is not None and self.start not in snapshots:
            raise UserError(f"--from {self.start}: {self.run.path} holds the states before steps {summary(snapshots)}")
        if self.start is not None and self.start > step:
            raise UserError(f"--from {self.start} is after --step {step}; name a stored state before the step")
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise UserError(f"--seed {self.seed}: expected a number from 0 to {2**32 - 1}")
        have = set(self.run.steps_with_batches())
        if missing := [number for number in range(self.start_of(step), step + 1) if number not in have]:
            raise self.run.no_batch(f"of steps {summary(missing)}, which lead to {step}")

    def _leading_place(self, lane: str, otherwise: Place) -> Place:
        """Where the lane that leads was recorded, or the replay's own place where this machine has no such."""
        recorded = self.run.place(lane)
        named = (otherwise.simulation, otherwise.simulation_kind)
        if recorded.names_file and named != (recorded.simulation, recorded.simulation_kind):
            self.notes.append(f"the steps before are run at {otherwise}: nobody named the file of {recorded}")
            return otherwise
        if recorded.names_file:
            return replace(recorded, is_recorded=otherwise.is_recorded)
        if has_device(recorded):
            return recorded
        self.notes.append(f"the steps before are run at {otherwise}: this machine has no {recorded.device}")
        return otherwise

    def _lane(self, name: str, place: Place, start: int, followed: str) -> Lane:
        state = self.run.state(start, followed)
        assert state is not None
        program = self.run.program(start)
        return Lane.at(name, place, with_state(program, self._seeded(state, program)), self.run.seed)

    def _seeded(self, state: Sequence[np.ndarray], program: Program) -> list[np.ndarray]:
        """The state with the random streams of Keras begun anew from other seeds, where one is wanted."""
        if self.seed is None:
            return list(state)
        names = [spec.name for spec in program.variables]
        streams = [i for i, name in enumerate(names) if name.endswith("seed_generator_state")]
        if not streams:
            raise UserError(f"--seed {self.seed}: the recorded step has no random stream of Keras to seed")
        changed = list(state)
        for number, index in enumerate(streams):
            changed[index] = changed[index].copy()
            changed[index][0] = (self.seed + number) % 2**32  # each stream of its own, as Keras gives them
        return changed

    def _one_step(self, lane: Lane, step: int) -> tuple[Program, dict[Port, Any]]:
        """Run a step as it was recorded: with the same tensors tapped, and the kept draws."""
        program = self.run.program(step)
        watched = program.watched.ports  # as it was recorded: a tensor that is fetched may be computed in another way
        lane.enter_step(step)
        batch = [tf.constant(value) for value in self.run[step].inputs]
        given = self.given(step, program)
        compiled = self._compiled.setdefault((id(lane), id(program)), CompiledSteps(lane, program))
        values = compiled.run(batch, watched, given)
        if lane.simulation is not None:
            lane.simulation.check()
        return program, values

    def given(self, step: int, program: Program) -> dict[Port, tf.Tensor]:
        """The random numbers that the trace keeps; none of them where other ones are wanted."""
        draws = {} if self.seed is not None else self.run.draws(step, program)
        return {port: tf.constant(value) for port, value in draws.items()}

    # -- what came out -----------------------------------------------------------------------------

    def _compared(self, step: int, lane: str, runner: Lane, reproduced: bool | None) -> Replay:
        before = runner.state()
        program, values = self._one_step(runner, step)
        shown = Shown(program)
        replayed = shown.values(values, before, runner.state())
        given = {name for name, port in watched_tensors(program).items() if port in self.given(step, program)}
        outcomes = {name: self._outcome(step, lane, name, array, given) for name, array in replayed.items()}
        again: Mapping[Name, np.ndarray] = {}
        if ReplayOutcome.OTHER in outcomes.values():
            runner.load(before)
            _, values_again = self._one_step(runner, step)
            again = shown.values(values_again, before, runner.state())
        tensors = [
            self._tensor(step, lane, name, replayed[name], outcome, again.get(name))
            for name in _order(program)
            if (outcome := outcomes.get(name)) is not None
        ]
        reader = self.run.reader
        loss = (float(reader.losses[lane][reader.steps.index(step)]), program.figure(values))
        replay = Replay(
            step, lane, reader.environment(lane)["place"], str(runner.place), self.start_of(step), tuple(tensors), loss,
            reproduced, tuple(self.notes), program.mode,
        )  # fmt: skip
        return replay if replay.is_exact else replace(replay, notes=(*self.notes, *self._why(replay, program)))

    def _why(self, replay: Replay, program: Program) -> Iterator[str]:
        """What there is to say of a replay that came out with other bits."""
        if self.seed is not None:
            yield f"the random streams begin at --seed {self.seed}, not where they were recorded"
            return
        lost = sorted({f"{node.op} of {node.location.layer}" for node in lost_draws(program)})
        if lost:
            yield (
                f"{', '.join(lost)} draws inside a loop or branch from a state that TensorFlow shows to nobody: what "
                "depends on it does not reproduce"
            )
        first = self.run.first_step
        unseen = self.start is None and replay.step > first and replay.place == replay.recorded_place
        if unseen and not any(tensor.outcome is ReplayOutcome.UNSTABLE for tensor in replay.tensors):
            yield f"a place that keeps something from earlier steps has to go through them again: try --from {first}"

    def _outcome(
        self, step: int, lane: str, name: Name, array: np.ndarray, given: Collection[Name]
    ) -> ReplayOutcome | None:
        """None where the trace says nothing of a tensor."""
        recorded = self.run.reader.checksum(step, lane, *name)
        if recorded is None:
            return None
        if recorded == tensor_checksum(array):
            return ReplayOutcome.SAME
        return ReplayOutcome.GIVEN if name in given else ReplayOutcome.OTHER

    def _tensor(
        self, step: int, lane: str, name: Name, replayed: np.ndarray, outcome: ReplayOutcome, again: np.ndarray | None
    ) -> Tensor:
        statistics = own = None
        if outcome is ReplayOutcome.OTHER:
            recorded = self.run.tensor(step, lane, name)
            statistics = None if recorded is None else compare(recorded, replayed)
            if again is not None and not same_bits(replayed, again):
                outcome, own = ReplayOutcome.UNSTABLE, compare(replayed, again)
        return Tensor(*name, replayed.shape, replayed.dtype.name, outcome, statistics, own)


def lost_draws(program: Program) -> list[Node]:
    """Random ops inside loops and branches whose state no variable holds: nothing can make them draw the same again."""
    bodies = [node for body in program.functions.values() for node in body]
    return [node for node in bodies if is_random(node.op) and not node.op.startswith("Stateless")]


def _order(program: Program) -> list[Name]:
    """Names in the order in which a step computes them: draws and activations as the graph has them."""
    position = {node.name: index for index, node in enumerate(program.graph)}
    ports = watched_tensors(program) | {name: port for name, (port, _) in viewed(program).items()}
    names = [(series.kind, series.name) for series in series_of(program)]
    return sorted(names, key=lambda name: position[ports[name].node] if name in ports else len(position))
