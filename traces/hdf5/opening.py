"""Opening a trace that may be finished, still growing, killed, cut short, or no trace at all."""

from __future__ import annotations

import re
from pathlib import Path
from weakref import WeakValueDictionary

import h5py
import hdf5plugin  # noqa: F401  registers the filters the tensors are compressed with

from diag.errors import UserError
from traces.hdf5.failures import explained_reading
from traces.schema import SCHEMA, SCHEMA_NAME, SCHEMA_VERSION

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_unfinished_files: WeakValueDictionary[tuple[int, int], h5py.File] = WeakValueDictionary()


def open_trace(path: Path) -> h5py.File:
    """The file, open for reading, and of a schema this program knows.

    Raises:
      UserError: it cannot be read, or is no trace.
    """
    if not path.is_file():
        raise UserError(f"There is no trace {path}; expected an HDF5 file; check the path.")
    with explained_reading(path):
        file = _open_unfinished(path) if _is_unfinished(path) else h5py.File(path, "r")
    try:
        with explained_reading(path):
            schema = str(file.attrs.get("schema", ""))
        _refuse_others(path, schema)
    except UserError:
        file.close()
        raise
    return file


def _is_unfinished(path: Path) -> bool:
    """Whether a writer has the file open, or was killed: HDF5's "file consistency flags" say so.

    HDF5 opens such a file only for SWMR reading, and only otherwise checks that it is not truncated.
    They are byte 11 of a superblock of version 2 or 3 (HDF5 File Format Specification, II.A).
    """
    with path.open("rb") as file:
        start = file.read(12)
    if start[:8] != HDF5_SIGNATURE:
        raise _no_trace(path, "not an HDF5 file")
    return len(start) == 12 and start[8] >= 2 and start[11] != 0


def _open_unfinished(path: Path) -> h5py.File:
    if _unfinished_files.get(_identity(path)):
        raise OSError("file is already open")
    file = h5py.File(path, "r", swmr=True)
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
