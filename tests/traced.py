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
