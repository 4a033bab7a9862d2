"""One recorded step, ready to be run at a place under any switches of this process, and judged against truth."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
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
from diag.engine.lanes.step_results import LaneStep, StepRun, UnitRun
from diag.engine.lockstep.steps import reference_step
from diag.engine.lockstep.telescope import Telescope
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
from diag.numerics.bits import same_bits
from diag.verdict.attribution import OP, UNIT, Trial
from diag.verdict.findings import Observation, Where

CPU = Place("CPU:0")
# A step is timed as the shortest of so many, or of fewer where that many take longer.
TIMED, LONGEST_TIMED = 3, 0.3  # seconds


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


@dataclass(frozen=True)
class _Attempt:
    """One trial to be made; has_op: whether the flagged op is looked at by itself."""

    names: tuple[str, ...]
    edits: Sequence[Edit]
    place: Place
    location: FlaggedUnit
    has_op: bool = False


class TrialRunner:
    """The step in the reference lane on the CPU, once; the candidate, once a trial.

    is_brief: nothing more is looked at in a trial once it is known to be no cure, the whole step of the baseline is not
    judged where the flagged unit shows by itself what is wrong, and slow steps of other trials are not timed.
    """

    def __init__(
        self,
        recorded: RecordedRun,
        step: int,
        lane: str,
        place: Place,
        program: Program | None = None,
        is_brief: bool = False,
    ) -> None:
        state = recorded.state(step, lane)
        if state is None:
            raise UserError(
                f"--step {step}: {recorded.path} holds no state of the {lane} before it; it holds those before "
                f"{', '.join(map(str, recorded.reader.snapshots))}"
            )
        self.recorded, self.step, self.lane, self.state = recorded, step, lane, state
        self.is_brief = is_brief
        self.place = replace(place, policy=recorded.place("candidate").policy)
        self.program: Program = program or recorded.program(step)
        self.batch = [tf.constant(value) for value in recorded[step].inputs]
        self.random = Replayer(recorded).given(step, self.program)
        self.tf32 = bool(recorded.reader.environment("candidate").get("tf32", True))
        self._op: RecordedOp | None = None
        self._judge = UnitJudge(self.program, remembers_reference=True)
        self._judged: dict[tuple[str, bytes], list[Observation]] = {}  # by a unit's name and the bits that it left
        self._reference = Lane("reference", CPU, None, state)
        self._on_cpu = Telescope(self.program, self._reference, self._reference, self._judge)
        boundaries = self._on_cpu.cut.boundary_ports
        on_cpu = reference_step(self._reference, self.program, boundaries, self.batch, self.random)
        self._run = StepRun(step, self.batch, on_cpu, on_cpu, with_boundaries=True)

    # -- one trial -----------------------------------------------------------------------------

    def trial(self, names: Sequence[str], location: FlaggedUnit, baseline: Trial | None = None) -> Trial:
        """The step under these switches and edits.

        baseline: the trial with none, where this is not that one.

        Raises:
          UserError, tf.errors.OpError: the step cannot be run so.
        """
        changed = with_dtypes(self.program, names)
        if changed is not self.program:  # with a reference, truth and bounds of its own
            others = [name for name in names if not name.startswith(f"{DTYPE}:")]
            runner = TrialRunner(self.recorded, self.step, self.lane, self.place, changed, self.is_brief)
            return replace(runner.trial(others, replace(location, op_index=None), baseline), switches=tuple(names))
        edits = [edit_of(name, self.program) for name in names if name not in SWITCHES]
        with self._switched(names) as place:
            has_op = location.op_index is not None and not edits and place.execution != "xla"
            attempt = _Attempt(tuple(names), edits, place, location, has_op)
            wrong = baseline.wrong if baseline is not None and self.is_brief else frozenset()
            return self._no_cure(attempt, wrong) or self._whole_trial(attempt, baseline)

    def _no_cure(self, attempt: _Attempt, wrong: Collection[str]) -> Trial | None:
        """A trial that ends with the first thing that is wrong as it was before; None where none is by itself."""
        op = unit = None
        if OP in wrong and attempt.has_op:
            op = self._op_at(attempt)
        elif UNIT in wrong:
            telescope = self._telescope(attempt)
            telescope.candidate.enter_step(self.step)
            unit = self._unit_of(attempt, telescope, self._run)
        found = Trial(attempt.names, op, unit)
        return found if found.wrong else None

    def _whole_trial(self, attempt: _Attempt, baseline: Trial | None) -> Trial:
        telescope = self._telescope(attempt)
        run = self._run_candidate(telescope)
        unit = self._unit_of(attempt, telescope, run)
        op = self._op_at(attempt) if attempt.has_op else None
        found = Trial(attempt.names, op, unit)
        if not (self.is_brief and baseline is None and found.wrong):
            whole = telescope.whole_step_run(run)
            is_the_cpus = self.is_brief and self._is_what_the_cpu_does(attempt, telescope, whole)
            step = 0.0 if is_the_cpus else _largest(self._observed(whole))
            found = replace(found, step=step)
        is_slow = baseline is not None and (baseline.step_seconds or 0.0) > LONGEST_TIMED / TIMED
        if not (self.is_brief and is_slow):
            found = replace(found, step_seconds=self._seconds(telescope))
        _check(telescope)
        return found

    def _is_what_the_cpu_does(self, attempt: _Attempt, telescope: Telescope, whole: UnitRun) -> bool:
        """Whether the reference, under the same switches, leaves the trial's bits.

        Then a fault that was planted at the place does not act, and no truth is asked, as where lanes agree.  Of a real
        place, and of XLA, where none is planted, that would be to compare what may be wrong with itself.
        """
        if _are_same(whole.candidate, whole.reference):
            return True
        if not attempt.place.is_simulated or attempt.place.execution == "xla" or not attempt.names:
            return False
        lane = Lane("reference", replace(CPU, execution=attempt.place.execution), None, self.state)
        drawn = {port: self._run.reference.values[port] for port in self.program.random_ports}
        step = reference_step(lane, self.program, (), self.batch, drawn)
        return _are_same(whole.candidate, telescope.whole_step_run(replace(whole.run, candidate=step)).candidate)

    def _unit_of(self, attempt: _Attempt, telescope: Telescope, run: StepRun) -> float | None:
        unit_runs = telescope.run_units(run, self._units_of(attempt.location, telescope))
        _check(telescope)
        return _largest([o for each in unit_runs for o in self._observed(each)])

    def _observed(self, unit_run: UnitRun) -> list[Observation]:
        """What truth says of a unit, or of the whole step; switches that change nothing leave bits judged before."""
        if _are_same(unit_run.candidate, unit_run.reference):
            return self._judge.judge(unit_run, False, {})
        digest = hashlib.blake2b()
        for value in unit_run.candidate:
            digest.update(np.ascontiguousarray(to_numpy(value)).view(np.uint8).data)
        key = unit_run.unit.name, digest.digest()
        if key not in self._judged:
            self._judged[key] = self._judge.judge(unit_run, False, {})
        return self._judged[key]

    def first_location(self) -> FlaggedUnit | None:
        """The first unit out of its bound with no switch touched, None where there is none."""
        with self._switched(()) as place:
            telescope = self._telescope(_Attempt((), (), place, FlaggedUnit(STEP)))
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

    def _telescope(self, attempt: _Attempt) -> Telescope:
        program = with_state(self.program, self.state)
        candidate = Lane.at("candidate", attempt.place, program, self.recorded.seed, attempt.edits)
        return self._on_cpu.at(candidate)

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

    def _op_at(self, attempt: _Attempt) -> float | None:
        """The flagged op by itself; what the CPU's own step gives it is found out once."""
        assert attempt.location.op_index is not None
        if self._op is None:
            self._op = RecordedOp(self.recorded, self.step, attempt.location.op_index, self.lane)
        return _largest(self._op.at(attempt.place))

    def _seconds(self, telescope: Telescope) -> float:
        """One step of the candidate, as it is watched; the shortest of a few."""
        candidate = telescope.candidate
        taken: list[float] = []
        while len(taken) < TIMED and sum(taken) < LONGEST_TIMED:
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


def _check(telescope: Telescope) -> None:
    if telescope.candidate.simulation is not None:
        telescope.candidate.simulation.check()


def _are_same(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return all(_same(a, b) for a, b in zip(some, others, strict=True))


def _same(a: Any, b: Any) -> bool:
    return same_bits(to_numpy(a), to_numpy(b))
