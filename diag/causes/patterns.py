"""Where wrong elements are, in words: axis by axis, what holds them all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

# Of so many indices or fewer each is named.
FEW = 4
# Indices that hold almost all of an axis say nothing about it.
NEARLY_ALL = 0.9
TILES = tuple(1 << power for power in range(10, 2, -1))  # what a kernel works on at a time, the largest first


def describe_elements(wrong: npt.NDArray[Any], axes: Sequence[str] = ()) -> dict[str, Any]:
    """`{"num_wrong": 3, "size": 64, "where": "all in output channel 127 (the last of 128)"}`.

    Axes that say nothing are left out; `by_axis` has, for those that do, the indices that hold wrong elements.

    Args:
        wrong: bool, any shape.
        axes: names of the axes; "axis-K index" where there are none.
    """
    wrong = np.asarray(wrong, bool)
    result: dict[str, Any] = {"num_wrong": int(wrong.sum()), "size": int(wrong.size)}
    if not result["num_wrong"] or not wrong.ndim:
        return result
    names = list(axes) if len(axes) == wrong.ndim else [f"axis-{axis} index" for axis in range(wrong.ndim)]
    said: dict[str, str] = {}
    for axis, name in enumerate(names):
        text = describe_indices(_touched(wrong, axis), name)
        if text:
            said[name] = text
    scattered = "everywhere" if wrong.all() else describe_edge(wrong, names) or "scattered over all axes"
    result["where"] = "all in " + "; ".join(said.values()) if said else scattered
    if said and wrong[np.ix_(*(np.flatnonzero(_touched(wrong, axis)) for axis in range(wrong.ndim)))].all():
        result["every_element_there"] = True
    return result


def describe_edge(wrong: Mask, names: Sequence[str] = ()) -> str:
    """All that lies at an edge of a plane is touched, nothing within: what padding is done wrongly to; else ""."""
    names = names or [f"axis {axis}" for axis in range(wrong.ndim)]
    for pair in itertools.combinations(range(wrong.ndim), 2):
        plane: Mask = np.asarray(wrong.any(axis=tuple(axis for axis in range(wrong.ndim) if axis not in pair)))
        (top, bottom), (left, right) = (_ends(np.asarray(plane.all(axis=1 - axis))) for axis in (0, 1))
        within = plane[top : len(plane) - bottom, left : plane.shape[1] - right]
        is_narrow = 0 < top + bottom <= len(plane) / 2 and 0 < left + right <= plane.shape[1] / 2
        if is_narrow and not within.any():
            sides = zip(pair, ((top, bottom), (left, right)), strict=True)
            return "all at the edge: " + "; ".join(f"the {_both(*ends)} of {names[axis]}" for axis, ends in sides)
    return ""


def _ends(touched: Mask) -> tuple[int, int]:
    """How many at the start and how many at the end, all of them touched."""
    runs = [int(np.argmin(each)) if not each.all() else each.size for each in (touched, touched[::-1])]
    return runs[0], runs[1]


def _both(first: int, last: int) -> str:
    return " and ".join(f"{word} {count}" for word, count in (("first", first), ("last", last)) if count)


def _touched(wrong: Mask, axis: int) -> Mask:
    """Which indices along an axis hold a wrong element."""
    return np.asarray(wrong.any(axis=tuple(i for i in range(wrong.ndim) if i != axis)))


def describe_indices(touched: npt.NDArray[Any], name: str) -> str:
    """What is special about some indices along an axis, "" where nothing is: "channel 127 (the last of 128)".

    touched: bool, one dimension.
    """
    length = touched.size
    indices = np.flatnonzero(touched)
    if indices.size == length or length == 1 or not indices.size:
        return ""
    first, last = int(indices[0]), int(indices[-1])
    if indices.size == 1:
        return f"{name} {first}{' (the last of ' + str(length) + ')' if first == length - 1 else ''}"
    gaps, names = np.unique(np.diff(indices)), plural(name)
    if gaps.size == 1 and gaps[0] == 1:
        return f"{names} {_run(first, last, length)}"
    if gaps.size == 1 and indices.size > 2:
        return f"every {_ordinal(int(gaps[0]))} {name} from {first}"
    if indices.size <= FEW:
        return f"{names} " + ", ".join(str(int(i)) for i in indices)
    repeated = _periodic(touched, first)
    if repeated:
        return f"{names} {repeated}"
    return f"{indices.size} of {length} {names}" if indices.size < NEARLY_ALL * length else ""


def _run(first: int, last: int, length: int) -> str:
    """A run of neighbours."""
    if last < length - 1:
        return f"before {last + 1}" if first == 0 else f"{first} to {last}"
    count = length - first
    tile = next((size for size in TILES if first % size == 0 and count <= size and first), None)
    if tile is not None and count < tile:
        return f"from {first} to the end (the last {count}, in the unfinished tile of {tile})"
    if tile is not None:
        return f"from {first} to the end (the last tile of {tile})"
    return f"from {first} to the end (the last {count} of {length})"


def _periodic(touched: Mask, first: int) -> str:
    """Runs that come back: "past 1024, period 1024, the first 3 of each"."""
    rest = touched[first:]
    run = int(np.argmin(rest)) if not rest.all() else rest.size
    starts = np.flatnonzero(rest[1:] & ~rest[:-1]) + 1
    if not starts.size:
        return ""
    period = int(starts[0])
    if rest.size < 2 * period or not np.array_equal(rest[period:], rest[:-period]):
        return ""
    return f"from {first} on, period {period}, {run} of each"


def plural(name: str) -> str:
    """Of an axis whose places are counted; height, width, batch and the like stay as they are."""
    if name.endswith("index"):
        return name.removesuffix("index") + "indices"
    return f"{name}s" if name.endswith(("channel", "row", "column", "input", "multiplier")) else name


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def describe_values(wrong: npt.NDArray[Any], values: npt.NDArray[Any], name: str) -> str:
    """What the values under the wrong elements have in common and no other has: "all where input 0 is above 2.003".

    values: of the shape of `wrong`, one under each element.  "" where no threshold parts the two.
    """
    with np.errstate(invalid="ignore"):
        for of, x in ((name, values), (f"the magnitude of {name}", np.abs(values))):
            inside, outside = x[wrong], x[~wrong]
            if not inside.size or not outside.size or not np.isfinite(x).all():
                return ""
            if inside.min() > outside.max():
                return f"all where {of} is above {outside.max():.6g}, and nowhere else"
            if inside.max() < outside.min():
                return f"all where {of} is below {outside.min():.6g}, and nowhere else"
    return ""
