"""Opening a trace that may be finished, still growing, killed, cut short, or no trace at all."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

import h5py
import hdf5plugin  # noqa: F401  registers the filters the tensors are compressed with

from diag.errors import UserError
from traces.hdf5.failures import explained_gaps, explained_reading
from traces.hdf5.unfinished import SIGNATURE, SUPERBLOCK_BYTES, UnfinishedFile, is_unfinished, stored_end
from traces.schema import SCHEMA, SCHEMA_NAME, SCHEMA_VERSION

SECONDS_OF_A_WRITER = 5.0
SECONDS_TO_LIST = 20.0

_unfinished_files: WeakValueDictionary[tuple[int, int], h5py.File] = WeakValueDictionary()


def open_file(path: Path) -> h5py.File:
    """The file, open for reading, and of a schema this program knows; traces.door looks at the rest.

    Raises:
      UserError: it cannot be read, or is no trace.
    """
    if not path.is_file():
        raise UserError(f"There is no trace {path}; expected an HDF5 file; check the path.")
    with explained_reading(path):
        file = _open_unfinished(path) if _is_unfinished(path) else h5py.File(path, "r")
    try:
        with explained_reading(path), explained_gaps(path):
            schema = schema_of(file)
        _refuse_others(path, schema)
    except UserError:
        file.close()
        raise
    return file


def schema_of(file: h5py.File) -> str:
    """Name and version of the schema; empty where there is none."""
    try:
        schema = file.attrs.get("schema", "")
    except (TypeError, ValueError):  # of a type that h5py does not know
        return ""
    return schema if isinstance(schema, str) else ""


def is_changing(path: Path) -> bool:
    """Whether a run seems to write the file just now."""
    try:
        return time.time() - path.stat().st_mtime < SECONDS_OF_A_WRITER and _is_unfinished(path)
    except OSError:
        return False


def _is_unfinished(path: Path) -> bool:
    start = _superblock(path)
    if not start.startswith(SIGNATURE):
        raise _no_trace(path, "not an HDF5 file")
    return is_unfinished(start)


def lacks_its_end(path: Path) -> bool:
    """Whether an unfinished file is shorter than its writer had made it when it last said so."""
    start = _superblock(path)
    return is_unfinished(start) and path.stat().st_size < stored_end(start)


def _superblock(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SUPERBLOCK_BYTES)


def crashes(read: Callable[[], object]) -> bool:
    """Whether reading ends the process, tried in a fork of it; an exception is none.

    Where a file ends before the names of a group do, HDF5 1.14.6 frees what it never read (H5G__dense_build_table).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads beside: the child calls HDF5 alone
        child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            read()
        os._exit(0)
    deadline = time.monotonic() + SECONDS_TO_LIST
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    return ended[1] != 0


def _open_unfinished(path: Path) -> h5py.File:
    if _unfinished_files.get(_identity(path)):
        raise OSError("file is already open")
    file = h5py.File(UnfinishedFile(path), "r")
    claim(path, file)
    return file


def claim(path: Path, file: h5py.File) -> None:
    """Have this process read the unfinished `path` through no second handle, until `file` is closed.

    HDF5 1.14.6 shares the datasets of one process's handles, and reads wrong rows after a `refresh`.
    """
    _unfinished_files[_identity(path)] = file


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _refuse_others(path: Path, schema: str) -> None:
    version = re.fullmatch(rf"{SCHEMA_NAME}/(\d+)", schema)
    if version is None:
        raise _no_trace(path, "an HDF5 file of another kind")
    if int(version[1]) > SCHEMA_VERSION:
        raise UserError(
            f"The trace {path} has schema {schema}, newer than this program; expected at most {SCHEMA}; "
            "install a newer tf-lockstep."
        )


def _no_trace(path: Path, what: str) -> UserError:
    return UserError(f"{path} is no trace but {what}; expected a file that diag.lockstep wrote (trace.h5).")
