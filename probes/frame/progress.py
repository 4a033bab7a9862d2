"""Progress on stderr while probes run: how many of them, and which one."""

from __future__ import annotations

from rich.console import Console

from diag.common.progress import Bar
from probes.frame.plan import Probe


class ProbeProgress(Bar):
    """A bar on a terminal; elsewhere a plain line now and then; nothing if quiet."""

    def __init__(self, num_probes: int, quiet: bool = False, console: Console | None = None) -> None:
        super().__init__(num_probes, quiet, console)
        self.num_probes = num_probes
        self._begun = 0

    def begins(self, probe: Probe) -> None:
        self._begun += 1
        text = " ".join(part for part in (probe.family, probe.op, probe.dtype, probe.case) if part)
        self.show(self._begun - 1, f"probe {self._begun}/{self.num_probes}  {text}")
