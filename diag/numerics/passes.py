"""One pass over two tensors by the compiled loops: their arrays as the loops read them, a part a thread, the totals."""

from __future__ import annotations

import os
from collections import namedtuple
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from diag.numerics.figures import Index
from diag.numerics.formats import Format, format_of

# Below this many elements a second thread costs more to wake than it saves.
_MIN_ELEMENTS_PER_THREAD = 1 << 18


class Encoding(NamedTuple):
    """A dtype as the kernels know it.

    Arrays of it are handed over as `stored`, which is the encodings of a 16-bit format and else the values; `table` has
    the value of each of the 65536 encodings, `bits` is the signed integer of its width.  `infinity` and `hidden`
    are the encodings of infinity and of the smallest normal number.
    """

    name: str
    format: Format
    stored: np.dtype[Any]
    bits: np.dtype[Any]
    table: npt.NDArray[np.float32]
    smallest_normal: float
    magnitude_mask: int
    infinity: int
    hidden: int


@lru_cache
def encoding(dtype: np.dtype[Any]) -> Encoding:
    """Of a floating dtype; raises TypeError for one that is no format of ours."""
    format, width = format_of(dtype), 8 * dtype.itemsize
    bits = np.dtype(f"i{dtype.itemsize}")
    table = np.empty(0, np.float32)
    if width == 16:
        with np.errstate(invalid="ignore"):  # widening a signalling NaN raises the flag
            table = np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(np.float32)
    table.setflags(write=False)
    return Encoding(
        name=dtype.name,
        format=format,
        stored=bits if width == 16 else dtype,
        bits=bits,
        table=table,
        smallest_normal=format.smallest_normal,
        magnitude_mask=(1 << (width - 1)) - 1,
        infinity=((1 << (width - format.precision)) - 1) << (format.precision - 1),
        hidden=1 << (format.precision - 1),
    )


def flat(x: npt.NDArray[Any], stored: np.dtype[Any]) -> npt.NDArray[Any]:
    """x in one dimension, read only: numba compiles a kernel anew for arrays that may be written."""
    flat = np.ascontiguousarray(x).reshape(-1).view(stored)
    flat.setflags(write=False)
    return flat


Part = TypeVar("Part")


def by_part(size: int, run: Callable[[slice], Part]) -> list[Part]:
    """What `run` gives of each part of so many elements; large tensors in one part a thread.

    Threads of our own rather than numba's, whose default layer must not be entered by two threads at once
    (numba documentation, "The Threading Layers").
    """
    num_parts = _num_parts(size)
    if num_parts == 1:
        return [run(slice(0, size))]
    ends = [size * part // num_parts for part in range(num_parts + 1)]
    return list(_threads().map(run, map(slice, ends, ends[1:])))


def totals_of(size: int, nothing: npt.NDArray[Any], add: Callable[[slice, npt.NDArray[Any]], None]) -> Any:
    """What `add` adds up over all parts, each of which begins with the totals of no element, `nothing`."""

    def add_part(part: slice) -> npt.NDArray[Any]:
        totals = nothing.copy()
        add(part, totals)
        return totals

    return merged(by_part(size, add_part))


def _num_parts(size: int) -> int:
    return max(1, min(_num_cores(), size // _MIN_ELEMENTS_PER_THREAD))


@lru_cache
def _names(dtype: np.dtype[Any]) -> Any:
    return namedtuple("Totals", dtype.names or ())


def merged(parts: Sequence[npt.NDArray[Any]]) -> Any:
    """Totals of all parts, which are in the order of the elements, by their names."""
    names = parts[0].dtype.names or ()
    if len(parts) == 1:
        return _names(parts[0].dtype)(*parts[0][0].item())
    columns = dict(zip(names, zip(*np.concatenate(parts).tolist(), strict=True), strict=True))
    ways = {"max": max, "min": min}
    found = {name: next((way for word, way in ways.items() if word in name), sum)(c) for name, c in columns.items()}
    found["worst"] = columns["worst"][columns["max"].index(found["max"])]
    if "first_mismatch" in columns:
        found["first_mismatch"] = next((index for index in columns["first_mismatch"] if index >= 0), -1)
    return _names(parts[0].dtype)(**found)


@lru_cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_num_cores())


@lru_cache
def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def float64_truth(truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Truth as an array; raises TypeError unless it is float64."""
    truth = np.asarray(truth)
    if truth.dtype != np.float64:
        raise TypeError(f"Truth is float64. Received: truth.dtype={truth.dtype}")
    return truth


def require_same_shape(**arrays: npt.NDArray[Any]) -> None:
    """Raises ValueError unless two arrays, named as in the message, have one shape."""
    first, second = arrays.values()
    if first.shape != second.shape:
        received = ", ".join(f"{name}.shape={array.shape}" for name, array in arrays.items())
        raise ValueError(f"Statistics are element by element. Received: {received}")


def index_of(flat: int, shape: Index) -> Index | None:
    """Of an element by its place in order of memory (C); None of a negative one, which stands for no element."""
    if flat < 0:
        return None
    index: list[int] = []
    for length in reversed(shape):
        flat, i = divmod(flat, length)
        index.insert(0, i)
    return tuple(index)
