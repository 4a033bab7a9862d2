"""What lockstep costs on models that people train, over their own `fit`: each figure in a process of its own.

The seconds leave out Python's and TensorFlow's start, on both sides.  A process that does not end in time, or fails,
gives rows that say so.
"""

from __future__ import annotations

import itertools
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.subjects import SUBJECTS
from benchmarks.timing import Row, cpu_seconds

NAME = "models"
CHECK_EVERY, STEPS, ROUNDS = 4, 9, 5  # of the run: three of its steps are checked
FAULT = "sim:tf32"
ROUNDING = "rewrite:benchmarks/rounding.py:thirds"
ZOOMED = "every checked step went under the microscope, too, which happens six times in a run at most"
TARGETS = {"checked": 3.0, "watched": 1.15, "look": 3.0, "peak": 2.5, "fault": 1.5, "least": 2.0}


@dataclass(frozen=True)
class Asked:
    """What is measured.

    candidate: a place of real hardware, or one that differs by rounding.  jobs: models at a time.
    """

    models: Sequence[str]
    candidate: str = ROUNDING
    jobs: int = 1
    seconds_each: float = 900.0


def measure(asked: Asked) -> Iterator[Row]:
    """The rows of each model, as soon as it is measured, and last how the first verdict grows with the ops."""
    verdicts: list[tuple[int, float]] = []
    with ThreadPoolExecutor(asked.jobs) as pool:
        for model, found in zip(asked.models, pool.map(partial(_figures, asked), asked.models), strict=True):
            yield from rows(model, found)
            run = found["run"]
            if "first_cpu" in run:
                verdicts.append((run["ops"], run["first_cpu"]))
    if len(verdicts) >= 2:
        yield _growth(verdicts)
    if "cnn" in asked.models:
        yield _default_run()


def _figures(asked: Asked, model: str) -> dict[str, dict[str, Any]]:
    """What each process told of a model, or `{"failed": why}`."""
    faulty = FAULT if asked.candidate == ROUNDING else asked.candidate
    place = "CPU:0" if asked.candidate == ROUNDING else asked.candidate
    roles = {
        "fit": ("fit", place), "run": ("run", asked.candidate), "again": ("fit", place), "fault": ("fault", faulty),
        "least": ("least", asked.candidate),
    }  # fmt: skip
    return {name: _ask(model, role, place, asked.seconds_each) for name, (role, place) in roles.items()}


