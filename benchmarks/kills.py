"""Kill real runs at random moments, and read what their traces hold: `python -m benchmarks.kills`.

Of each killed run's trace every whole step must read back, with every value as its checksum says; no
step may be missing that another process had seen before the kill; and the steps that runs have in common
must have the same checksums. Ends with 1 where one of these fails.

`--command study` kills small studies, each with all of its group, and starts them again until they end: their tables
must be that of a study that nobody killed, but for the seconds.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.__main__ import at_least
from diag.errors import UserError
from traces.checksums import tensor_checksum
from traces.encoding import Array
from traces.reader import TraceReader

STUDY = (
    "--model", "two-hidden", "--image-size", "16", "--samples", "200", "--epochs", "6", "--seeds", "1",
    "--policies", "float32,mixed_bfloat16", "--places", "CPU:0,sim:tf32", "--quiet",
)  # fmt: skip
LONGEST_START = 300.0
"""Seconds until the trace is there: TensorFlow's import and the tracing of the step, on a busy machine."""


@dataclass(frozen=True)
class Kill:
    """One killed run: `seen` steps were whole in another process's eyes before, `steps` are after it."""

    moment: float
    seen: int
    steps: int
    num_values: int
    checksums: dict[int, tuple[int | None, ...]] = field(repr=False)
    failures: list[str]

    @property
    def sentence(self) -> str:
        return (
            f"killed {self.moment:5.2f} s after the trace appeared: {self.seen} whole steps before, {self.steps} then; "
            f"{self.num_values} values read; {'; '.join(self.failures) or 'all as written'}"
        )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "python -m benchmarks.kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--command", choices=("lockstep", "study"), default="lockstep", help="(default: %(default)s)")
    made.add_argument("--kills", type=partial(at_least, 1), default=30, metavar="N", help="(default: %(default)s)")
    made.add_argument(
        "--at-once", type=partial(at_least, 1), default=2, metavar="N", help="runs at a time (default: %(default)s)"
    )
    made.add_argument("--model", default="tests/zoo.py:mlp", metavar="FILE.py:FUNCTION", help="(default: %(default)s)")
    made.add_argument("--steps", type=int, default=400, metavar="N", help="of a whole run (default: %(default)s)")
    made.add_argument(
        "--latest", type=float, default=60.0, metavar="SECONDS",
        help="a kill comes at most so long after the trace appears (default: %(default)s)",
    )  # fmt: skip
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (default: %(default)s)")
    return made


