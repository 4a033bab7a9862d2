"""A file that appears under its name whole, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from diag.common.jsonable import to_text
from diag.common.wording import size_text
from diag.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".partial"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes from running in a folder; a process that dies lets go of it.

    It is made, and removed at the end where nothing came to lie in it.  Where the system or the file system has no such
    locks nothing is kept from anybody.

    What a killed process left unfinished in it is removed.

    Raises:
      UserError: a process that lives runs in it, or it cannot be made.
    """
    missing = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(
            f"Cannot make the folder {folder}: {error.strerror or error}; name one that can be made and written"
        ) from error
    try:
        _lock(descriptor, folder)
        try:
            for left in folder.glob(f".*{UNFINISHED}"):
                left.unlink()
            yield
        finally:
            for path in missing:
                with suppress(OSError):  # something lies in it
                    path.rmdir()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UserError(f"A run is going on in {folder}; wait for it or end it, or name another folder") from error


def refuse_unwritable(flag: str, path: Path) -> None:
    """Say before the work that a file can be written nowhere in its folder."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UserError(f"{flag} {path}: no folder {folder}; make it, or name another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {path}: {folder} cannot be written; name a file in a folder that can")


def refuse_existing(path: Path, force: bool) -> None:
    if path.is_dir():
        raise UserError(f"--to {path} is a folder; expected the name of a file in it")
    if path.exists() and not (force and path.is_file()):
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
def replacing(path: Path, is_new: bool = False, needs_name: bool = False) -> Iterator[Path]:
    """A name to write to; what is there at the end becomes `path`, if all went well.

    On Linux the file itself has no name until then, so that not even a process that is killed leaves half a file.

    is_new: for a file that nobody has made meanwhile.  Raises FileExistsError where somebody has.
    needs_name: for a library that will not open a file without one.
    """
    named = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    descriptor = None if needs_name else _nameless(path.absolute().parent)
    unfinished = named if descriptor is None else Path(f"/proc/self/fd/{descriptor}")
    try:
        yield unfinished
        if descriptor is not None and is_new:
            os.link(unfinished, path, src_dir_fd=descriptor)  # with an argument more it links what is behind the name
            return
        if descriptor is not None:
            os.link(unfinished, named, src_dir_fd=descriptor)
        if is_new and path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        named.replace(path)
    finally:
        named.unlink(missing_ok=True)
        if descriptor is not None:
            os.close(descriptor)


def _nameless(folder: Path) -> int | None:
    """The descriptor of a new file without a name; None where the system or the file system has none."""
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (AttributeError, OSError):
        return None
    if os.path.exists(f"/proc/self/fd/{descriptor}"):
        return descriptor
    os.close(descriptor)
    return None


@contextmanager
def exported(path: Path, force: bool, needs_name: bool = False) -> Iterator[Path]:
    """As `replacing`, for a file that a person asked for.

    Raises:
      UserError: the file exists and `force` is false, or it cannot be written.
    """
    refuse_existing(path, force)
    try:
        with replacing(path, not force, needs_name) as unfinished:
            yield unfinished
    except FileExistsError:
        refuse_existing(path, force)
        raise
    except OSError as error:
        raise UserError(
            f"Cannot write {path}: {error.strerror or error}; expected a folder that exists, can be written and has "
            "room; name another file"
        ) from error


def write_text(path: Path, text: str, is_new: bool = False) -> None:
    """Write a file so that `path` never holds half of it, not even after a kill; raises OSError."""
    with replacing(path, is_new) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, contents: Mapping[str, object], is_new: bool = False) -> None:
    """Write a report whole, or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    write_report(path, to_text(contents), is_new)


def write_report(path: Path, text: str, is_new: bool = False) -> None:
    """As `write_text`; raises UserError where the file cannot be written."""
    try:
        write_text(path, text, is_new)
    except OSError as error:
        raise UserError(
            f"Cannot write the report {path}: {error.strerror or error}; expected a folder that exists, can "
            "be written and has room; choose another output folder."
        ) from error