def _ask(model: str, role: str, place: str, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.real_models", model, role, place]
    print(f"measuring {model}: {role} ...", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"failed": f"did not end within {seconds:.0f} s"}
    if done.returncode != 0:
        return {"failed": f"ended with code {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}"}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{model}: {role}: {json.dumps(told)}", file=sys.stderr, flush=True)  # also what is stopped later has told it
    return told


def rows(model: str, found: dict[str, dict[str, Any]]) -> Iterator[Row]:
    """The rows of one model."""
    fit, run, fault, least = (found[role] for role in ("fit", "run", "fault", "least"))
    other = found["again"]
    fit = {**fit, **{k: min(fit[k], other[k]) for k in ("first", "first_cpu") if k in fit and k in other}}
    told, fault_told = f"{run.get('ops', '?')} ops; {run.get('verdict', '')}", fault.get("verdict", "")
    yield _ratio(f"{model}: first verdict, over the model's own first fit step", (run, "first"), (fit, "first"),
                 SUBJECTS[model].first_verdict, told)  # fmt: skip
    for what, key, of in (
        ("a checked step, over two plain steps", "checked", "plain"),
        ("a watched step, over two plain steps", "watched", "plain"),
        ("microscope with truth, over two plain eager steps", "look", "eager"),
    ):
        is_zoomed = key == "checked" and len(run.get("zoomed", ())) > len(range(CHECK_EVERY, STEPS, CHECK_EVERY))
        yield _ratio(f"{model}: {what}", (run, key), (run, of), TARGETS[key], ZOOMED if is_zoomed else "")
    yield _ratio(f"{model}: peak memory, over plain training's", (run, "peak"), (fit, "peak"), TARGETS["peak"], "GiB")
    yield _ratio(f"{model}: a fault's first verdict, over that of a run without", (fault, "first"), (run, "first"),
                 TARGETS["fault"], fault_told)  # fmt: skip
    yield _ratio(f"{model}: first verdict, over the least that it needs", (run, "first"), (least, "first"),
                 TARGETS["least"])  # fmt: skip


def _ratio(
    what: str, a: tuple[dict[str, Any], str], b: tuple[dict[str, Any], str], target: float, more: str = ""
) -> Row:
    """A figure of one process over one of another."""
    (mine, key), (its, of) = a, b
    failed = mine.get("failed") or its.get("failed")
    if failed or key not in mine or of not in its:
        return Row(NAME, what, math.inf, math.inf, None, "x", target, failed or "not measured")
    ratio, by_cpu = mine[key] / its[of], None
    details = [f"{mine[key]:.3g} / {its[of]:.3g}", more]
    if f"{key}_cpu" in mine:
        by_cpu = mine[f"{key}_cpu"] / its[f"{of}_cpu"]
        details[0] = f"{mine[key]:.3g} s / {its[of]:.3g} s"
    return Row(NAME, what, ratio, ratio, by_cpu, "x", target, "; ".join(filter(None, details)))


def _default_run() -> Row:
    """What a person waits for who gives no flags: TensorFlow's start, 20 steps, the verdict and what cures it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "diag.lockstep", "--out", str(Path(folder) / "run")]
        start, cpu = time.perf_counter(), cpu_seconds()
        done = subprocess.run(command, capture_output=True, text=True)
        seconds, by_cpu = time.perf_counter() - start, cpu_seconds() - cpu
    return Row(NAME, "python -m diag.lockstep, to its end", seconds, seconds, by_cpu, "s", 45.0,
               f"exit code {done.returncode}")  # fmt: skip


def _growth(verdicts: Sequence[tuple[int, float]]) -> Row:
    """The exponent of processor time in the number of ops, by least squares on their logarithms."""
    import numpy as np

    ops, seconds = np.log(np.asarray(verdicts, np.float64)).T
    exponent = float(np.polyfit(ops, seconds, 1)[0])
    return Row(NAME, "growth of the first verdict with the ops: the exponent", exponent, exponent, exponent, "x", 1.0,
               f"{len(verdicts)} models, {min(verdicts)[0]} to {max(verdicts)[0]} ops")  # fmt: skip


# ---------------------------------------------------------------------------------------------
# In the process of one figure


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    start, cpu = time.perf_counter(), cpu_seconds()
    call()
    return time.perf_counter() - start, cpu_seconds() - cpu


def _named(name: str, seconds: tuple[float, float]) -> dict[str, float]:
    return {name: seconds[0], f"{name}_cpu": seconds[1]}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB, on Linux


def _trained(model: str) -> Any:
    from diag.engine.training.setup import Named, set_up

    subject = SUBJECTS[model]
    spec = f"benchmarks/models.py:{subject.model}" if subject.model else None
    return set_up(Named(spec), subject.batch_size, steps=STEPS, seed=0)


def fit(model: str, place: str) -> dict[str, Any]:
    """Two steps of the model's own `fit`, its variables at the place: the first traces and compiles."""
    import keras
    import tensorflow as tf

    trained = _trained(model)
    batch = trained.batches[0]
    with tf.device(place):
        there = keras.models.clone_model(trained.model)
        there.compile(optimizer=keras.optimizers.Adam(1e-3), loss=trained.model.loss)
        step = partial(there.fit, batch.inputs, batch.targets, batch_size=10**6, verbose=0)
        first = _timed(step)
        step()
    return {**_named("first", first), "peak": _peak()}


def run(model: str, candidate: str, steps: int = STEPS) -> dict[str, Any]:
    """`diag.lockstep` itself: until its first step is judged, then each step; and what the steps cost by themselves."""
    from diag import lockstep
    from diag.engine.runs.run import LockstepRun

    marks: list[tuple[float, float]] = []
    told: dict[str, Any] = {}
    original = LockstepRun.steps

    def clocked(self: LockstepRun) -> Iterator[Any]:
        for step in original(self):
            marks.append((time.perf_counter(), cpu_seconds()))
            told.setdefault("peak", _peak())
            yield step
            del step  # which the run itself lets go of, too
        told.update(ops=len(self.program.graph.by_name), peak=_peak(), zoomed=list(self.findings.zoomed))
        if steps > 1:
            told.update(_plain(self))

    began = time.perf_counter(), cpu_seconds()
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(LockstepRun, "steps", clocked):
        flags = [
            "--candidate",
            candidate,
            "--steps",
            str(steps),
            "--check-every",
            str(CHECK_EVERY),
            "--quiet",
            "--dump",
            "none",
        ]
        if candidate.startswith("GPU"):  # its own fault, where it has that
            flags += ["--tf32", "off" if steps > 1 else "on"]
        out = Path(folder) / "run"
        with redirect_stdout(sys.stderr):
            code = lockstep.main([*SUBJECTS[model].flags, *flags, "--out", str(out)])
        told["verdict"] = f"exit code {code}, {_sentence(json.loads((out / 'report.json').read_text()))}"
    ends = [began, *marks]
    each = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(ends)]
    checked = range(CHECK_EVERY, steps, CHECK_EVERY)
    told |= _named("first", each[0])
    if checked:
        told |= _named("checked", min(each[n] for n in [n for n in checked if n not in told["zoomed"]] or checked))
        told |= _named("watched", min(x for number, x in enumerate(each) if number and number not in checked))
    return told


