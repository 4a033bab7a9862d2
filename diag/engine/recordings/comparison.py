"""Two recordings of one training, made on two machines or by two versions, held against each other.

Nothing of the candidate runs here.  What it recorded is judged all the same: the output of each layer
against float64 truth on the inputs that the candidate itself recorded for that layer, and what only the
whole step leads to (gradients, the state after) against the float64 truth of the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf

from diag.common.modes import STEP
from diag.engine.graphs.graph import Port
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import Lane, Recorded
from diag.engine.lanes.step_results import LaneStep, StepRun, UnitRun
from diag.engine.localization.explainers import UnitExplainer, upstream_of
from diag.engine.lockstep.steps import batch_values, reference_step
from diag.engine.lockstep.unit_runs import UnitRunner, units_of, whole_step_run
from diag.engine.recordings.recorded_run import summary
from diag.engine.recordings.recorded_side import RecordedSide
from diag.engine.runs.findings import Findings
from diag.engine.step.named_tensors import DRAWS, Name, variable_names, watched_tensors
from diag.engine.step.program import Program
from diag.engine.step.serialization import with_state
from diag.engine.step.units import Cut, whole_step
from diag.engine.truth.unit_judge import UnitJudge
from diag.errors import UserError
from diag.machine.places import Place
from diag.numerics.figures import PairStatistics
from diag.numerics.statistics import compare
from diag.report.made_at import with_lines
from diag.verdict.findings import Cause, Divergence, Observation, Verdict
from diag.verdict.ladder import amplifiers_in, overall
from diag.verdict.result import Judged, LaneInfo, RunResult, as_notes
from traces.checksums import tensor_checksum

CPU = Place("CPU:0")


@dataclass
class _Findings(Findings):
    """first_other: a tensor of which only the checksums are known to differ, as (step, kind, name)."""

    first_other: tuple[int, str, str] | None = None
    num_paired: int = 0
    unjudged_steps: list[int] = field(default_factory=list)
    other_random_outputs: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Parts:
    """What one traced step is compared with: its units, the lane here that runs them, and their judge."""

    program: Program
    cut: Cut
    lane: Lane
    runner: UnitRunner
    judge: UnitJudge


class RunComparison:
    """Compares `candidate` with `reference`, step by step, tensors paired by their exact names.

    Raises:
      UserError: the recordings are not of one training: other batches, no step or name in common.
    """

    def __init__(self, reference: RecordedSide, candidate: RecordedSide) -> None:
        self.reference, self.candidate = reference, candidate
        self.findings = _Findings()
        self.steps = self._common_steps()
        first, second = reference.specs, candidate.specs
        self.names = [name for name, spec in first.items() if second.get(name) == spec]
        if not self.names:
            raise UserError(f"{reference.run.path} and {candidate.run.path} have no tensor of the same name and shape")
        self._parts_of: dict[int, _Parts] = {}
        self._check_batches()
        self._check_beginning()
        self._note_unpaired(first, second)

    # -- is it one training? -----------------------------------------------------------------------

    def _common_steps(self) -> list[int]:
        a, b = self.reference.run.reader.steps, self.candidate.run.reader.steps
        steps = sorted(set(a) & set(b))
        if not steps:
            raise UserError(f"no step is in both traces: the first holds {summary(a)}, the second {summary(b)}")
        if set(a) != set(b):
            self.findings.notes.append(f"compared are the steps that both hold: {summary(steps)}")
        return steps

    def _note_unpaired(self, first: Mapping[Name, Any], second: Mapping[Name, Any]) -> None:
        """Names are paired exactly or not at all; what has no partner is said."""
        for here, there, which in ((first, second, "first"), (second, first, "second")):
            alone = [f"{kind} {name}" for kind, name in here if (kind, name) not in there]
            if alone:
                self.findings.notes.append(f"only in the {which} trace, not compared: {_listed(alone)}")
        other = [f"{n[0]} {n[1]} {first[n]} and {second[n]}" for n in first if n in second and first[n] != second[n]]
        if other:
            self.findings.notes.append(f"of another shape or dtype, not compared: {_listed(other)}")

    def _check_batches(self) -> None:
        for step in self.steps:
            a, b = (side.run.reader.batch_checksums(step) for side in (self.reference, self.candidate))
            if a and b and a != b:
                raise UserError(
                    f"the traces were given other batches in step {step}; expected two runs on the same data and seed"
                )

    def _check_beginning(self) -> None:
        """Refuse another model or other weights; told from the state before the first step, where both hold it."""
        step = self.steps[0]
        (a, first), (b, second) = ((side, side.variables(step)) for side in (self.reference, self.candidate))
        if alone := [name for name in (*first, *second) if (name in first) != (name in second)]:
            raise UserError(
                f"{a.run.path} and {b.run.path} are not of one model: only one of them has the variables "
                f"{_listed(alone)}; expected two runs of the same model"
            )
        other = [n for n in first if first[n] is not None and second[n] is not None and first[n] != second[n]]
        if other:
            raise UserError(
                f"{a.run.path} and {b.run.path} begin step {step} with other values in {_listed(other)}; expected two "
                "runs of the same model from the same --seed"
            )

    # -- step by step ------------------------------------------------------------------------------

    def run(self) -> RunResult:
        """Compare every common step; the truth of a step is computed where both began it in one state."""
        for step in self.steps:
            propagated = self._propagated(step)
            self._note_bits(step)
            if not propagated:
                continue
            state = self._common_state(step)
            if state is None:
                self.findings.unjudged_steps.append(step)
                continue
            self._judge(step, state, propagated)
        return self._result()

    @property
    def num_compared(self) -> int:
        """How many pairs of tensors were held against each other, bit by bit."""
        return self.findings.num_paired

    def _propagated(self, step: int) -> dict[Name, PairStatistics]:
        result: dict[Name, PairStatistics] = {}
        for name in self.names:
            a, b = self.reference.checksum(step, name), self.candidate.checksum(step, name)
            if a is not None and a == b:
                continue
            x, y = self.reference.tensor(step, name), self.candidate.tensor(step, name)
            if x is not None and y is not None and x.shape == y.shape:
                result[name] = compare(x, y)
        return result

    def _note_bits(self, step: int) -> None:
        for name in self.names:
            a, b = self.reference.checksum(step, name), self.candidate.checksum(step, name)
            if a is None or b is None or name[0] == DRAWS:
                continue
            self.findings.num_paired += 1
            if a != b:
                self.findings.first_other = self.findings.first_other or (step, *name)
                self.findings.any_bit_differs = True

    def _common_state(self, step: int) -> list[np.ndarray] | None:
        """The state before a step, where both traces hold it and it is the same."""
        state, other = self.reference.state(step), self.candidate.state(step)
        if state is None or other is None:
            return None
        names = [spec.name for spec in self.reference.run.program(step).variables]
        others = [spec.name for spec in self.candidate.run.program(step).variables]
        if names != others:
            return None
        return state if all(np.array_equal(a, b, equal_nan=True) for a, b in zip(state, other, strict=True)) else None

    # -- judging -----------------------------------------------------------------------------------

    def _judge(self, step: int, state: Sequence[np.ndarray], propagated: Mapping[Name, PairStatistics]) -> None:
        program = with_state(self.reference.run.program(step), state)
        parts = self._parts(program)
        run = self._step_run(step, parts, state)
        keyed = {_live_key(name): statistics for name, statistics in propagated.items()}
        first = not self.findings.layers
        unit_runs = self._layer_runs(run, parts)
        observations = [o for unit_run in unit_runs for o in parts.judge.judge(unit_run, first, keyed)]
        judged_outputs = {f"output of {o.where.layer}" for o in observations if o.where.name == "output"}
        if self._random_outputs_agree(run, program):
            whole = parts.judge.judge(self._whole_run(run, program), first, keyed)
            observations += [o for o in whole if o.where.name not in judged_outputs]
        else:
            self.findings.other_random_outputs.append(step)
        observations.sort(key=lambda o: o.where.sort_key)
        if not observations and not self.findings.divergences:
            self.findings.path = []  # an earlier step's is not this one's
        self.findings.see_units(observations)
        self._explain([o for o in observations if o.verdict is Verdict.DIVERGENCE], unit_runs, parts.judge)

    def _parts(self, program: Program) -> _Parts:
        key = id(program.graph)
        if key not in self._parts_of:
            lane = Lane.at("reference", CPU, program, self.reference.run.seed)
            self._parts_of[key] = _Parts(program, units_of(program), lane, UnitRunner(lane), UnitJudge(program))
        return self._parts_of[key]

    def _step_run(self, step: int, parts: _Parts, state: Sequence[np.ndarray]) -> StepRun:
        """The step computed here, and what each side recorded of it."""
        program, stand_in = parts.program, parts.lane
        stand_in.load(state)
        stand_in.load_scratch(state)
        batch = [tf.constant(value) for value in self.reference.run[step].inputs]
        random = {port: tf.constant(value) for port, value in self.reference.run.draws(step, program).items()}
        reference = reference_step(stand_in, program, parts.cut.boundary_ports, batch, random)
        recorded = Recorded(self._values(self.reference, step, program), self._after(self.reference, step, program))
        values = self._values(self.candidate, step, program) | dict(self.candidate.run.draws(step, program))
        constants = {port: tf.constant(value) for port, value in values.items()}
        candidate = LaneStep(reference.before, constants, self._after(self.candidate, step, program))
        return StepRun(step, batch, reference, candidate, True, recorded)

    def _values(self, side: RecordedSide, step: int, program: Program) -> dict[Port, Any]:
        """What a side had at the program's ports, where it was kept."""
        paired = {name for name in self.names if name[0] != DRAWS}
        found = {port: side.tensor(step, name) for name, port in watched_tensors(program).items() if name in paired}
        return {port: value for port, value in found.items() if value is not None}

    def _after(self, side: RecordedSide, step: int, program: Program) -> list[Any]:
        """A side's variables after a step, None where they were not kept."""
        names = variable_names(program)
        whole = side.state(step + 1) if side.run.follow in ("free", side.lane) else None
        return [whole[i] if whole is not None else side.tensor(step, name) for i, name in enumerate(names)]

    def _layer_runs(self, run: StepRun, parts: _Parts) -> list[UnitRun]:
        """Every layer on the inputs that the candidate recorded for it, as far as those are known."""
        program, values = parts.program, run.candidate.values
        known = {*values, *batch_values(program, run.batch), *self._same_random_outputs(run, program)}
        unit_runs = []
        for unit in parts.cut.units:
            feeds = dict(zip(unit.executable.feeds, unit.boundary, strict=True))
            outputs = {i: port for i, port in enumerate(unit.outputs) if port in values}
            judged = [i for i in outputs if all(feeds[name] in known for name in upstream_of(unit, i) if name in feeds)]
            if not judged or unit.variable is not None:
                continue
            boundary = [values.get(port, run.reference.values[port]) for port in unit.boundary]
            here = parts.runner.outputs_of(unit, boundary)
            candidate = [values.get(port, x) for port, x in zip(unit.outputs, here, strict=True)]
            written = [run.reference.after[index] for index in unit.writes]
            lanes = [*candidate, *written], [*here, *written]
            unit_runs.append(UnitRun(unit, run, boundary, *lanes, frozenset(judged)))
        return unit_runs

    def _same_random_outputs(self, run: StepRun, program: Program) -> list[Port]:
        """Random outputs that are known to be the same in both, by those kept or else by their checksums."""
        watched, names = watched_tensors(program), set(self.names)
        random = {name: port for name, port in watched.items() if name[0] == DRAWS and name in names}

        def checksum(name: Name, port: Port) -> int | None:
            if port in run.candidate.values:
                return tensor_checksum(to_numpy(run.candidate.values[port]))
            return self.candidate.checksum(run.step, name)

        here = {port: tensor_checksum(to_numpy(run.reference.values[port])) for port in random.values()}
        return [port for name, port in random.items() if checksum(name, port) == here[port]]

    def _random_outputs_agree(self, run: StepRun, program: Program) -> bool:
        """Without that, nothing can be said of what only the whole step leads to."""
        return set(program.random_ports) <= set(self._same_random_outputs(run, program))

    @staticmethod
    def _whole_run(run: StepRun, program: Program) -> UnitRun:
        """The step as one unit, judged where the candidate's values were kept."""
        unit = whole_step(program, program.watched.ports)
        values, after = run.candidate.values, run.candidate.after
        judged = {i for i, port in enumerate(unit.outputs) if port in values}
        judged |= {len(unit.outputs) + i for i, index in enumerate(unit.writes) if after[index] is not None}
        filled = LaneStep(
            run.candidate.before,
            {**run.reference.values, **values},
            [tf.constant(x) if x is not None else y for x, y in zip(after, run.reference.after, strict=True)],
        )
        return replace(whole_step_run(unit, replace(run, candidate=filled)), run=run, judged=frozenset(judged))

    def _explain(self, flagged: Sequence[Observation], unit_runs: Sequence[UnitRun], judge: UnitJudge) -> None:
        """A divergence for each layer that is wrong on its own inputs; of the rest of a step only the first."""
        layers = [o for o in flagged if o.where.unit == "layer"]
        for observation in layers or flagged[:1]:
            if any(known.where.location == observation.where.location for known in self.findings.divergences):
                continue
            cause = Cause()
            for unit_run in unit_runs:
                if unit_run.unit.layer == observation.where.layer and observation.bound is not None:
                    explainer = UnitExplainer(judge.truth_of(unit_run.unit))
                    cause = explainer.explain(unit_run, observation.where.output, observation.bound)
            divergence = Divergence.of(observation.where, cause, self._blame(cause.name), observation.excess)
            divergence = divergence.with_evidence(output_name=observation.where.name, recorded=True)
            self.findings.add(self._with_own_report(divergence))

    def _blame(self, cause: str) -> str:
        """A recording cannot be taken apart op by op: an op left out is the rewriter's work, the rest a kernel's."""
        execution = str(self.candidate.environment().get("execution", "graph"))
        if cause == "missing-op" and execution != "eager":
            return "xla" if execution == "xla" else "graph-rewriter"
        return "kernel"

    def _with_own_report(self, divergence: Divergence) -> Divergence:
        """What the candidate's own run, which could look at its ops, found at the same place."""
        if self.candidate.lane != "candidate":
            return divergence
        own = (self.candidate.run.reader.report() or {}).get("divergences", [])
        where = divergence.where
        same = [d for d in own if (d["layer"], d["variable"], d["phase"]) == (where.layer, where.variable, where.phase)]
        if not same:
            return divergence
        reported = same[0]
        changed = replace(divergence, blame=reported["blame"], cured_by=tuple(reported["cured_by"]))
        changed = replace(changed, cause=reported["cause"]) if divergence.cause == "unknown" else changed
        return changed.with_evidence(own_run={key: reported[key] for key in ("op_type", "op_index", "cause", "blame")})

    # -- the result --------------------------------------------------------------------------------

    def _result(self) -> RunResult:
        findings = self.findings
        self._refuse_nothing()
        if findings.unjudged_steps:
            findings.notes.append(
                f"steps {summary(findings.unjudged_steps)} differ and are not judged: the traces hold no common state "
                "before them (--snapshot-every 1 keeps all; --follow reference keeps lanes together)"
            )
        if findings.other_random_outputs:
            findings.notes.append(
                f"steps {summary(findings.other_random_outputs)}: the two drew other random numbers, so that only "
                "layers are judged, each on its own inputs, and not what the whole step leads to"
            )
        sides = {"reference": self.reference, "candidate": self.candidate}
        result = RunResult(
            verdict=overall(findings.divergences, findings.any_bit_differs),
            first_divergence=next(iter(findings.divergences), None),
            divergences=tuple(findings.divergences),
            first_bit_difference=findings.first_bit,
            first_nonfinite=findings.first_nonfinite,
            amplifiers=tuple(amplifiers_in(findings.path)),
            steps=len(self.steps),
            lanes=tuple(
                LaneInfo(name, side.label, "sim:" in side.environment()["place"], side.environment())
                for name, side in sides.items()
            ),
            losses={name: self._losses(side) for name, side in sides.items()},
            path=tuple(findings.path),
            microscope=(),
            worst=tuple(findings.layers),
            judged=Judged(findings.num_layer_outputs),
            notes=as_notes(findings.notes),
            mode=self.reference.run.mode,
            model=f"the {STEP[self.reference.run.mode]} recorded in {self.reference.run.path.name}",
            data=f"the batches recorded in {self.reference.run.path.name}",
        )
        return with_lines(result, self.reference.run.reader.described_ops())

    def _refuse_nothing(self) -> None:
        """To find bits that differ and to judge none of them is no answer."""
        findings = self.findings
        if findings.first_other is None or findings.num_layer_outputs:
            if not findings.num_paired:
                raise UserError(f"{self.reference.run.path} and {self.candidate.run.path} hold nothing to compare")
            return
        step, kind, name = findings.first_other
        why = (
            "the traces hold no common state before these steps; record both with --snapshot-every 1 --follow reference"
            if findings.unjudged_steps
            else "the tensors were not kept; record both with --dump all"
        )
        raise UserError(f"bits differ from step {step} on ({kind} of {name}), and none of it can be judged: {why}")

    def _losses(self, side: RecordedSide) -> list[float]:
        reader = side.run.reader
        by_step = dict(zip(reader.steps, reader.losses[side.lane], strict=True))
        return [float(by_step[step]) for step in self.steps]


def _live_key(name: Name) -> tuple[str, str]:
    """The key that a live run has for what is kept under a name."""
    return ({"weights": "weight"}.get(name[0], name[0]), name[1])


def _listed(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
