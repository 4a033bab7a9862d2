"""One recorded step, ready to be run at a place under any switches of this process, and judged against truth."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.attribution.dtypes import DTYPE, with_dtypes
from diag.engine.attribution.edits import edit_of
from diag.engine.attribution.recorded_op import RecordedOp
from diag.engine.graphs.graph import Port
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import Edit, Lane
from diag.engine.lanes.step_results import LaneStep, StepRun
from diag.engine.lockstep.steps import reference_step
from diag.engine.lockstep.telescope import Telescope
from diag.engine.lockstep.unit_runs import units_of
from diag.engine.recordings.recorded_run import RecordedRun
from diag.engine.recordings.replaying import Replayer
from diag.engine.step.program import Program
from diag.engine.step.serialization import with_state
from diag.engine.step.units import STEP, Unit
from diag.engine.truth.unit_judge import UnitJudge
from diag.errors import UserError
from diag.machine import settings
from diag.machine.places import Place
from diag.machine.switches import SWITCHES
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


class TrialRunner:
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
        self.random = Replayer(recorded).given(step, self.program)
        self.tf32 = bool(recorded.reader.environment("candidate").get("tf32", True))
        self._op: RecordedOp | None = None
        self._judge = UnitJudge(self.program, remembers_reference=True)
        self._reference = Lane("reference", CPU, None, state)
        boundaries = units_of(self.program).boundary_ports
        on_cpu = reference_step(self._reference, self.program, boundaries, self.batch, self.random)
        self._run = StepRun(step, self.batch, on_cpu, on_cpu, with_boundaries=True)

    # -- one trial -----------------------------------------------------------------------------

    def trial(self, names: Sequence[str], location: FlaggedUnit) -> Trial:
        """The step under these switches and edits.

        Raises:
          UserError, tf.errors.OpError: the step cannot be run so.
        """
        changed = with_dtypes(self.program, names)
        if changed is not self.program:  # with a reference, truth and bounds of its own
            others = [name for name in names if not name.startswith(f"{DTYPE}:")]
            runner = TrialRunner(self.recorded, self.step, self.lane, self.place, changed)
            return replace(runner.trial(others, replace(location, op_index=None)), switches=tuple(names))
        with self._switched(names) as place:
            return self._trial_at(place, names, location)

    def _trial_at(self, place: Place, names: Sequence[str], location: FlaggedUnit) -> Trial:
        edits = [edit_of(name, self.program) for name in names if name not in SWITCHES]
        telescope = self._telescope(place, edits)
        run = self._run_candidate(telescope)
        unit_runs = telescope.run_units(run, self._units_of(location, telescope))
        units = [o for each in unit_runs for o in self._judge.judge(each, False, {})]
        whole = self._judge.judge(telescope.whole_step_run(run), False, {})
        op = None if edits or place.execution == "xla" else self._op_at(location, place)
        seconds = self._seconds(telescope)
        if telescope.candidate.simulation is not None:
            telescope.candidate.simulation.check()
        return Trial(tuple(names), op, _largest(units), _largest(whole), seconds)

    def first_location(self) -> FlaggedUnit | None:
        """The first unit out of its bound with no switch touched, None where there is none."""
        with self._switched(()) as place:
            telescope = self._telescope(place, [])
            run = self._run_candidate(telescope)
            for unit_runs in (telescope.run_units(run), [telescope.whole_step_run(run)]):
                observations = [o for each in unit_runs for o in self._judge.judge(each, False, {})]
                wrong = [o for o in observations if o.bound is not None and not o.bound.is_explained]
                if wrong:
                    return FlaggedUnit.of(min(wrong, key=lambda o: o.where.sort_key).where)
        return None

    @contextmanager
    def _switched(self, names: Sequence[str]) -> Iterator[Place]:
        """This process under these switches and no others; gives the place to run at."""
        switches = [SWITCHES[name] for name in names if name in SWITCHES]
        grappler = {key: value for switch in switches for key, value in switch.grappler.items()}
        tf32 = next((switch.tf32 for switch in switches if switch.tf32 is not None), self.tf32)
        deterministic = any(switch.deterministic for switch in switches)
        if deterministic:
            tf.random.set_seed(self.recorded.seed)  # asked for by op determinism
        execution = next((switch.execution for switch in switches if switch.execution), self.place.execution)
        with settings.grappler_options(grappler), settings.tf32(tf32), settings.op_determinism(deterministic):
            yield replace(self.place, execution=execution)

    def _telescope(self, place: Place, edits: Sequence[Edit]) -> Telescope:
        program = with_state(self.program, self.state)
        candidate = Lane.at("candidate", place, program, self.recorded.seed, edits)
        return Telescope(self.program, self._reference, candidate, self._judge)

    def _run_candidate(self, telescope: Telescope) -> StepRun:
        """The whole step at the candidate; where it draws other random numbers, once more with the reference's."""
        candidate, reference = telescope.candidate, self._run.reference
        candidate.enter_step(self.step)
        values = self._step(telescope, self.random)
        drawn = [port for port in self.program.random_ports if port not in self.random]
        if any(not _same(values[port], reference.values[port]) for port in drawn):
            candidate.load(self.state)
            values = self._step(telescope, {port: reference.values[port] for port in self.program.random_ports})
        step = LaneStep(reference.before, {**values, **self.random}, candidate.state())
        return replace(self._run, candidate=step)

    def _step(self, telescope: Telescope, random: Mapping[Port, Any]) -> dict[Port, Any]:
        return telescope.steps.compiled["candidate"].run(self.batch, telescope.steps.watched_ports, random)

    def _units_of(self, location: FlaggedUnit, telescope: Telescope) -> list[Unit]:
        """The layer unit that was flagged, or the one that holds the flagged op; none for the whole step."""
        units = telescope.units
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
        """One step of the candidate, as it is watched; the shortest of a few."""
        candidate, taken = telescope.candidate, []
        for _ in range(TIMED):
            candidate.load(self.state)
            begun = time.perf_counter()
            for value in self._step(telescope, self.random).values():
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
