"""One lane of a recording, as two recordings are compared by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diag.engine.recordings.recorded_run import RecordedRun
from diag.engine.step.named_tensors import Name


@dataclass(frozen=True)
class RecordedSide:
    """One lane of one recording."""

    run: RecordedRun
    lane: str

    def environment(self) -> dict[str, Any]:
        return self.run.reader.environment(self.lane)

    @property
    def label(self) -> str:
        return f"{self.run.path} ({self.lane}, {self.environment()['place']})"

    def state(self, step: int) -> list[np.ndarray] | None:
        return self.run.state(step, self.lane)

    def checksum(self, step: int, name: Name) -> int | None:
        return self.run.reader.checksum(step, self.lane, *name)

    def tensor(self, step: int, name: Name) -> np.ndarray | None:
        return self.run.tensor(step, self.lane, name)

    def variables(self, step: int) -> dict[str, int | None]:
        """Each variable, and the checksum of its value before a step, None where the trace does not hold it."""
        reader = self.run.reader
        known = reader.snapshot_checksums(step, self.lane) if step in reader.snapshots else {}
        return {spec.name: known.get(spec.name) for spec in reader.layout.variables if spec.lane == self.lane}

    @property
    def specs(self) -> dict[Name, tuple[tuple[int, ...], str]]:
        tensors = [spec for spec in self.run.reader.layout.tensors if spec.lane == self.lane]
        return {(spec.kind, spec.name): (spec.shape, spec.dtype) for spec in tensors}
