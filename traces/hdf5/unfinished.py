"""An unfinished trace as HDF5 opens any file: for reading, with no writer and no retries.

A file that a writer has open, or had when it was killed, is marked so, and HDF5 opens it in its SWMR mode only.
There every metadata block whose checksum is wrong is read again up to 100 times, waiting twice as long each time:
of a damaged file it never ends (H5C__load_entry in HDF5 1.14.6; h5py has no setter for the number of attempts).
So the mark is taken off in what HDF5 is shown, not in the file, and what is damaged is an error at once.

HDF5's writer flushes what is pointed at before what points there; a block read while it is being written has a wrong
checksum, which is an error here too. Whoever reads while a run goes on tries again.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SUPERBLOCK_BYTES = 48
"""Of a superblock of version 2 or 3 with 8 byte addresses (HDF5 File Format Specification, II.A)."""
VERSION_AT, SIZES_AT, MARK_AT, END_AT, CHECKSUM_AT = 8, 9, 11, 28, 44
SWMR_WRITER = 4
ENDLESS = 1 << 62


class LostBytes(OSError):
    """The file ends before something that it says it holds."""


def is_unfinished(superblock: bytes) -> bool:
    """Whether a SWMR writer has the file open, or was killed: HDF5's "file consistency flags" say so."""
    return len(superblock) > MARK_AT and superblock[VERSION_AT] >= 2 and bool(superblock[MARK_AT] & SWMR_WRITER)


def is_read_as_unfinished(file: h5py.File) -> bool:
    """Whether what HDF5 knows of the file may be out of date: it was opened as an `UnfinishedFile`."""
    return bool(file.driver == "fileobj")


def stored_end(superblock: bytes) -> int:
    """How long the file is by what its superblock says, which a writer keeps up to date now and then."""
    return int(struct.unpack_from("<Q", superblock, END_AT)[0]) if len(superblock) == SUPERBLOCK_BYTES else 0


class UnfinishedFile:
    """The file object that h5py reads an unfinished trace through; it grows with the file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._position = 0
        self._superblock = _unmarked(os.pread(self._file.fileno(), SUPERBLOCK_BYTES, 0))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = ENDLESS if whence == os.SEEK_END else offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer from the position on.

        Raises:
          LostBytes: the file ends before.
        """
        start, wanted = self._position, len(buffer)
        if start + wanted > sys.maxsize or os.preadv(self._file.fileno(), [buffer], start) != wanted:
            raise LostBytes(f"bytes {start:,} to {start + wanted:,} are lost: the file was cut")
        if start < SUPERBLOCK_BYTES:
            stop = min(SUPERBLOCK_BYTES, start + wanted)
            buffer[: stop - start] = self._superblock[start:stop]
        return wanted

    def __del__(self) -> None:  # HDF5 lets go of it when the last dataset is closed
        self._file.close()

    def flush(self) -> None:
        """HDF5 flushes before it refreshes what it knows of a dataset; here is nothing to write."""


def _unmarked(superblock: bytes) -> bytes:
    """As it is in a finished file of any length."""
    if len(superblock) < SUPERBLOCK_BYTES or superblock[SIZES_AT] != 8:
        raise LostBytes("its first bytes are lost: the file was cut")
    changed = bytearray(superblock)
    (checksum,) = struct.unpack_from("<I", superblock, CHECKSUM_AT)
    if checksum != lookup3(superblock[:CHECKSUM_AT]):
        raise OSError("the checksum of its superblock is wrong")
    changed[MARK_AT] = 0
    struct.pack_into("<Q", changed, END_AT, ENDLESS)
    struct.pack_into("<I", changed, CHECKSUM_AT, lookup3(bytes(changed[:CHECKSUM_AT])))
    return bytes(changed)


def lookup3(data: bytes) -> int:
    """Bob Jenkins' hash of HDF5's metadata: `hashlittle`, initial value 0 (burtleburtle.net/bob/c/lookup3.c)."""
    a = b = c = (0xDEADBEEF + len(data)) & 0xFFFFFFFF
    blocks = [data[start : start + 12] for start in range(0, len(data), 12)]
    for block in blocks[:-1]:
        x, y, z = struct.unpack("<3I", block)
        a, b, c = _mixed((a + x) & 0xFFFFFFFF, (b + y) & 0xFFFFFFFF, (c + z) & 0xFFFFFFFF)
    if not blocks:
        return c
    x, y, z = struct.unpack("<3I", blocks[-1].ljust(12, b"\0"))
    return _final((a + x) & 0xFFFFFFFF, (b + y) & 0xFFFFFFFF, (c + z) & 0xFFFFFFFF)


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & 0xFFFFFFFF


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):
        a = (a - c & 0xFFFFFFFF) ^ _rotated(c, bits)
        c = c + b & 0xFFFFFFFF
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _rotated(b, bits) & 0xFFFFFFFF
        a, b, c = b, c, a
    return b
