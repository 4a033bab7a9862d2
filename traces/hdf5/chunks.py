"""What a dataset says that it holds, held against the bytes that are stored of it, before HDF5 is asked to read it.

HDF5 takes a dataset's word for its size: what is not stored reads as zeros or NaN, however much that is, and
bitshuffle's filter reads as much memory as a chunk's own header says, whatever was stored (hdf5plugin 5 and 6).
"""

from __future__ import annotations

import itertools
import math
import os
import struct
from collections.abc import Sequence

import h5py

MAX_INFLATION = 256
"""LZ4 never makes more than 255 bytes of one (its block format, "Worst case")."""
MAX_BLOCK_BYTES = 1 << 16
"""bitshuffle's blocks are of 8 KiB, or of 128 elements where that is more: 32 KiB of a text column."""

Coordinate = tuple[int, ...]


class Unsound(ValueError):
    """A part of the file is not what it says it is."""


class ChunkCheck:
    """Checks the chunks of one dataset, each once, before its rows are read."""

    def __init__(self, dataset: h5py.Dataset, path: str | os.PathLike[str]) -> None:
        self._dataset, self._path = dataset, path
        self._stored: dict[Coordinate, h5py.h5d.StoreInfo] = {}
        self._checked: set[Coordinate] = set()
        self._itemsize = dataset.dtype.itemsize
        self._is_filtered = bool(dataset.id.get_create_plist().get_nfilters())

    def check(self, region: Sequence[tuple[int, int]]) -> None:
        """Check what a read of these [start, stop) of each axis would read.

        Raises:
          Unsound: a part is not stored, or not as it says.
        """
        axes = _axes(region, self._dataset.chunks)
        num_wanted = math.prod(map(len, axes))
        if num_wanted > len(self._stored):
            self._look()
        if num_wanted > len(self._stored):
            raise Unsound(f"{self._dataset.name} stores {len(self._stored):,} pieces, of {num_wanted:,} that it claims")
        wanted = [each for each in itertools.product(*axes) if each not in self._checked]
        if not self._stored.keys() >= set(wanted):
            self._look()
        with open(self._path, "rb", buffering=0) as file:
            for coordinate in wanted:
                self._check_one(coordinate, file.fileno())
            if sum(self._stored[each].size for each in wanted) > os.fstat(file.fileno()).st_size:
                raise Unsound(f"{self._dataset.name} claims the same bytes of the file twice")
        self._checked.update(wanted)

    def _look(self) -> None:
        """Where each chunk is stored; a run that goes on adds some."""
        found: list[h5py.h5d.StoreInfo] = []
        self._dataset.id.chunk_iter(found.append)
        self._stored = {info.chunk_offset: info for info in found}

    def _check_one(self, coordinate: Coordinate, file: int) -> None:
        name, stored = self._dataset.name, self._stored.get(coordinate)
        if stored is None or stored.byte_offset is None:
            raise Unsound(f"the rows from {coordinate[0]:,} on of {name} are lost: nothing is stored of them")
        num_bytes = math.prod(self._dataset.chunks) * self._itemsize
        if stored.byte_offset + stored.size > os.fstat(file).st_size:
            raise Unsound(f"the rows from {coordinate[0]:,} on of {name} are lost: the file was cut")
        if not self._is_filtered or stored.filter_mask:
            if stored.size != num_bytes:
                raise Unsound(f"{name} stores {stored.size:,} bytes of a piece of {num_bytes:,}")
            return
        if stored.size * MAX_INFLATION < num_bytes:
            raise Unsound(f"{name} claims {num_bytes:,} bytes of {stored.size:,} stored, more than compression can do")
        problem = frame_problem(os.pread(file, stored.size, stored.byte_offset), num_bytes, self._itemsize)
        if problem:
            raise Unsound(f"a compressed piece of {name}, rows from {coordinate[0]:,} on: {problem}")


def _axes(region: Sequence[tuple[int, int]], chunks: Sequence[int]) -> list[range]:
    """Along each axis, where the chunks begin."""
    return [range(start // step * step, stop, step) for (start, stop), step in zip(region, chunks, strict=True)]


def frame_problem(stored: bytes, num_bytes: int, itemsize: int) -> str:
    """What is wrong with a chunk as bitshuffle's filter stores it (its README, "HDF5 filter"); empty if nothing is.

    The length of the whole as big-endian uint64, that of a block as uint32, then each block behind its compressed
    length; the last elements, fewer than 8, as they are. The filter itself follows these lengths out of its memory.
    """
    if len(stored) < 12:
        return "its header is lost"
    whole, block_bytes = struct.unpack_from(">QI", stored)
    if whole != num_bytes:
        return f"it claims {whole:,} bytes, and {num_bytes:,} are expected"
    block = block_bytes // itemsize
    if not block >= 8 or block % 8 or block_bytes > max(MAX_BLOCK_BYTES, 128 * itemsize):
        return f"it claims blocks of {block_bytes:,} bytes"
    num_elements = whole // itemsize
    num_blocks = -(-(num_elements - num_elements % 8) // block)
    at = 12
    for _ in range(num_blocks):
        if at + 4 > len(stored):
            return "it ends before its last block"
        at += 4 + int.from_bytes(stored[at : at + 4], "big")
    at += num_elements % 8 * itemsize
    return "" if at == len(stored) else f"it holds {len(stored):,} bytes, and its blocks claim {at:,}"
