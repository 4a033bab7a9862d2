"""A script through `diag.run`, and what its own fit had after the same batches.

    python tests/against_fit.py STEPS [flags of diag.run] -- SCRIPT [its arguments]

Prints one JSON object.  With --and-train both are of one execution of the script, so of the same batches though the
pipeline draws others each time; else the script is executed again by itself.  In a process of its own, since a script
sets seeds and policies for all that comes after it.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from diag import door, run
from diag.common.script import Ended, Script
from diag.engine.training import fit_calls
from traces.reader import TraceReader


class Recorder(keras.callbacks.Callback):
    """Keeps logs, weights and metrics of a fit after each of some batches, and ends it after one more."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.logs = steps, []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if len(self.logs) == self.steps:
            raise Ended
        self.logs.append({name: float(value) for name, value in logs.items()})
        self.weights = [v.numpy() for v in self.model.trainable_variables]
        self.metrics = {f"metrics/{m.name}/{v.name}": v.numpy() for m in self.model.metrics for v in m.variables}

    def added_to(self, call: fit_calls.FitCall) -> fit_calls.FitCall:
        callbacks = [*(call.arguments.get("callbacks") or []), self]
        return replace(call, arguments={**call.arguments, "callbacks": callbacks, "verbose": 0})


def in_lockstep_and_fit(script: Script, flags: list[str], folder: Path, recorder: Recorder) -> int:
    """The exit code of `diag.run`; `recorder` has what fit had."""
    more = ["--steps", str(recorder.steps + 1), "--snapshot-every", "1"]  # a snapshot is of the state before a step
    words = [*more, "--out", str(folder), "--quiet", *flags, *script.words]
    if "--and-train" in flags:
        train_on = door.train_on
        door.train_on = lambda call, keep, then: train_on(recorder.added_to(call), keep, then)
        return run.main(words)
    code = run.main(words)
    keras.utils.clear_session()
    keras.config.set_dtype_policy("float32")
    fit_calls.give_calls_to(lambda call: recorder.added_to(call).go())
    with contextlib.suppress(Ended):
        script.run()
    return code


def running_means(losses: Sequence[float], sizes: list[int]) -> list[float]:
    """What a Mean metric shows after each batch, in its own float32."""
    total, count, found = np.float32(0), np.float32(0), []
    for loss, size in zip(losses, sizes, strict=True):
        total, count = total + np.float32(loss) * np.float32(size), count + np.float32(size)
        found.append(float(total / count))
    return found


def main(words: list[str]) -> None:
    place = words.index("--")
    steps, flags, script = int(words[0]), words[1:place], Script(words[place + 1], tuple(words[place + 2 :]))
    folder, recorder = Path(tempfile.mkdtemp()) / "run", Recorder(steps)
    code = in_lockstep_and_fit(script, flags, folder, recorder)
    with TraceReader(folder / "trace.h5") as trace:
        losses, state = trace.losses["reference"][:steps], trace.snapshot(steps, "reference")
        sizes = [len(next(iter(trace.batch(step).values()))) for step in range(steps)]
        weights = [state[name] for name in trace.names("weights")]
        report = trace.report()
        others = {n: [float(trace.tensor(step, "reference", "activations", n)) for step in range(steps)]
                  for n in trace.names("activations") if n.split("/")[-1].startswith("loss")}  # fmt: skip
    each, logs = [float(loss) for loss in losses], recorder.logs
    shown = [means for found in (each, *others.values())
             for means in (found, running_means(found, sizes), running_means(found, [1] * steps))]  # fmt: skip
    print(json.dumps({
        "code": code,
        "verdict": report["verdict"],
        "places": [report["lanes"][lane]["place"] for lane in ("reference", "candidate")],
        "weights": [bool(np.array_equal(a, b)) for a, b in zip(weights, recorder.weights, strict=True)],
        "losses": each,
        "others": others,
        "logs": logs,
        "shown_in_logs": [name for name in logs[0] if [log[name] for log in logs] in shown],
        "metrics": {n: bool(np.array_equal(state[n], v)) for n, v in recorder.metrics.items() if n in state},
        "files": sorted(path.name for path in Path().iterdir()),
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
