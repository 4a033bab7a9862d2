"""How long programs that a test started took of the processor, whatever else the machine does meanwhile."""

from __future__ import annotations

import resource


def seconds_of_children() -> float:
    """Processor time of all programs that this process started and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
