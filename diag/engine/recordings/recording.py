"""The run's trace: what both lanes computed, step by step, into one HDF5 file."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from diag.common.carried import Carried
from diag.common.modes import TRAIN
from diag.engine.graphs.graph import Port
from diag.engine.graphs.locations import LOSS_LAYER, OPTIMIZER_LAYER
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.graphs.variables import arrays_of
from diag.engine.lanes.step_results import StepRun
from diag.engine.lockstep.telescope import Telescope
from diag.engine.recordings.columns import COLUMNS, OP_COLUMNS, columns_of, columns_of_ops
from diag.engine.recordings.dump_policy import ALL, AUTO, FLAGGED, DumpPolicy
from diag.engine.recordings.earlier_run import EarlierRun, batch_arrays
from diag.engine.recordings.forecast import Forecast, bytes_of, bytes_of_file, bytes_of_marks, bytes_of_table
from diag.engine.runs.attention import MAX_ZOOMS
from diag.engine.runs.finished_step import FinishedStep
from diag.engine.runs.settings import RunPlan
from diag.engine.step.description import described_ops
from diag.engine.step.named_tensors import DRAWS, STATE, WEIGHTS, Series, Shown, longest_series, series_of
from diag.engine.step.program import Program
from diag.engine.step.serialization import NotStorable, dump, not_allowed_in
from diag.engine.step.units import STEP
from diag.engine.training.setup import Trained
from diag.errors import UserError
from diag.verdict.findings import Observation
from traces.checksums import tensor_checksum
from traces.described import rows_of
from traces.schema import NODE_TABLES, RunDocuments, StepRecord, TensorSpec, TraceLayout, unit_columns
from traces.writer import TraceWriter

LANES = ("reference", "candidate")
AUTO_BYTES = 1 << 30  # what `--dump auto` keeps of all steps; beyond, only the first and the flagged
SNAPSHOT_BYTES = 1 << 28  # what states take where no --snapshot-every is given


@dataclass(frozen=True)
class RecordingOptions:
    """What is kept of a run and how; `snapshot_every` None for as often as `SNAPSHOT_BYTES` allow."""

    dump_policy: DumpPolicy = field(default_factory=DumpPolicy)
    snapshot_every: int | None = None
    portable: bool = False


class Recording(Carried):
    """Writes a trace as the run goes on; whole after every step.

    earlier: the run that was killed and goes on here; its trace is what this one begins with.
    """

    CARRIED = ("notes", "num_steps", "budget", "snapshot_every")

    def __init__(
        self,
        path: Path,
        plan: RunPlan,
        command: Sequence[str],
        trained: Trained,
        options: RecordingOptions,
        earlier: EarlierRun | None = None,
    ) -> None:
        self.plan, self.options, self.earlier = plan, options, earlier
        self.notes: list[str] = []
        self.num_steps = 0
        of_before = None if earlier is None else earlier.checkpoint
        self.planned = plan.settings.steps if of_before is None else of_before.planned
        program, settings = plan.program, plan.settings
        self.longest = (program, *trained.longest)
        self.series = longest_series(self.longest)
        others = [node.location.layer for node in program.ops if node.location.layer]  # several optimizers
        of_training = (LOSS_LAYER, OPTIMIZER_LAYER) if settings.mode == TRAIN else ()
        self.layers = tuple(
            dict.fromkeys((*program.layers, *of_training, STEP, *others, *program.layer_outputs))
        )  # a layer may be called so
        self.layer_of = {spec.name: spec.layer for spec in program.variables}
        in_full = [series for series in self.series if series.kind not in (WEIGHTS, STATE, DRAWS)]
        self._refuse_idle(options.dump_policy, in_full)
        self.kept = [s for s in in_full if options.dump_policy.wants(self._layer_of(s), s.name)]
        self.dump_policy, self.budget = self._affordable(options.dump_policy)
        self.snapshot_every = options.snapshot_every or self._affordable_snapshots()
        layout = self._layout()
        self._batch_layout = layout.batch
        self.forecast = self._forecast(layout)
        self.forecast.refuse_if_full(path)
        stored = _stored(program)
        if earlier is not None:
            earlier.refuse_others(plan, stored, trained.batches)
        self._lines = {} if earlier is None else dict(earlier.lines)  # before the new trace takes the old one's place
        self.writer = TraceWriter(
            path,
            layout,
            RunDocuments(
                environment=dict(plan.environments),
                command=list(command),
                seeds={"seed": settings.seed},
                settings=self._settings(stored),
                model_config=trained.config,
            ),
            portable=options.portable,
            earlier=None if earlier is None else earlier.rows,
        )
        self._shown: dict[int, Shown] = {}  # of each program that is kept
        self._stored = set() if earlier is None else set(earlier.programs)
        self._batches = {} if earlier is None else dict(earlier.batches)
        self._excess: dict[str, float] = defaultdict(lambda: -math.inf)
        self._keep_program(program, stored)

    # -- what will be kept -------------------------------------------------------------------------

    def _layer_of(self, series: Series) -> str | None:
        """The layer that an activation or a variable belongs to."""
        return self.layer_of[series.name] if series.name in self.layer_of else series.name.split(":")[0]

    def _refuse_idle(self, dump_policy: DumpPolicy, in_full: Sequence[Series]) -> None:
        """Globs and steps that name nothing would silently keep nothing."""
        for glob in dump_policy.layers:
            if not any(DumpPolicy(ALL, (glob,)).wants(self._layer_of(series), series.name) for series in in_full):
                layers = dict.fromkeys(self._layer_of(series) or series.name for series in in_full)
                raise UserError(f"--dump {glob}: no layer of the model is named so; its layers are {', '.join(layers)}")
        numbers = self.plan.settings.numbers
        for chosen in dump_policy.steps:
            if not any(step in chosen for step in numbers):
                raise UserError(
                    f"--dump-steps {chosen[0]}{f'-{chosen[-1]}' if len(chosen) > 1 else ''}: the run has the steps "
                    f"{numbers[0]} to {numbers[-1]}; name some of these"
                )

    def _affordable(self, wanted: DumpPolicy) -> tuple[DumpPolicy, int | None]:
        """What `auto` comes to: everything, or the first and the flagged steps up to a budget."""
        if wanted.dump != AUTO:
            return wanted, None
        steps, per_step = self.plan.settings.steps, self._bytes_per_step()
        if per_step * steps <= AUTO_BYTES:
            return DumpPolicy(ALL), None
        self.notes.append(
            f"the trace keeps the tensors of the first step and of flagged steps, up to {AUTO_BYTES >> 30} GiB: all "
            f"{steps} steps would be {per_step * steps / 2**30:.1f} GiB (--dump all keeps them)"
        )
        return DumpPolicy(FLAGGED), AUTO_BYTES

    def _bytes_per_step(self) -> int:
        """Of the tensors kept in full, both lanes, not compressed."""
        return len(LANES) * bytes_of(TensorSpec(s.name, s.shape, s.dtype) for s in self.kept)

    def _state_bytes(self) -> int:
        """One snapshot; the candidate's costs next to nothing where it is stored as no difference."""
        once = bytes_of(TensorSpec(v.name, v.shape, v.dtype) for v in self.plan.program.variables)
        return once * (2 if self.plan.settings.follow == "free" or self.options.portable else 1)

    def _affordable_snapshots(self) -> int:
        return max(1, math.ceil(self.plan.settings.steps * self._state_bytes() / SNAPSHOT_BYTES))

    def _forecast(self, layout: TraceLayout) -> Forecast:
        settings, a_step, a_state = self.plan.settings, self._bytes_per_step(), self._state_bytes()
        tensors = self.dump_policy.count(settings.first_step, settings.steps) * a_step
        is_flagged_kept = self.dump_policy.dump == FLAGGED and not self.dump_policy.steps
        return Forecast(
            tensors=tensors if self.budget is None else min(tensors, self.budget),
            states=-(-settings.steps // self.snapshot_every) * a_state,
            batches=settings.steps * bytes_of(layout.batch),
            rows=self._bytes_of_rows(layout),
            flagged=(a_state if self.snapshot_every > 1 else 0) + (a_step if is_flagged_kept else 0),
        )

    def _bytes_of_rows(self, layout: TraceLayout) -> int:
        settings, tables = self.plan.settings, layout.tables
        ops = sum(len(node.dtypes) or 1 for node in self.plan.program.ops)
        outputs = 0 if settings.units == STEP else self.plan.num_unit_outputs
        looks = settings.steps if settings.units == "op" else min(MAX_ZOOMS, settings.steps)
        num_checked = sum(step % settings.checks == 0 for step in settings.numbers)
        num_rows = {
            "ops": looks * ops,
            "units": num_checked * outputs + len(self.series),
            **dict.fromkeys(NODE_TABLES, ops),
        }
        num_rows |= dict.fromkeys(("steps", "snapshots", "batches"), settings.steps)
        each = [bytes_of_table(tables[n].columns, k) + bytes_of_marks(tables[n], k) for n, k in num_rows.items()]
        return sum(each) + bytes_of_file(tables.values())

    def _layout(self) -> TraceLayout:
        settings, program = self.plan.settings, self.plan.program
        return TraceLayout(
            lanes=LANES,
            steps=settings.steps,
            layers=self.layers,
            tensors=tuple(
                TensorSpec(s.name, s.shape, s.dtype, lane, s.kind, s.observed) for lane in LANES for s in self.series
            ),
            variables=tuple(TensorSpec(v.name, v.shape, v.dtype, lane) for v in program.variables for lane in LANES),
            batch=self._batch_specs(),
            op_columns=OP_COLUMNS,
            unit_columns=unit_columns(COLUMNS),
            describes_ops=True,
        )

    def _batch_specs(self) -> tuple[TensorSpec, ...]:
        """The arrays of a batch, as long along each axis as the longest that is known of."""
        shapes = [[shape for shape, _ in program.batch_signature] for program in self.longest]
        shapes.append([x.shape for x in self.plan.first_batch])
        longest = [tuple(map(max, *each)) for each in zip(*shapes, strict=True)]
        named = batch_arrays(self.plan.first_batch).items()
        return tuple(TensorSpec(name, shape, x.dtype.name) for (name, x), shape in zip(named, longest, strict=True))

    def _settings(self, stored: bytes | NotStorable) -> dict[str, Any]:
        """How the run was asked to look, for whoever runs a step of it again."""
        settings = asdict(self.plan.settings) | {lane: str(getattr(self.plan.settings, lane)) for lane in LANES}
        return settings if isinstance(stored, bytes) else {**settings, "no_program": str(stored)}

    @property
    def is_worth_a_word(self) -> bool:
        """Whether a person should know the size before the run."""
        return self.forecast.total > AUTO_BYTES or self.plan.settings.steps > 100

    # -- step by step ------------------------------------------------------------------------------

    def step(self, step: FinishedStep) -> StepRecord:
        """Keep a finished step of the run; gives what was handed to the trace."""
        run, program, flagged = step.run, step.telescope.program, bool(step.flagged)
        self._observations(step.ops)
        self._keep_program(program)
        if flagged or (run.step - self.plan.settings.first_step) % self.snapshot_every == 0:
            self._snapshot(run)
        tensors = self._tensors(run, program)
        self._observations(step.observations)
        record = StepRecord(
            step=run.step,
            batch=self._batch([to_numpy(value) for value in run.batch]),
            losses=dict(zip(LANES, step.losses, strict=True)),
            tensors=tensors,
            keep=self._keep(step, tensors.keys()),
            excess={layer: excess for layer, excess in self._excess.items() if layer in self.layers},
            checked=run.with_boundaries,
        )
        self.writer.append_step(record)
        self._excess.clear()
        self.num_steps += 1
        if self.earlier is not None:
            self.earlier.compare(record)
        return record

    def carried(self) -> dict[str, Any]:
        """What a recording that goes on in another process has to know besides the trace."""
        return {**super().carried(), "dump": self.dump_policy.dump}

    def take_up(self, carried: dict[str, Any]) -> None:
        super().take_up(carried)
        self.dump_policy = replace(self.dump_policy, dump=carried["dump"])

    def _tensors(self, run: StepRun, program: Program) -> dict[tuple[str, str, str], np.ndarray]:
        return {
            (lane, *name): array
            for lane, of in zip(LANES, (run.compared, run.candidate), strict=True)
            for name, array in self._shown[id(program)].values(of.values, of.before, of.after).items()
        }

    def _keep(self, step: FinishedStep, handed_over: Collection[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
        """What of a step is stored in full; random outputs wherever a replay could not draw them again."""
        number = step.run.step
        is_first = number == self.plan.settings.first_step
        wanted = self.dump_policy.wants_step(number, bool(step.flagged), is_first)
        if wanted and self.budget is not None:
            size = self._bytes_per_step()
            wanted, self.budget = self.budget >= size, max(0, self.budget - size)
        names = {(s.kind, s.name) for s in self.kept} if wanted else set()
        ports = step.telescope.program.random_ports
        names |= {(DRAWS, port.node) for port in ports if self._is_lost(step.telescope, port)}
        return {key for key in handed_over if key[1:] in names}

    @staticmethod
    def _is_lost(telescope: Telescope, port: Port) -> bool:
        """Whether no state of the trace determines what this random op draws."""
        is_stateless = telescope.program.graph.by_name[port.node].op.startswith("Stateless")
        return port in telescope.steps.shared or not is_stateless

    def _batch(self, arrays: Sequence[np.ndarray]) -> int:
        """The index a batch is stored under; equal batches are stored once."""
        for spec, array in zip(self._batch_layout, arrays, strict=True):
            if any(length > most for length, most in zip(array.shape, spec.shape, strict=True)):
                raise UserError(
                    f"step {self.num_steps} has a batch of shape {array.shape}, longer than the first ones, for "
                    f"which the trace was made: expected at most {spec.shape}; pad batches to a length known before"
                )
        key = tuple(tensor_checksum(array) for array in arrays)
        if key not in self._batches:
            self._batches[key] = len(self._batches)
            self.writer.write_batch(self._batches[key], batch_arrays(arrays))
        return self._batches[key]

    def _keep_program(self, program: Program, stored: bytes | NotStorable | None = None) -> None:
        if id(program) in self._shown:
            return
        known = {(series.kind, series.name): series for series in self.series}
        left_out = [
            (series.kind, series.name)
            for series in series_of(program)
            if (series.kind, series.name) not in known or not series.fits(known[series.kind, series.name])
        ]
        if left_out:
            self.notes.append(
                f"the trace keeps no {' '.join(left_out[0])} of batches of another length: it was not foreseen"
            )
        self._shown[id(program)] = Shown(program, left_out)
        stored = _stored(program) if stored is None else stored
        if isinstance(stored, bytes) and stored not in self._stored:
            self._stored.add(stored)
            self.writer.describe_ops(rows_of(described_ops(program), len(self._stored) - 1, self._lines))
            self.writer.write_program(stored)
            if more := not_allowed_in(program):
                self.notes.append(
                    "the trace will be replayed elsewhere only with --trust, for its step may do more than compute: "
                    f"{more}"
                )
        elif not isinstance(stored, bytes):
            self.notes.append(f"the trace cannot be replayed: its step cannot be kept, for {stored}")

    def _snapshot(self, run: StepRun) -> None:
        """Both lanes as they were before the step."""
        names = [variable.name for variable in self.plan.program.variables]
        states = {
            lane: dict(zip(names, arrays_of(state), strict=True))
            for lane, state in zip(LANES, (run.reference.before, run.candidate.before), strict=True)
        }
        self.writer.write_snapshot(run.step, states)

    # -- statistics --------------------------------------------------------------------------------

    def _observations(self, observations: Sequence[Observation]) -> None:
        """Rows of the op and unit tables, always kept."""
        for observation in observations:
            layer = observation.where.layer or observation.where.unit
            self._excess[layer] = max(self._excess[layer], observation.excess)
        ops = [o for o in observations if o.where.unit == "op"]
        units = [o for o in observations if o.where.unit != "op"]
        if ops:
            self.writer.append_ops(columns_of(ops) | columns_of_ops(ops))
        if units:
            names = [f"{o.where.unit}:{o.where.name}" for o in units]
            self.writer.append_units(columns_of(units) | {"unit": names})

    def keep(self, report: dict[str, Any]) -> None:
        """Put what is known so far on file, for whoever reads the trace meanwhile."""
        self.writer.write_report(report)
        self.writer.flush()

    def finish(self, report: dict[str, Any]) -> None:
        self.writer.write_report(report)
        self.close()

    def close(self) -> None:
        self.writer.close()


def _stored(program: Program) -> bytes | NotStorable:
    """The training step as bytes, or why there are none."""
    try:
        return dump(program)
    except NotStorable as reason:
        return reason
