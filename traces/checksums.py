"""One number by which two values of a tensor, two documents or two runs of rows are the same bits, or not."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

NO_CHECKSUM = 0
"""Stands in a row for a tensor that was not handed over; no tensor has it."""


def tensor_checksum(array: npt.ArrayLike) -> int:
    """XXH3-64 (https://xxhash.com) of a tensor's shape and bits.

    Hashed are the number of axes and each axis' length, as little-endian int64, and then the elements in
    their own dtype, little-endian, in C order. Two tensors of one dtype with the same checksum are the
    same, NaN payloads and the sign of zero included.

    Returns:
      From 1 to 2**64 - 1: the one digest in 2**64 that is 0 becomes 1.
    """
    values: npt.NDArray[Any] = np.asarray(array)
    elements = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1)
    digest = xxhash.xxh3_64(_shape_bytes(values.shape))
    digest.update(elements.view(np.uint8).data)  # as bytes, for bfloat16 knows no buffer protocol
    return digest.intdigest() or 1


@lru_cache(maxsize=4096)
def _shape_bytes(shape: tuple[int, ...]) -> bytes:
    return np.array([len(shape), *shape], "<i8").tobytes()


def bytes_checksum(content: bytes) -> int:
    """XXH3-64 of a document's bytes."""
    return xxhash.xxh3_64_intdigest(content)


def rows_checksum(parts: Iterable[npt.NDArray[Any]]) -> int:
    """XXH3-64 of some rows of a table: of each part (a column, the marks of its tensors) all their bytes, one after
    the other, as they lie on file."""
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return digest.intdigest()
