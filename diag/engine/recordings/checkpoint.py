"""Where a run has got to, in a file beside its trace, to go on there after a kill.

The file is written anew each time and appears whole; it is gone once the run has ended by itself.  It is no part of
the trace, which would grow by it with every step, and whose rows must not depend on when it was written.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diag.common.archives import refuse_unsafe
from diag.common.files import replacing
from diag.common.plain import Arrays, NotPlain, PlainData
from diag.errors import UserError

NAME = "resume.npz"
FORMAT = 1
_UNREADABLE = (
    UserError, OSError, ValueError, KeyError, EOFError, MemoryError, RecursionError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
SHARE = 0.05
"""Of the run's time, what keeping checkpoints may take: one that takes 50 ms is kept every second."""


@dataclass(frozen=True)
class CheckpointHeader:
    """What can be told of a checkpoint without reading it.

    steps: that the run was asked for; planned: at first, on which its generated data depend.  checks: layer units are
    checked every so many steps.  seconds: that the run took so far.  rows: those of the trace by table, and documents.
    """

    next_step: int
    steps: int
    planned: int
    checks: int
    seconds: float
    rows: dict[str, int]
    format: int = FORMAT


class Checkpoints:
    """Keeps the latest checkpoint of one run."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._due = time.monotonic()
        self._is_possible = True

    @property
    def is_due(self) -> bool:
        """Whether the run has gone on for long enough since the last."""
        return self._is_possible and time.monotonic() >= self._due

    def write(self, header: CheckpointHeader, state: Any, data: PlainData, trace: Path) -> None:
        """Keep this one instead of the one before; `trace` has the rows that it counts, and is on the disk before it.

        A state that no plain data say, such as an object that a fault of the user's keeps in its memory, leaves none:
        the run can then go on from its start alone.

        Raises:
          UserError: the file cannot be written.
        """
        began = time.monotonic()
        try:
            document, arrays = data.encode(state)
        except NotPlain:
            self._is_possible = False
            self.discard()
            return
        try:
            _synchronize(trace)
            write_document(self.path, {"header": asdict(header), "state": document}, arrays)
        except OSError as error:
            raise UserError(
                f"Cannot write {self.path}: {error.strerror or error}; expected a folder that can be written and has "
                "room; choose another output folder."
            ) from error
        ended = time.monotonic()
        self._due = ended + (ended - began) / SHARE

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)


def read_header(folder: Path) -> CheckpointHeader | None:
    """The header of the checkpoint in a folder, None where there is none."""
    path = folder / NAME
    if not path.exists():
        return None
    document, _ = read_document(path, with_arrays=False)
    return _header(path, document)


def read_state(folder: Path, data: PlainData) -> Any:
    """The state that the checkpoint in a folder keeps."""
    path = folder / NAME
    document, arrays = read_document(path, with_arrays=True)
    _header(path, document)
    try:
        return data.decode(document["state"], arrays)
    except ValueError as error:
        raise _unreadable(path) from error


def write_document(path: Path, document: Any, arrays: Arrays) -> None:
    text = np.frombuffer(json.dumps(document).encode(), np.uint8)
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, document=text, **arrays)  # type: ignore[arg-type]  # one of them might be called allow_pickle
        file.flush()
        os.fsync(file.fileno())


def _synchronize(path: Path) -> None:
    """Have the disk hold what was written of a file so far."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_document(path: Path, with_arrays: bool) -> tuple[dict[str, Any], Arrays]:
    try:
        with zipfile.ZipFile(path) as archive:
            refuse_unsafe(archive, path.stat().st_size)
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            document = json.loads(np.asarray(file["document"]).tobytes())
            names = [name for name in file.files if name != "document"] if with_arrays else []
            arrays = {name: np.asarray(file[name]) for name in names}
    except _UNREADABLE as error:
        raise _unreadable(path) from error
    if not isinstance(document, dict) or not isinstance(document.get("header"), dict):
        raise _unreadable(path)
    return document, arrays


def _header(path: Path, document: dict[str, Any]) -> CheckpointHeader:
    try:
        header = CheckpointHeader(**document["header"])
    except TypeError as error:
        raise _unreadable(path) from error
    if header.format != FORMAT:
        raise UserError(
            f"{path} has format {header.format} and this program reads {FORMAT}; go on with the version of tf-lockstep "
            "that wrote it, or remove the file to do all steps again"
        )
    return header


def _unreadable(path: Path) -> UserError:
    return UserError(f"{path} cannot be read, so the run cannot go on there; remove the file to do all steps again")
