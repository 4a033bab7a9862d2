"""A long run of a small CNN: its memory, a kill and `--resume`, and a fault that begins late: `--only long`.

The fault makes one filter's gradient larger by a 16th from a step on that is drawn anew each time, in the second half;
a second run of the same is killed at a step drawn in the first half, and goes on.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.timing import Row

NAME = "long"
STEPS = 10_000
EARLY = 1 / 20
"""Of the steps: by then all is built, and memory is held against what it was there."""
CHECKED = 200
"""Steps of the run that checks each: its other steps cost the same."""
FAULT = """
import numpy as np

def late(call):
    if call.step < {step} or (call.op_type, call.layer) != ("Conv2DBackpropFilter", "second"):
        return None
    return [call.outputs[0] * np.float32(1 + 1 / 16)]
"""


@dataclass(frozen=True)
class Child:
    """What a process said of itself: bytes held by step, seconds of its processors, and its exit code."""

    code: int
    resident: dict[int, int]
    cpu: float
    seconds: float


def measure(steps: int = STEPS) -> Iterator[Row]:
    if sys.platform != "linux":
        print(f"long runs are not measured on {sys.platform}: that needs /proc/self/statm", file=sys.stderr)
        return
    draw = random.SystemRandom().randrange
    fault, kill = draw(steps // 2, steps * 19 // 20), draw(steps // 10, steps // 2)
    with TemporaryDirectory() as folder:
        faults = Path(folder) / "faults.py"
        faults.write_text(FAULT.format(step=fault))
        flags = [
            "--model", "benchmarks/models.py:small_cnn", "--batch-size", "8", "--candidate", f"sim:{faults}:late",
            "--snapshot-every", str(steps // 20), "--quiet",
        ]  # fmt: skip
        whole, killed, checked = (Path(folder) / name for name in ("whole", "killed", "checked"))
        long = ["--steps", str(steps), "--check-every", "50"]
        run = _child([*flags, *long, "--out", str(whole)])
        yield _memory(run, steps)
        yield _late(run, _child([*flags, "--steps", str(CHECKED), "--check-every", "1", "--out", str(checked)]), fault,
                    whole)  # fmt: skip
        yield _replay(run, whole, fault, f"sim:{faults}:late")
        first = _child([*flags, *long, "--out", str(killed)], kill_after=kill)
        second = _child(["--resume", str(killed), *flags[:2], *flags[4:6], "--quiet"])
        yield _resume(run, (first, second), kill, _are_same(whole, killed))


def _memory(run: Child, steps: int) -> Row:
    early, last = (run.resident[step] for step in (int(steps * EARLY), steps))
    what = f"{steps} steps: memory at the last, over that at step {int(steps * EARLY)}"
    return Row(NAME, what, last / early, last / early, None, "x", 1.05, f"{last >> 20} / {early >> 20} MiB")


def _late(run: Child, checked: Child, fault: int, folder: Path) -> Row:
    """The run to its end, over a run with every step checked up to the fault."""
    first = json.loads((folder / "report.json").read_text())["first_divergence"]
    found = "not found" if first is None else f"{first['op_type']} of {first['layer']}, step {first['step']}"
    cpu, seconds = (checked.cpu / CHECKED * fault, checked.seconds / CHECKED * fault)
    what = "a late fault: the run that finds it, to its end, over each step checked up to it"
    detail = (
        f"begins at step {fault}; {found}; {run.cpu:.0f} / {cpu:.0f} s of processors, the latter from {CHECKED} steps"
    )
    return Row(NAME, what, run.seconds / seconds, run.seconds / seconds, run.cpu / cpu, "x", 1.0, detail)


def _replay(run: Child, folder: Path, fault: int, place: str) -> Row:
    """That step of the candidate again from the trace."""
    command = ["-m", "diag.replay", str(folder / "trace.h5"), "--step", str(fault), "--lane", "candidate"]
    command += ["--place", place, "--json"]
    replayed = _process(command)
    what = "the same: diag.replay of the step where it begins, over the run"
    ratio = replayed.seconds / run.seconds
    detail = f"{replayed.cpu:.1f} / {run.cpu:.0f} s of processors; exit code {replayed.code}"
    return Row(NAME, what, ratio, ratio, replayed.cpu / run.cpu, "x", None, detail)


def _resume(whole: Child, parts: Sequence[Child], kill: int, is_same: bool) -> Row:
    cpu, seconds = sum(part.cpu for part in parts), sum(part.seconds for part in parts)
    what = "killed once and resumed, over the run in one go"
    same = "traces and reports are the same bits" if is_same else "the traces DIFFER"
    detail = f"killed after {kill} steps; {cpu:.0f} / {whole.cpu:.0f} s of processors; {same}"
    return Row(NAME, what, seconds / whole.seconds, seconds / whole.seconds, cpu / whole.cpu, "x", 1.15, detail)


def _are_same(folder: Path, other: Path) -> bool:
    reports = [json.loads((each / "report.json").read_text()) for each in (folder, other)]
    for report in reports:
        del report["files"]
    command = ["-m", "traces", "diff", str(folder / "trace.h5"), "--other", str(other / "trace.h5"), "--json"]
    return reports[0] == reports[1] and _process(command).code == 0


def _child(words: Sequence[str], kill_after: int | None = None) -> Child:
    """`diag.lockstep` in a process of its own."""
    return _process(["-m", "benchmarks.long_runs", str(kill_after or 0), *words])


def _process(arguments: Sequence[str]) -> Child:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = [line for line in ended.stderr.splitlines() if line.startswith("{")]
    resident = {int(step): size for line in told for step, size in json.loads(line).items()}
    return Child(ended.returncode, resident, cpu, seconds)


def _watch(kill_after: int) -> None:
    """Have this process say what it holds every 500 steps or 20th of a run, or kill it after so many steps."""
    from diag.engine.recordings.recording import Recording

    write = Recording.step

    def step(self: Any, finished: Any) -> None:
        write(self, finished)
        if self.num_steps % max(1, self.plan.settings.steps // 20) == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            print(json.dumps({self.num_steps: pages * os.sysconf("SC_PAGE_SIZE")}), file=sys.stderr, flush=True)
        if self.num_steps == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    Recording.step = step  # type: ignore[method-assign]


def main() -> int:
    from diag import lockstep
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    _watch(int(sys.argv[1]))
    return lockstep.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