def kill_one(model: str, steps: int, moment: float) -> Kill:
    """Start a run, kill it so many seconds after its trace appears, and read the trace."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "diag.lockstep", "--model", model, "--steps", str(steps), "--out", str(out)]
        run = subprocess.Popen([*command, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(out / "trace.h5", run)
            time.sleep(moment)
            seen = num_whole_steps(out / "trace.h5")
        finally:
            run.send_signal(signal.SIGKILL)
            run.wait()
        return inspect(out / "trace.h5", moment, seen, was_killed=run.returncode == -signal.SIGKILL)


def wait_for(path: Path, run: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LONGEST_START
    while not path.exists():
        if run.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"The run wrote no trace {path} and ended with {run.poll()}; run its command by hand.")
        time.sleep(0.01)


def num_whole_steps(path: Path) -> int:
    with TraceReader(path) as trace:
        return len(trace.steps)


def inspect(path: Path, moment: float, seen: int, was_killed: bool) -> Kill:
    failures, num_values = [] if was_killed else ["the run had ended by itself"], 0
    with TraceReader(path) as trace:
        steps = trace.steps
        if steps != list(range(len(steps))) or len(steps) < seen:
            failures.append(f"{seen} steps were seen before, and then {steps}")
        checksums = {step: tuple(trace.checksum(step, *spec.key) for spec in trace.layout.tensors) for step in steps}
        for what, checksum, value in values(trace):
            num_values += 1
            if checksum != tensor_checksum(value):
                failures.append(f"{what} is not what was handed over")
        if not trace.programs or any(len(losses) < len(steps) for losses in trace.losses.values()):
            failures.append("it lacks the training step or losses")
        for table in (trace.op_table(), trace.unit_table()):
            if len({len(column) for column in table.values()}) != 1:
                failures.append("columns of a table differ in length")
    return Kill(moment, seen, len(steps), num_values, checksums, failures)


def values(trace: TraceReader) -> Iterator[tuple[str, int | None, Array]]:
    """Every value that the trace holds, by name and with its checksum."""
    for step in trace.steps:
        for key in trace.kept_in(step):
            yield f"{key} of step {step}", trace.checksum(step, *key), trace.tensor(step, *key)
        checksums = trace.batch_checksums(step)
        for name, value in trace.batch(step).items():
            yield f"{name} of the batch of step {step}", checksums[name], value
    for step in trace.snapshots:
        for lane in trace.layout.lanes:
            checksums = trace.snapshot_checksums(step, lane)
            for name, value in trace.snapshot(step, lane).items():
                yield f"{name} of {lane} before step {step}", checksums[name], value


def disagreements(kills: list[Kill]) -> list[str]:
    """Steps that two runs do not have alike: the runs are of one seed, on one machine."""
    longest = max(kills, key=lambda kill: kill.steps)
    return [
        f"step {step} differs between the runs killed after {longest.moment:.2f} s and {kill.moment:.2f} s"
        for kill in kills
        for step in kill.checksums
        if kill.checksums[step] != longest.checksums[step]
    ]


# -- studies ---------------------------------------------------------------------------------------


def kill_studies(num_kills: int, seed: int) -> int:
    """Kill one study after the other, each as often as it is still there at a moment that was drawn; the exit code."""
    moments, killed, different = random.Random(seed), 0, 0
    with TemporaryDirectory() as folder:
        begun = time.monotonic()
        outlives(Path(folder, "whole"), None)
        seconds = time.monotonic() - begun
        whole = table_of(Path(folder, "whole"))
        print(f"a study that nobody kills: {len(whole)} rows in {seconds:.0f} s", flush=True)
        while killed < num_kills:
            out, at = Path(folder, f"killed{killed}"), []
            while len(at) < num_kills - killed and outlives(out, moment := moments.uniform(0, seconds)):
                at.append(f"after {moment:.1f} s with {num_epochs(out)} epochs")
            outlives(out, None)
            is_alike = table_of(out) == whole
            different += not is_alike
            killed += len(at)
            told = ", ".join(at) or "never, it was faster"
            print(f"killed {told}: the table is {'the same' if is_alike else 'ANOTHER'}", flush=True)
    print(f"{killed} kills, {different} tables unlike that of the study that nobody killed")
    return 1 if different else 0


def outlives(out: Path, moment: float | None) -> bool:
    """Whether a study begun in a folder, or gone on with, is there after so many seconds; it is killed then.

    moment: None to let it come to its end.  Raises UserError where it ends otherwise than with its table.
    """
    command = [sys.executable, "-m", "diag.study", *STUDY, "--out", str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as study:
        try:
            _, said = study.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            os.killpg(study.pid, signal.SIGKILL)
            return True
    if study.returncode not in (0, 1):
        raise UserError(f"The study in {out} ended with {study.returncode}: {said.strip()}")
    return False


def table_of(out: Path) -> list[dict[str, str]]:
    """The rows of a study's table, without what a clock said."""
    with open(out / "results.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def num_epochs(out: Path) -> int:
    """Epochs that a study has kept, over all runs."""
    kept = [[int(path.stem[-4:]) for path in run.glob("epoch-*.npz")] for run in (out / "runs").glob("*")]
    return sum(max(epochs, default=0) for epochs in kept)


def main() -> int:
    options = parser().parse_args()
    if options.command == "study":
        return kill_studies(options.kills, options.seed)
    moments = [random.Random(options.seed + kill).uniform(0, options.latest) for kill in range(options.kills)]
    with ThreadPoolExecutor(options.at_once) as pool:
        kills = []
        for kill in pool.map(lambda moment: kill_one(options.model, options.steps, moment), moments):
            kills.append(kill)
            print(kill.sentence, flush=True)
    different = disagreements(kills)
    failed = sum(bool(kill.failures) for kill in kills)
    print(
        f"{len(kills)} runs killed, {failed} traces not whole; {sum(kill.steps for kill in kills)} whole steps and "
        f"{sum(kill.num_values for kill in kills)} values read; {len(different)} steps differ between runs"
    )
    for text in different[:10]:
        print(f"  {text}")
    return 1 if failed or different else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
