"""How long programs that a test started took of the processor, whatever else the machine does meanwhile."""

from __future__ import annotations

import resource
import subprocess
import sys
from functools import cache

# Importing NumPy took so long of the processor on which commands start within half a second.
NUMPY_SECONDS = 0.15


def seconds_of_children() -> float:
    """Processor time of all programs that this process started and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def starts_in_half_a_second(*python: str) -> bool:
    """Whether Python with these arguments ends well so soon; on a slower machine, in as many imports of NumPy."""
    return _least_seconds(*python) < 0.5 * max(1.0, _least_seconds("-c", "import numpy") / NUMPY_SECONDS)


@cache
def _least_seconds(*python: str) -> float:
    """The best of three: other processes may hold this one up."""
    seconds = []
    for _ in range(3):
        before = seconds_of_children()
        subprocess.run([sys.executable, *python], check=True, capture_output=True)
        seconds.append(seconds_of_children() - before)
    return min(seconds)
