"""The run's trace: what both lanes computed, step by step, into one HDF5 file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from diag.engine.environment import environment_of
from diag.engine.execution import to_numpy
from diag.engine.lanes import Lane
from diag.engine.run import LockstepRun, flat_batch
from diag.engine.setup import Trained
from diag.engine.telescope import StepRun, Telescope
from diag.numerics.bounds import Bound
from diag.numerics.figures import Statistics
from diag.report import json_report
from diag.verdict.findings import Observation
from diag.verdict.result import RunResult
from traces.schema import StepRecord, TensorSpec, TraceLayout, op_columns, unit_columns
from traces.writer import TraceWriter

LANES = ("reference", "candidate")
AUTO_BYTES = 1 << 30  # what `--dump auto` keeps of all steps; beyond, only the first and the flagged
FIGURES = tuple(
    f.name for f in fields(Statistics) if f.name not in ("dtype", "histogram", "worst_index", "worst_values", "classes")
)
SOURCES = ("propagated", "local", "reference_local")
COLUMNS = tuple(f"{source}_{figure}" for source in SOURCES for figure in FIGURES)


class Recording:
    """Writes a trace as the run goes on; whole after every step."""

    def __init__(self, run: LockstepRun, path: Path, command: Sequence[str], trained: Trained, dump: str) -> None:
        self.run = run
        self.steps = run.settings.steps
        self.notes: list[str] = []
        self.num_steps = 0
        program = run.program
        self.series = self._series()
        per_step = sum(int(np.prod(s.shape)) * np.dtype(_numpy(s.dtype)).itemsize for s in self.series)
        self.per_step, self.budget = per_step, AUTO_BYTES if dump == "auto" else None
        self.dump = self._dump(dump, per_step)
        batch = {f"batch_{i}": value for i, value in enumerate(flat_batch(run.batches[0]))}
        layout = TraceLayout(
            lanes=LANES,
            steps=self.steps,
            tensors=tuple(self.series),
            variables=tuple(TensorSpec(v.name, v.shape, v.dtype, lane) for v in program.variables for lane in LANES),
            batch=tuple(TensorSpec(name, value.shape, value.dtype.name) for name, value in batch.items()),
            op_columns=op_columns(COLUMNS),
            unit_columns=unit_columns(COLUMNS),
        )
        self.writer = TraceWriter(
            path, layout,
            environment={lane.name: environment(lane) for lane in (run.reference, run.candidate)},
            command=list(command), seeds={"seed": run.settings.seed}, model_config=model_config(trained.model),
        )  # fmt: skip
        self._snapshot(0, run.reference.state(), run.candidate.state())

    def _dump(self, wanted: str, per_step: int) -> str:
        if wanted != "auto":
            return wanted
        if per_step * self.steps <= AUTO_BYTES:
            return "all"
        self.notes.append(
            f"the trace keeps the tensors of the first step and of flagged steps, up to {AUTO_BYTES >> 30} GiB: all "
            f"{self.steps} steps would be {per_step * self.steps / 2**30:.1f} GiB (--dump all keeps them)"
        )
        return "flagged"

    def _series(self) -> list[TensorSpec]:
        program, found = self.run.program, []
        for lane in LANES:
            for layer, ports in program.layer_outputs.items():
                for index, port in enumerate(ports):
                    name = layer if index == 0 else f"{layer}:{index}"
                    found.append(_spec(name, program.graph, port, lane, "activations"))
            found += [_spec(name, program.graph, port, lane, "gradients") for name, port in program.gradients.items()]
            for variable in program.variables:
                if variable.kind == "weight":
                    found.append(TensorSpec(variable.name, variable.shape, variable.dtype, lane, "update"))
                elif variable.of is not None:
                    found.append(TensorSpec(variable.of, variable.shape, variable.dtype, lane, variable.kind))
        return found

    def step(self, run: StepRun, telescope: Telescope, flagged: bool) -> None:
        batch = flat_batch(self.run.batches[run.step])
        self.writer.write_batch(run.step, {f"batch_{i}": np.asarray(value) for i, value in enumerate(batch)})
        keep = self.dump == "all" or (self.dump == "flagged" and (flagged or run.step == 0))
        if keep and self.budget is not None:
            keep, self.budget = self.budget >= self.per_step, self.budget - self.per_step
        tensors = self._tensors(run, telescope) if keep else {}
        if flagged and run.step > 0:
            self._snapshot(run.step, run.before, run.before)
        loss = telescope.program.loss
        losses = {lane: float(values[loss]) for lane, values in zip(LANES, (run.reference, run.candidate), strict=True)}
        self.writer.append_step(StepRecord(run.step, run.step, losses, tensors))
        self.num_steps += 1

    def _tensors(self, run: StepRun, telescope: Telescope) -> dict[tuple[str, str, str], Any]:
        program, found = telescope.program, {}
        lanes = (
            (LANES[0], run.reference, run.after_reference),
            (LANES[1], run.candidate, run.after_candidate),
        )
        for lane, values, after in lanes:
            for layer, ports in program.layer_outputs.items():
                for index, port in enumerate(ports):
                    found[lane, "activations", layer if index == 0 else f"{layer}:{index}"] = to_numpy(values[port])
            for name, port in program.gradients.items():
                found[lane, "gradients", name] = to_numpy(values[port])
            for variable, old, new in zip(program.variables, run.before, after, strict=True):
                if variable.kind == "weight":
                    found[lane, "update", variable.name] = to_numpy(new) - to_numpy(old)
                elif variable.of is not None:
                    found[lane, variable.kind, variable.of] = to_numpy(new)
        known = {spec.key for spec in self.series}
        return {key: value for key, value in found.items() if key in known}

    def _snapshot(self, step: int, reference: Sequence[Any], candidate: Sequence[Any]) -> None:
        names = [variable.name for variable in self.run.program.variables]
        states = {
            lane: dict(zip(names, (to_numpy(value) for value in state), strict=True))
            for lane, state in zip(LANES, (reference, candidate), strict=True)
        }
        self.writer.write_snapshot(step, states)

    def observations(self, found: Sequence[Observation]) -> None:
        ops = [self._row(o) for o in found if o.where.unit == "op"]
        units = [self._row(o) for o in found if o.where.unit != "op"]
        if ops:
            self.writer.append_ops(ops)
        if units:
            self.writer.append_units(units)

    @staticmethod
    def _row(observation: Observation) -> dict[str, Any]:
        where, bound = observation.where, observation.bound
        row: dict[str, Any] = {
            "step": where.step, "phase": where.phase, "layer": where.layer, "variable": where.variable,
            "output": where.output, "dtype": observation.dtype, "shape": "x".join(map(str, observation.shape)),
            "bound": _allowed(bound), "excess": bound.excess if bound else None,
            "verdict": observation.verdict.value,
        }  # fmt: skip
        if where.unit == "op":
            row |= {"index": where.op_index, "op_type": where.op_type}
        else:
            row |= {"unit": f"{where.unit}:{where.name}"[:200]}
            row.pop("output")
        for source in SOURCES:
            statistics = getattr(observation, source)
            for figure in FIGURES:
                row[f"{source}_{figure}"] = None if statistics is None else float(getattr(statistics, figure))
        return row

    def finish(self, result: RunResult) -> None:
        self.writer.write_report(json_report.report(result))
        self.close()

    def close(self) -> None:
        self.writer.close()


def environment(lane: Lane) -> dict[str, Any]:
    return {"place": str(lane.place), **environment_of(lane.place)}


def model_config(model: Any) -> dict[str, Any]:
    """The model's own configuration, or why it has none."""
    try:
        return json.loads(model.to_json())  # type: ignore[no-any-return]
    except Exception as error:
        return {"class": type(model).__name__, "no_config": f"{type(error).__name__}: {error}"}


def _allowed(bound: Bound | None) -> float | None:
    """The largest error the bound allowed, in the units of its rule."""
    if bound is None or not 0 < bound.excess < np.inf:
        return None
    return bound.max / bound.excess


def _spec(name: str, graph: Any, port: Any, lane: str, kind: str) -> TensorSpec:
    return TensorSpec(name, tuple(graph.shape(port).as_list()), graph.dtype(port).name, lane, kind)


def _numpy(dtype: str) -> str:
    return {"bfloat16": "uint16"}.get(dtype, dtype)
