"""Draws that come again: in the same draw, in another op's, in an earlier step's, wherever they stand.

Consecutive values with together 128 random bits come twice by a fault or not at all.  Of each draw the digests of nine
such windows are kept: the first, and the eight with the smallest hashes, which is a choice that two draws with the same
values make alike wherever these begin (winnowing: Schleimer, Wilkerson and Aiken, SIGMOD 2003).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

NUM_VALUES = 1 << 12  # of one draw
NUM_WINDOWS = 8
MOST_KEPT = 1 << 15  # digests: nine of each of 5 ops in 700 steps, 5 MB
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, as hashing by multiplication takes it


@dataclass(frozen=True)
class Seen:
    """A draw that was seen: by which op, at which step, and whether it was not the reference's."""

    op: str
    step: int
    differs: bool


@dataclass
class Repeats:
    """The windows of all draws of a lane so far, by digest; of small draws those that reach over several steps."""

    windows: dict[str, Seen] = field(default_factory=dict)
    ends: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def see(self, draw: Seen, values: npt.NDArray[Any], width: int) -> list[Seen]:
        """The draws that have a window of this one before: earlier ones, or itself."""
        found: dict[Seen, None] = {}
        own: set[str] = set()
        for digest in windows_of(self._with_earlier(draw.op, values, width), width):
            first = self.windows.setdefault(digest, draw)
            if first is not draw or digest in own:
                found[first] = None
            own.add(digest)
        while len(self.windows) > MOST_KEPT:
            del self.windows[next(iter(self.windows))]
        return list(found)

    def _with_earlier(self, op: str, values: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
        flat = values.reshape(-1)[:NUM_VALUES]
        if flat.size >= width:
            return flat
        joined = np.concatenate([self.ends[op], flat]) if op in self.ends else flat
        self.ends[op] = joined[max(0, joined.size - width + 1) :]
        return joined


def windows_of(values: npt.NDArray[Any], width: int) -> Iterator[str]:
    """Digests of the chosen windows of so many consecutive values; none where there are fewer."""
    num = values.size - width + 1
    if num < 1:
        return
    bits = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}").astype(np.uint64)
    mixed = bits * _FACTOR
    mixed = (mixed ^ (mixed >> np.uint64(29))) * _FACTOR
    hashes = np.zeros(num, np.uint64)
    for offset in range(width):
        hashes = hashes * _FACTOR + mixed[offset : offset + num]
    smallest = np.argpartition(hashes, NUM_WINDOWS)[:NUM_WINDOWS] if num > NUM_WINDOWS else np.arange(num)
    for start in sorted({0, *map(int, smallest)}):
        yield blake2b(bits[start : start + width].tobytes(), digest_size=16).hexdigest()
