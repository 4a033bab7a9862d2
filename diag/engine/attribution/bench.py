"""One recorded step, ready to be run at a place under any switches of this process, and judged against truth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.attribution.dtypes import DTYPE, with_dtypes
from diag.engine.attribution.edits import Edit, EditedLane, edit_of
from diag.engine.attribution.recorded_op import RecordedOp
from diag.engine.graphs.graph import Port
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import Lane
from diag.engine.lockstep.telescope import StepRun, Telescope
from diag.engine.recordings.recorded_run import RecordedRun
from diag.engine.recordings.replaying import Replayer
from diag.engine.step.fusion_groups import forward_fusion_groups
from diag.engine.step.program import Program
from diag.engine.step.units import STEP, Unit
from diag.engine.truth.agreement import Agreement
from diag.engine.truth.truth import Arrays, UnitTruth
from diag.errors import UserError
from diag.machine import grappler
from diag.machine.places import Place
from diag.machine.switches import SWITCHES
from diag.numerics.bounds import RoundingSpread
from diag.verdict.attribution import Trial
from diag.verdict.findings import Observation, Where

CPU = Place("CPU:0")
TIMED = 3  # the shortest of so many steps


@dataclass(frozen=True)
class FlaggedUnit:
    """What was flagged: an op, a layer unit (`variable` where it is an update), or the whole step."""

    unit: str
    layer: str | None = None
    variable: str | None = None
    op_index: int | None = None

    @classmethod
    def of(cls, where: Where) -> FlaggedUnit:
        return cls(where.unit, where.layer, where.variable, where.op_index)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class _RememberedTruth:
    """Truth of a unit given the reference's own values is the same in every trial: it is computed once."""

    def __init__(self, truth: UnitTruth, known: frozenset[int]) -> None:
        self._truth, self._known = truth, known
        self.given = truth.given
        self._outputs: Arrays | None = None
        self._spreads: list[RoundingSpread] | None = None

    def outputs(self, boundary: Sequence[Any], state: Sequence[Any], lane_outputs: Sequence[Any]) -> Arrays:
        if any(id(lane_outputs[index]) not in self._known for index in self.given):
            return self._truth.outputs(boundary, state, lane_outputs)
        if self._outputs is None:
            self._outputs = self._truth.outputs(boundary, state, lane_outputs)
        return self._outputs

    def spreads(
        self, boundary: Sequence[Any], state: Sequence[Any], lane_outputs: Sequence[Any], truth: Arrays
    ) -> list[RoundingSpread]:
        if self._spreads is None:
            self._spreads = self._truth.spreads(boundary, state, lane_outputs, truth)
        return self._spreads


class _Telescope(Telescope):
    """What truth said of an output in one trial is remembered in the next."""

    truths: dict[str, _RememberedTruth]
    known: frozenset[int]

    def truth_of(self, unit: Unit) -> Any:
        if unit.name not in self.truths:
            self.truths[unit.name] = _RememberedTruth(super().truth_of(unit), self.known)
        return self.truths[unit.name]


