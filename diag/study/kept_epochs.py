"""What a run keeps of its finished epochs: where to go on after a kill, and where a lockstep run can begin.

    RUN/epoch-0003.npz    curves up to here, and the state that the next epoch begins from

Each file appears whole.  The latest always stays; of those before as many, evenly, as the run may keep.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from diag.common.files import claimed
from diag.common.plain import PlainData
from diag.engine.recordings.checkpoint import read_document, write_document
from diag.errors import UserError

PLAIN = PlainData(())


class KeptEpochs:
    """Of one run of some epochs, in its folder; num_bytes: what the states that stay may take together."""

    def __init__(self, folder: Path, epochs: int, num_bytes: int) -> None:
        self.folder, self.epochs, self.num_bytes = folder, epochs, num_bytes

    def claimed(self) -> Any:
        """For as long as the run goes on; raises UserError where another process runs it."""
        return claimed(self.folder)

    def keep(self, epoch: int, curves: dict[str, list[float]], state: dict[str, Any]) -> None:
        """After `epoch` epochs; raises UserError where it cannot be written, or the state is no plain data."""
        document, arrays = PLAIN.encode({"curves": curves, "state": state})
        path = _path(self.folder, epoch)
        try:
            write_document(path, {"header": {"epoch": epoch}, "state": document}, arrays)
        except OSError as error:
            raise UserError(
                f"Cannot write {path}: {error.strerror or error}; expected a folder that can be written and has room"
            ) from error
        size = path.stat().st_size
        stride = math.ceil(self.epochs * size / self.num_bytes) if size <= self.num_bytes else self.epochs
        for other in epochs_in(self.folder):
            if other < epoch and other % stride:
                _path(self.folder, other).unlink(missing_ok=True)

    def latest(self) -> tuple[int, dict[str, list[float]], dict[str, Any]] | None:
        """(epochs that are done, curves, state), None before the first."""
        found = epochs_in(self.folder)
        return (found[-1], *read_epoch(self.folder, found[-1])) if found else None


def epochs_in(folder: Path) -> list[int]:
    """After which epochs a state is there, in order."""
    return sorted(int(path.stem.rpartition("-")[2]) for path in folder.glob("epoch-*.npz"))


def read_epoch(folder: Path, epoch: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """(curves, state); raises UserError where the file cannot be read."""
    document, arrays = read_document(_path(folder, epoch), with_arrays=True)
    kept = PLAIN.decode(document["state"], arrays)
    return kept["curves"], kept["state"]


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04}.npz"
