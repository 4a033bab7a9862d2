"""The memory of a microscope step against that of one plain eager training step, a process each.

Peaks are told above what a process holds that made the model, the data and its lanes, but ran no step:
TensorFlow itself would otherwise hide most of the difference.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from benchmarks.timing import Row

NAME = "memory"
TARGET = 2.0
ROLES = ("idle", "plain", "keras", "statistics", "truth")
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux


@dataclass(frozen=True)
class Size:
    image_size: int
    batch_size: int


def measure(size: Size) -> Iterator[Row]:
    with ThreadPoolExecutor(2) as pool:  # peaks are the same whatever else runs
        peaks = dict(zip(ROLES, pool.map(partial(_peak_of, size=size), ROLES), strict=True))
    own = {role: max(peak - peaks["idle"], 1) for role, peak in peaks.items()}
    for role, named in (("statistics", "statistics"), ("truth", "float64 truth and bounds")):
        what = f"peak memory, microscope with {named}, values differ / one plain eager step of Keras"
        yield _row(what, own[role], own["keras"], TARGET)
    what = "peak memory, the traced ops one by one / one plain eager step of Keras"
    yield _row(what, own["plain"], own["keras"], None)


def _row(what: str, mine: int, baseline: int, target: float | None) -> Row:
    measured = mine / baseline
    detail = f"{mine / 2**20:.0f} MiB / {baseline / 2**20:.0f} MiB, one process each"
    return Row(NAME, what, measured, measured, "x", target, detail)


def _peak_of(role: str, size: Size) -> int:
    """The largest resident size, in bytes, of a process of its own that plays a role."""
    command = [sys.executable, "-m", "benchmarks.memory", role, str(size.image_size), str(size.batch_size)]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def play(role: str, size: Size) -> None:
    """One step of a kind, from lanes made for it."""
    from benchmarks.microscope import Looking, keras_steps
    from benchmarks.workload import motivating_workload

    workload = motivating_workload(size.image_size, size.batch_size)
    if role == "keras":
        return keras_steps(workload, 1)
    looking = Looking(workload)
    looking.load(workload.moved)
    if role == "plain":
        looking.plain_step()
    elif role != "idle":
        looking.look(truth_everywhere=role == "truth")


def main() -> None:
    from diag.engine.quiet import import_tensorflow

    import_tensorflow()
    role, image_size, batch_size = sys.argv[1:]
    play(role, Size(int(image_size), int(batch_size)))
    print(MAXRSS_UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main()
