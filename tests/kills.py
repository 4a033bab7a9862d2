"""Kill every command at random moments, by SIGKILL, SIGTERM and Ctrl-C: `python -m tests.kills`.

After SIGTERM and Ctrl-C it has to have ended with 143 or 130 and with one line; after each of the three no process that
it began may live on, no temporary file may lie anywhere, every file that it wrote must be whole, and so must every step
of its trace.  A command that has just come to its own end may end with its own exit code.  Prints a table; ends with 1
where anything of this failed.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.kills import inspect
from diag.common.command import positive
from diag.common.stopping import GRACE

ROOT = Path(__file__).parent.parent
EARLIEST = 0.3
"""Seconds after the start: before, Python itself may not have come to our first line."""
LATEST_END = GRACE + 10.0
"""Seconds until a process must be gone that was asked to go, on a busy machine."""
SIGNALS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
MODEL = ["--model", "tests/zoo.py:mlp"]
CASES: dict[str, tuple[str, ...]] = {
    "lockstep": (
        "diag.lockstep", *MODEL, "--candidate", "sim:tf32", "--steps", "12", "--attribute", "--quiet",
        "--out", "{out}/run",
    ),
    "replay": (
        "diag.replay", "{trace}", "--step", "0", "--layer", "dense", "--place", "CPU:0", "--json",
        "--emit", "{out}/x.py",
    ),
    "compare": ("diag.compare", "{trace}", "{trace}", "--out", "{out}/report.json"),
    "attribute": ("diag.attribute", "{trace}", "--json"),
    "graph": ("diag.graph", *MODEL, "--taps"),
    "doctor": ("diag.doctor",),
    "probes": (
        "probes", "--op", "MatMul", "--op", "Exp", "--quiet", "--out", "{out}/card.json", "--emit", "{out}/programs"
    ),
    "traces": ("traces", "export", "{trace}", "--to", "{out}/x.npz"),
}  # fmt: skip


@dataclass
class Kill:
    """One process that was told to end: after how long, whether it had ended by itself, how long it took to go."""

    number: int
    moment: float
    was_done: bool = False
    seconds: float = 0.0
    num_steps: int = 0
    failures: list[str] = field(default_factory=list)


def kill_one(line: tuple[str, ...], number: int, moment: float, own_codes: tuple[int, ...]) -> Kill:
    """Run a command, send it a signal so many seconds later, and look at what it left."""
    found = Kill(number, moment)
    with TemporaryDirectory() as folder:
        places = {name: Path(folder, name) for name in ("out", "tmp")}
        for each in places.values():
            each.mkdir()
        given = [word.replace("{out}", str(places["out"])) for word in line]
        environment = {**os.environ, "TMPDIR": str(places["tmp"])}
        begun = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-m", *given], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as process:  # fmt: skip
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            found.was_done = process.poll() is not None
            _send(process, number)
            sent = time.monotonic()
            try:
                _, err = process.communicate(timeout=LATEST_END)
            except subprocess.TimeoutExpired:
                found.failures.append(f"it did not end within {LATEST_END:.0f} s")
                process.kill()
                _, err = process.communicate()
            found.seconds = time.monotonic() - sent
        found.failures += _ending(number, process.returncode, err, own_codes)
        found.failures += _orphans(places["tmp"])
        found.failures += _left(places["out"], places["tmp"])
        for trace in places["out"].rglob("trace.h5"):
            inspected = inspect(trace, moment, 0, was_killed=True)
            found.num_steps += inspected.steps
            found.failures += inspected.failures
    return found


def _send(process: subprocess.Popen[str], number: int) -> None:
    """Ctrl-C reaches all that a terminal's command has begun; the others only the one that was named."""
    if process.poll() is None:
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)


def _ending(number: int, code: int, err: str, own_codes: tuple[int, ...]) -> list[str]:
    if code in own_codes:
        return [f"ended by itself, with {err!r}"] if err else []
    lines = 0 if number == signal.SIGKILL else 1
    told = err.splitlines()
    return [
        *([] if code == SIGNALS[signal.Signals(number)] else [f"exit code {code}"]),
        *([] if len(told) == lines else [f"{len(told)} lines: {err[-300:]!r}"]),
    ]