class Bench:
    """The step in the reference lane on the CPU, once; the candidate, once a trial."""

    def __init__(
        self, recorded: RecordedRun, step: int, lane: str, place: Place, program: Program | None = None
    ) -> None:
        state = recorded.state(step, lane)
        if state is None:
            raise UserError(
                f"--step {step}: {recorded.path} holds no state of the {lane} before it; it holds those before "
                f"{', '.join(map(str, recorded.reader.snapshots))}"
            )
        self.recorded, self.step, self.lane, self.state = recorded, step, lane, state
        self.place = replace(place, policy=recorded.place("candidate").policy)
        self.program: Program = program or recorded.program(step)
        self.batch = [tf.constant(value) for value in recorded[step].inputs]
        self.draws = Replayer(recorded).given(step, self.program)
        self.truths: dict[str, _RememberedTruth] = {}
        self._agreement = Agreement()
        self._op: RecordedOp | None = None
        self.tf32 = bool(recorded.reader.environment("candidate").get("tf32", True))
        self._reference = Lane("reference", CPU, None, state)
        self._reference_run = self._run_reference()

    def _run_reference(self) -> StepRun:
        telescope = Telescope(self.program, self._reference, self._reference)
        before = self._reference.state()
        watched = (*telescope.watched_ports, *telescope.cut.boundary_ports)
        values = telescope.steps["reference"].run(self.batch, watched, self.draws)
        inputs = {Port(name, 0): x for name, x in zip(self.program.batch_inputs, self.batch, strict=True)}
        values = {**values, **self.draws, **inputs}
        after = self._reference.state()
        return StepRun(self.step, self.batch, before, before, values, values, after, after, True)

    # -- one trial -----------------------------------------------------------------------------

    def trial(self, names: Sequence[str], location: FlaggedUnit) -> Trial:
        """The step under these switches and edits.

        Raises:
          UserError, tf.errors.OpError: the step cannot be run so.
        """
        changed = with_dtypes(self.program, names)
        if changed is not self.program:  # with a reference, truth and bounds of its own
            others = [name for name in names if not name.startswith(f"{DTYPE}:")]
            bench = Bench(self.recorded, self.step, self.lane, self.place, changed)
            return replace(bench.trial(others, replace(location, op_index=None)), switches=tuple(names))
        place = self._set(names)
        edits = [edit_of(name, self.program) for name in names if name not in SWITCHES]
        telescope = self._telescope(place, edits)
        telescope.only = self._units_of(location, telescope)
        run = self._run_candidate(telescope)
        units = [o for each in telescope.run_units(run) for o in telescope.judge_unit(each, False, {})]
        whole = telescope.judge_unit(telescope.whole_step_run(run), False, {})
        op = None if edits or place.execution == "xla" else self._op_at(location, place)
        seconds = self._seconds(telescope)
        if telescope.candidate.simulation is not None:
            telescope.candidate.simulation.check()
        return Trial(tuple(names), op, _largest(units), _largest(whole), seconds)

    def first_location(self) -> FlaggedUnit | None:
        """The first unit out of its bound with no switch touched, None where there is none."""
        telescope = self._telescope(self._set(()), [])
        run = self._run_candidate(telescope)
        for unit_runs in (telescope.run_units(run), [telescope.whole_step_run(run)]):
            found = [o for each in unit_runs for o in telescope.judge_unit(each, False, {})]
            wrong = [o for o in found if o.bound is not None and not o.bound.is_explained]
            if wrong:
                return FlaggedUnit.of(min(wrong, key=lambda o: o.where.sort_key).where)
        return None

    def _set(self, names: Sequence[str]) -> Place:
        """Set this process's switches, all of them; returns the place to run at."""
        switches = [SWITCHES[name] for name in names if name in SWITCHES]
        grappler.set_options({key: value for switch in switches for key, value in switch.grappler.items()})
        wanted = next((switch.tf32 for switch in switches if switch.tf32 is not None), self.tf32)
        tf.config.experimental.enable_tensor_float_32_execution(wanted)
        if any(switch.deterministic for switch in switches):
            tf.random.set_seed(self.recorded.seed)  # asked for by op determinism
            tf.config.experimental.enable_op_determinism()
        execution = next((switch.execution for switch in switches if switch.execution), self.place.execution)
        return replace(self.place, execution=execution)

    def _telescope(self, place: Place, edits: Sequence[Edit]) -> _Telescope:
        candidate = EditedLane.at("candidate", place, self._with_state(), self.recorded.seed)
        assert isinstance(candidate, EditedLane)
        candidate.edits = tuple(edits)
        telescope = _Telescope(self.program, self._reference, candidate)
        telescope.truths = self.truths
        telescope.agreement = self._agreement
        run = self._reference_run
        telescope.known = frozenset(map(id, (*run.reference.values(), *run.after_reference)))
        return telescope

    def _with_state(self) -> Program:
        from diag.engine.step.serialization import with_state

        return with_state(self.program, self.state)

    def _run_candidate(self, telescope: Telescope) -> StepRun:
        """The whole step at the candidate; where it draws other random numbers, once more with the reference's."""
        candidate, run = telescope.candidate, self._reference_run
        candidate.enter_step(self.step)
        values = telescope.steps["candidate"].run(self.batch, telescope.watched_ports, self.draws)
        drawn = [port for port in self.program.random_ports if port not in self.draws]
        if any(not _same(values[port], run.reference[port]) for port in drawn):
            candidate.load(self.state)
            shared = {port: run.reference[port] for port in self.program.random_ports}
            values = telescope.steps["candidate"].run(self.batch, telescope.watched_ports, shared)
        return replace(run, candidate={**values, **self.draws}, after_candidate=candidate.state())

    def _units_of(self, location: FlaggedUnit, telescope: Telescope) -> list[Unit]:
        """The layer unit that was flagged, or the one that holds the flagged op; none for the whole step."""
        units = [*telescope.cut.units, *forward_fusion_groups(telescope.program)]
        if location.op_index is not None:
            return [unit for unit in units if location.op_index in unit.op_indices]
        if location.unit == STEP:
            return []
        wanted = (location.layer, location.variable)
        return [unit for unit in units if (unit.layer, unit.variable) == wanted or location.layer in unit.joined]

    def _op_at(self, location: FlaggedUnit, place: Place) -> float | None:
        """The flagged op by itself; what the CPU's own step gives it is found out once."""
        if location.op_index is None:
            return None
        if self._op is None:
            self._op = RecordedOp(self.recorded, self.step, location.op_index, self.lane)
        return _largest(self._op.at(place))

    def _seconds(self, telescope: Telescope) -> float:
        """One step of the candidate, tapped as it is watched; the shortest of a few."""
        candidate, taken = telescope.candidate, []
        for _ in range(TIMED):
            candidate.load(self.state)
            begun = time.perf_counter()
            for value in telescope.steps["candidate"].run(self.batch, telescope.watched_ports, self.draws).values():
                to_numpy(value)  # waits for the device
            taken.append(time.perf_counter() - begun)
        return min(taken)


def _largest(observations: Sequence[Observation]) -> float | None:
    """The largest excess; None where nothing could be judged."""
    found = [o.excess for o in observations if o.bound is not None]
    if not found:
        return None
    return float("nan") if np.isnan(found).any() else max(found)


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(to_numpy(a), to_numpy(b), equal_nan=False))
