"""The memory of a microscope step against that of one plain eager training step, a process each.

What a process held before the step (TensorFlow, the model, the data, the lanes) is not counted: it would
hide most of the difference.  Linux alone lets a process set its peak back, so there is no row elsewhere.
"""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.timing import Row

NAME = "memory"
TARGET = 2.0
ROLES = ("plain", "keras", "statistics", "truth")


@dataclass(frozen=True)
class Size:
    image_size: int
    batch_size: int


def measure(size: Size) -> Iterator[Row]:
    if sys.platform != "linux":
        print(f"memory is not measured on {sys.platform}: it needs /proc/self/clear_refs", file=sys.stderr)
        return
    with ThreadPoolExecutor(2) as pool:  # peaks are the same whatever else runs
        peaks = dict(zip(ROLES, pool.map(partial(_peak_of, size=size), ROLES), strict=True))
    for role, named in (("statistics", "statistics"), ("truth", "float64 truth and bounds")):
        what = f"peak memory, microscope with {named}, values differ / one plain eager step of Keras"
        yield _row(what, peaks[role], peaks["keras"], TARGET)
    what = "peak memory, the traced ops one by one / one plain eager step of Keras"
    yield _row(what, peaks["plain"], peaks["keras"], None)


def _row(what: str, mine: int, baseline: int, target: float | None) -> Row:
    measured = mine / baseline
    detail = f"{mine / 2**20:.0f} MiB / {baseline / 2**20:.0f} MiB, one process each"
    return Row(NAME, what, measured, measured, None, "x", target, detail)


def _peak_of(role: str, size: Size) -> int:
    """How many bytes a process that plays a role needs for its step."""
    command = [sys.executable, "-m", "benchmarks.memory", role, str(size.image_size), str(size.batch_size)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def play(role: str, size: Size) -> int:
    """One step of a kind; the bytes it needed at its peak beyond what was held before it."""
    from benchmarks.microscope import Looking, keras_steps
    from benchmarks.workload import motivating_workload

    workload = motivating_workload(size.image_size, size.batch_size)
    looking = Looking(workload)
    looking.load(workload.moved)
    steps = {
        "plain": looking.plain_step,
        "keras": partial(keras_steps, workload, 1),
        "statistics": partial(looking.look, truth_everywhere=False),
        "truth": partial(looking.look, truth_everywhere=True),
    }
    _forget_peak()
    before = _bytes_of("VmRSS")
    steps[role]()
    return _bytes_of("VmHWM") - before


def _forget_peak() -> None:
    """Give back what is free, and set the peak to what is held (proc_pid_clear_refs(5))."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _bytes_of(field: str) -> int:
    """A line of proc_pid_status(5).  Not ru_maxrss: a child of a large process starts with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    role, image_size, batch_size = sys.argv[1:]
    print(play(role, Size(int(image_size), int(batch_size))))


if __name__ == "__main__":
    main()