def _orphans(temporary: Path) -> list[str]:
    """Processes of a run that live on; those that see that their starter is gone have a moment for it."""
    deadline = time.monotonic() + GRACE
    while (living := list(_begun_with(temporary))) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in living:
        os.kill(pid, signal.SIGKILL)
    return [f"{len(living)} processes live on"] if living else []


def _begun_with(temporary: Path) -> Iterator[int]:
    """Processes of any session that have this folder in their environment; one that has ended has none."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"TMPDIR={temporary}".encode() in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


def _left(out: Path, temporary: Path) -> list[str]:
    failures = [f"a temporary file {path.name}" for path in temporary.rglob("*")]
    readers: dict[str, Callable[[Path], object]] = {
        ".json": lambda path: json.loads(path.read_text()), ".py": lambda path: ast.parse(path.read_text()),
        ".npz": lambda path: [value.shape for value in np.load(path).values()],
    }  # fmt: skip
    for path in (path for path in out.rglob("*") if path.is_file() and path.name != "trace.h5"):
        if path.suffix not in readers:
            failures.append(f"a file {path.name}")
            continue
        try:
            readers[path.suffix](path)
        except Exception as error:
            failures.append(f"{path.name} is not whole: {error}")
    return failures


def prepared(folder: Path) -> Path:
    """A trace with a divergence, for the commands that read one."""
    out = folder / "base"
    command = ["diag.lockstep", *MODEL, "--candidate", "sim:tf32", "--steps", "3", "--quiet", "--out", str(out)]
    subprocess.run([sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    return out / "trace.h5"


def kills_of(name: str, trace: Path, times: int, seed: int) -> Iterator[Kill]:
    """One command, killed so often, at moments between its start and its own end."""
    line = tuple(word.replace("{trace}", str(trace)) for word in CASES[name])
    with TemporaryDirectory() as folder:
        begun = time.monotonic()
        given = [word.replace("{out}", folder) for word in line]
        done = subprocess.run([sys.executable, "-m", *given], cwd=ROOT, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - begun
    assert done.returncode in (0, 1), f"{name} ends with {done.returncode} by itself"
    numbers = random.Random(f"{name} {seed}")
    for count in range(times):
        number = list(SIGNALS)[count % len(SIGNALS)]
        yield kill_one(line, number, numbers.uniform(EARLIEST, max(seconds, EARLIEST)), (done.returncode,))


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.kills", description=__doc__)
    parser.add_argument("--times", type=positive, default=30, metavar="N", help="a command (default: %(default)s)")
    parser.add_argument("--commands", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    options = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job would hand on that it is ignored
    failed = 0
    print(f"{'command':10} {'KILL':>5} {'TERM':>5} {'Ctrl-C':>6}  by itself  latest end  whole steps  failures")
    with TemporaryDirectory() as folder:
        trace = prepared(Path(folder))
        for name in options.commands:
            kills: list[Kill] = []
            is_stopped = False
            try:
                for kill in kills_of(name, trace, options.times, options.seed):
                    kills.append(kill)
            except KeyboardInterrupt:
                is_stopped = True  # what was found so far is worth its line
            if not kills:
                break
            wrong = [kill for kill in kills if kill.failures]
            failed += len(wrong)
            sent = Counter(kill.number for kill in kills if not kill.was_done)
            print(
                f"{name:10} {sent[signal.SIGKILL]:5} {sent[signal.SIGTERM]:5} {sent[signal.SIGINT]:6}  "
                f"{sum(kill.was_done for kill in kills):9}  {max(kill.seconds for kill in kills):8.1f} s  "
                f"{sum(kill.num_steps for kill in kills):11}  {len(wrong):8}",
                flush=True,
            )
            for kill in wrong:
                print(f"    {signal.Signals(kill.number).name} after {kill.moment:.2f} s: {'; '.join(kill.failures)}")
            if is_stopped:
                break
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
