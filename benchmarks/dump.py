"""A full dump of four steps, both lanes and all layers, against TensorFlow Debugger V2's FULL_TENSOR of one lane.

Both are timed after a first step that traces and compiles, until all is on disk, each in a process of
its own: the debugger changes every function that is traced while it is on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.timing import Row

NAME = "dump"
STEPS = 4
TARGET_TIME, TARGET_BYTES = 1 / 3, 1 / 2
DEBUGGER = "TF Debugger V2 FULL_TENSOR, one lane"
# How far the candidate's weights are from the reference's: one ULP, and what TF32 makes of a product.
DISTANCES = {"a few ULP apart": 2.0**-23, "as far apart as TF32": 2.0**-11}


def measure(image_size: int, batch_size: int) -> Iterator[Row]:
    """Rows of time and bytes.  TensorFlow's debugger needs no tensorboard to write, only to show."""
    theirs = _child("debugger", image_size, batch_size)
    for portable in (False, True):
        for words, distance in DISTANCES.items():
            ours = _child("trace", image_size, batch_size, str(portable), str(distance))
            what = f"{'portable dump' if portable else 'dump'}, lanes {words}"
            targets = (None, None) if portable else (TARGET_TIME, TARGET_BYTES)
            yield _row(f"{what}: time / {DEBUGGER}", ours, theirs, "seconds", targets[0])
            yield _row(f"{what}: bytes / {DEBUGGER}", ours, theirs, "bytes", targets[1])


def _row(what: str, ours: dict[str, float], theirs: dict[str, float], key: str, target: float | None) -> Row:
    ratio = ours[key] / theirs[key]
    mine, other = (f"{x[key]:.3g} s" if key == "seconds" else f"{x[key] / 2**20:,.0f} MiB" for x in (ours, theirs))
    return Row(NAME, what, ratio, ratio, None, "x", target, f"{mine} / {other}, {STEPS} steps, once")


def _child(*arguments: Any) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.dump", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _debugger(image_size: int, batch_size: int, folder: Path) -> dict[str, float]:
    """Keras's own compiled training step with every tensor dumped."""
    import tensorflow as tf

    writer = tf.debugging.experimental.enable_dump_debug_info(
        str(folder), tensor_debug_mode="FULL_TENSOR", circular_buffer_size=-1
    )
    from benchmarks.workload import motivating_workload

    workload = motivating_workload(image_size, batch_size)
    model, batch = workload.model, workload.batch

    def step() -> None:
        model.train_on_batch(*batch)
        writer.FlushNonExecutionFiles()
        writer.FlushExecutionFiles()

    step()
    before, start = _size(folder), time.perf_counter()
    for _ in range(STEPS):
        step()
    return {"seconds": time.perf_counter() - start, "bytes": _size(folder) - before}


def _trace(image_size: int, batch_size: int, folder: Path, portable: bool, distance: float) -> dict[str, float]:
    """Two lanes watched and recorded in full; the candidate begins every step a little off the reference."""
    import numpy as np
    import tensorflow as tf

    from benchmarks.workload import motivating_training
    from diag.engine.recordings.dump_policy import parse_dump_policy
    from diag.engine.recordings.recording import Recording, RecordingOptions
    from diag.engine.runs.finished_step import FinishedStep
    from diag.engine.runs.run import LockstepRun, Settings
    from diag.engine.step.tracing import flat_batch
    from diag.machine.places import Place

    trained = motivating_training(image_size, batch_size)
    settings = Settings(Place("CPU:0"), Place("CPU:0"), STEPS, seed=0)
    run = LockstepRun(trained.programs, trained.batches, settings)
    telescope = run.telescope_for(trained.batches[0], 0)
    rng = np.random.default_rng(0)
    start = run.reference.state()
    batch = [tf.constant(value) for value in flat_batch(trained.batches[0])]
    off = [
        x * tf.constant(1 + distance * rng.choice([-1.0, 1.0], x.shape), x.dtype) if x.dtype.is_floating else x
        for x in start
    ]

    def step(number: int) -> Any:
        run.reference.load(start)
        run.candidate.load(off)
        return telescope.steps.run(number, batch, with_boundaries=False)

    step(0)
    before = time.perf_counter()
    options = RecordingOptions(parse_dump_policy("all", None), portable=portable)
    recording = Recording(folder / "trace.h5", run.plan, [], trained, options)
    for number in range(STEPS):
        recording.step(FinishedStep(step(number), telescope))
    recording.close()
    return {"seconds": time.perf_counter() - before, "bytes": _size(folder)}


def main(arguments: list[str]) -> None:
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    device, image_size, batch_size, *rest = arguments
    with tempfile.TemporaryDirectory() as folder:
        if device == "debugger":
            found = _debugger(int(image_size), int(batch_size), Path(folder))
        else:
            portable, distance = rest
            found = _trace(int(image_size), int(batch_size), Path(folder), portable == "True", float(distance))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
