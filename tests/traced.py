"""Traces for tests to look at: each run is made once, however many test modules ask for it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from diag import lockstep

_FOLDER = Path(tempfile.mkdtemp(prefix="lockstep-traces-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)

MLP = ("--model", "tests/zoo.py:mlp", "--batch-size", "4", "--steps", "3")
FREE = ("--follow", "free", "--twins", "0")
EVERY_STATE = ("--snapshot-every", "1")
FEW_STATES = ("--snapshot-every", "10")  # only the first state, and those of flagged steps
QUICK = ("--units", "step")  # where what the run itself finds is not looked at


def cpu() -> Path:
    """Both lanes at one place; nothing in it is compressed, so that its bytes can be found and changed."""
    return trace(*MLP, "--candidate", "CPU:0", "--portable", *FREE, *EVERY_STATE, *QUICK)


def tf32() -> Path:
    """A fault in every product, each lane on its own way."""
    return trace(*MLP, "--candidate", "sim:tf32", *FREE, *EVERY_STATE)


@functools.cache
def trace(*arguments: str) -> Path:
    """The trace that `diag.lockstep` writes with these arguments."""
    folder = Path(tempfile.mkdtemp(dir=_FOLDER)) / "run"
    code = lockstep.main([*arguments, "--out", str(folder), "--quiet"])
    assert code in (0, 1), f"exit code {code} of {arguments}"
    return folder / "trace.h5"


def damaged(path: Path, folder: Path, at: int, value: int | None = None) -> Path:
    """A copy with one byte changed."""
    content = bytearray(path.read_bytes())
    content[at] = content[at] ^ 0x5A if value is None else value
    copy = folder / f"damaged-{at}.h5"
    copy.write_bytes(content)
    return copy
