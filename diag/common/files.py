"""A file that appears under its name whole, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diag.common.jsonable import to_text
from diag.common.wording import size_text
from diag.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes from running in a folder; a process that dies lets go of it.

    Where the system or the file system has no such locks nothing is kept from anybody.

    Raises:
      UserError: a process that lives runs in it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(descriptor)
            raise UserError(f"A run is going on in {folder}; wait for it or end it, or name another folder") from error
    try:
        yield
    finally:
        os.close(descriptor)


def refuse_existing(path: Path, force: bool) -> None:
    if path.is_dir():
        raise UserError(f"--to {path} is a folder; expected the name of a file in it")
    if path.exists() and not force:
        raise UserError(f"--to {path} exists already; name another file, or overwrite it with --force")


def refuse_too_large(path: Path, num_bytes: int) -> None:
    """Say before the work that the disk has not the room."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UserError(f"--to {path}: there is no folder {folder}; make it, or name another file")
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise UserError(
            f"--to {path}: {size_text(num_bytes)} are to be written and {size_text(free)} are free there; choose fewer "
            "tensors with a PATTERN, or another disk"
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which becomes `path` at the end, if all went well."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def exported(path: Path, force: bool) -> Iterator[Path]:
    """As `replacing`, for a file that a person asked for.

    Raises:
      UserError: the file exists and `force` is false, or it cannot be written.
    """
    refuse_existing(path, force)
    try:
        with replacing(path) as unfinished:
            yield unfinished
            refuse_existing(path, force)  # another program may have made it meanwhile
    except OSError as error:
        raise UserError(
            f"Cannot write {path}: {error.strerror or error}; expected a folder that exists, can be written and has "
            "room; name another file"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a file so that `path` never holds half of it, not even after a kill; raises OSError."""
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, contents: dict[str, Any]) -> None:
    """Write a report whole, or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    text = to_text(contents)
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(
            f"Cannot write the report {path}: {error.strerror or error}; expected a folder that exists, can "
            "be written and has room; choose another output folder."
        ) from error
