"""What the operating system and HDF5 say, as one line for a person."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diag.common.wording import first_line
from diag.errors import UserError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def explained_creation(path: Path) -> Iterator[None]:
    """Turn a failure to make the trace into a `UserError`. Any other exception is a bug and passes unchanged."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # HDF5 reports a failed flush as either
        if isinstance(error, RuntimeError) and _error_number(error) is None:
            raise
        raise UserError(
            f"Cannot create the trace {path}: {_reason(error)}; expected a folder that exists, can be "
            "written and has room; choose another output folder."
        ) from error


@contextmanager
def explained_writing(path: Path) -> Iterator[None]:
    """Turn a failing disk into a `UserError`. Any other exception is a bug and passes unchanged."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # HDF5 reports a failed flush as either
        number = _error_number(error)
        if number is None:
            raise
        advice = "free some room" if number in _NO_ROOM else "check the disk"
        raise UserError(
            f"Cannot write to the trace {path}: {_reason(error)}; the whole steps before are kept; "
            f"{advice} or choose another output folder, and run again."
        ) from error


@contextmanager
def explained_reading(path: Path) -> Iterator[None]:
    """Turn what HDF5 says of a damaged file into a `UserError`."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        number = _error_number(error)
        if number == errno.EAGAIN:
            reason, advice = "another process has it locked", "close the program that has it open for writing"
        elif number in (errno.EACCES, errno.EPERM):
            reason, advice = os.strerror(number), "ask its owner, or copy it to where you may read it"
        elif "already open" in str(error):
            reason = "it is unfinished, and this process has it open already"
            advice = "close it there, or read it from another process"
        else:
            reason = f"it is truncated or damaged ({_reason(error)})"
            advice = "copy it again from where it was made, or record the run again"
        raise UserError(
            f"Cannot read the trace {path}: {reason}; expected a whole file that may be read; {advice}."
        ) from error


@contextmanager
def explained_gaps(path: Path) -> Iterator[None]:
    """Turn a part that is missing or makes no sense, in a file that HDF5 finds whole, into a `UserError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        reason = _reason(error).strip("'\"")
        raise UserError(
            f"Cannot read the trace {path}: a part is missing or damaged ({reason}); expected all that its schema "
            "names; copy it again from where it was made, or record the run again."
        ) from error


def _error_number(error: Exception) -> int | None:
    """The system's errno, which HDF5 puts only into its message."""
    if named := re.search(r"errno = (\d+)", str(error)):
        return int(named[1])
    return error.errno if isinstance(error, OSError) else None


def _reason(error: Exception) -> str:
    number = _error_number(error)
    return os.strerror(number) if number else first_line(error)