def _sentence(report: dict[str, Any]) -> str:
    first = report.get("first_divergence")
    if first is None:
        return "no divergence"
    return f"{first['op_type'] or 'unit'} of {first['layer'] or 'no layer'}, {first['cause']}"


def _plain(self: Any) -> dict[str, Any]:
    """Two plain steps, compiled and eager, and a step under the microscope, with the lanes of a run."""
    import tensorflow as tf

    from diag.engine.lanes.lane import CompiledSteps, Lane
    from diag.engine.lockstep.microscope import Microscope
    from diag.engine.step.tracing import flat_batch
    from diag.machine.places import Place

    batch = [tf.constant(value) for value in flat_batch(self.batches[0])]
    steps = [CompiledSteps(lane, self.program) for lane in self.lanes]

    def plain() -> None:
        for each in steps:
            each.run(batch, ())

    plain()
    found = _named("plain", min(_timed(plain) for _ in range(ROUNDS)))
    state = self.reference.state()
    eager = [Lane.at(lane.name, Place(lane.place.device, "eager"), self.program, 0) for lane in self.lanes]
    one_by_one = [lane.build(self.program.step((self.program.loss,))) for lane in eager]

    def each_op() -> None:
        for step in one_by_one:
            step(*batch)

    each_op()
    found |= _named("eager", min(_timed(each_op) for _ in range(2)))
    eager[0].load(state)
    eager[1].load([_moved(value) for value in state])
    return found | _named("look", _timed(lambda: Microscope(self.program, tuple(eager), 0, True).run(batch)))


def _moved(value: Any) -> Any:
    from benchmarks.workload import moved

    return moved(value)


def fault(model: str, place: str) -> dict[str, Any]:
    """As `run`, of one step with a fault in it."""
    return run(model, place, steps=1)


def least(model: str, candidate: str) -> dict[str, Any]:
    """What no way round is known of: trace, both places' steps compiled and run, truth once, one pass of statistics."""
    import tensorflow as tf

    from diag.engine.graphs.tf_runtime import to_numpy
    from diag.engine.lanes.lane import CompiledSteps, Lane
    from diag.engine.lanes.step_results import UnitInputs
    from diag.engine.lockstep.steps import batch_values
    from diag.engine.step.tracing import flat_batch, trace
    from diag.engine.step.units import whole_step
    from diag.engine.truth.unit_truth import UnitTruth
    from diag.machine.places import parse_place
    from diag.numerics.statistics import against_truth, compare

    trained = _trained(model)

    def all_of_it() -> None:
        program = trace(trained.model, trained.batches[0])
        batch = [tf.constant(value) for value in flat_batch(trained.batches[0])]
        unit, results, fed = whole_step(program, program.watched.ports), [], {}
        for name, place in (("reference", "CPU:0"), ("candidate", candidate)):
            lane = Lane.at(name, parse_place(place), program, 0)
            before, ports = lane.state(), (*unit.outputs, *program.random_ports)
            found = CompiledSteps(lane, program).run(batch, ports)
            fed = {**found, **batch_values(program, batch)}
            results.append([*(found[port] for port in unit.outputs), *(lane.state()[index] for index in unit.writes)])
        inputs = UnitInputs([fed[port] for port in unit.boundary], before, results[-1])
        truth = UnitTruth(unit, program.variables).outputs(inputs)
        for a, b, exact in zip(*results, truth, strict=True):
            compare(to_numpy(a), to_numpy(b))
            if exact.dtype.kind == "f" and exact.dtype.itemsize == 8:
                against_truth(to_numpy(b), exact)

    return _named("first", _timed(all_of_it))


def main() -> None:
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    model, role, place = sys.argv[1:]
    roles: dict[str, Callable[[str, str], dict[str, Any]]] = {"fit": fit, "run": run, "fault": fault, "least": least}
    print(json.dumps(roles[role](model, place)))


if __name__ == "__main__":
    main()
