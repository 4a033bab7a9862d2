"""Figures of tensors: of one by itself, of two compared, and their single elements with their bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from diag.numerics.figures import PairStatistics
from diag.numerics.formats import format_of
from diag.numerics.ulp import PairClass, classify, ulp_distance
from traces.encoding import Array

Index = tuple[int, ...]


@dataclass(frozen=True)
class ElementValue:
    """One number: as text that reads back to the same bits where they are not a NaN's, and its bits in hex."""

    text: str
    bits: str


@dataclass(frozen=True)
class Element:
    """One place in a tensor, with its value in each lane that is looked at.

    `ulp` is the distance between two floats; None where a NaN or an infinity has none, for other dtypes, and
    for one lane alone.
    """

    index: Index
    ulp: int | None
    values: tuple[ElementValue, ...]


@dataclass(frozen=True)
class LaneFigures:
    """One lane's tensor by itself; minimum to rms are of its finite elements, NaN where there are none."""

    lane: str
    dtype: str
    shape: Index
    minimum: float
    maximum: float
    mean: float
    rms: float
    num_nan: int
    num_inf: int
    num_subnormal: int
    num_zero: int


def as_real(array: Array) -> Array:
    """Complex numbers as pairs of real ones, in an axis of two at the end."""
    if array.dtype.kind != "c":
        return array
    return np.ascontiguousarray(array).reshape(array.shape).view(f"f{array.itemsize // 2}").reshape(*array.shape, 2)


def compare_values(reference: Array, candidate: Array) -> PairStatistics:
    """The statistics of two tensors of one dtype and shape."""
    from diag.numerics.statistics import compare  # numba, which takes 0.3 s to import: only where values are compared

    return compare(as_real(reference), as_real(candidate))


def num_different_bits(a: Array, b: Array) -> int:
    """Elements, of two tensors of one dtype and shape, that differ in any bit."""
    return int(np.count_nonzero(_bits(a) != _bits(b)))


def lane_figures(lane: str, array: Array) -> LaneFigures:
    array = as_real(array)
    with np.errstate(invalid="ignore"):  # widening a signalling NaN raises the flag
        values = array.astype(np.float64).reshape(-1)
    finite = values[np.isfinite(values)]
    return LaneFigures(
        lane=lane,
        dtype=array.dtype.name,
        shape=array.shape,
        minimum=float(finite.min()) if finite.size else math.nan,
        maximum=float(finite.max()) if finite.size else math.nan,
        mean=float(finite.mean()) if finite.size else math.nan,
        rms=_rms(finite),
        num_nan=int(np.isnan(values).sum()),
        num_inf=int(np.isinf(values).sum()),
        num_subnormal=int(((values != 0) & (np.abs(values) < _smallest_normal(array))).sum()),
        num_zero=int((values == 0).sum()),
    )


def worst_elements(reference: Array, candidate: Array, number: int) -> list[Element]:
    """The elements whose bits differ: first where one is a NaN or infinite and the other is not, then by size.

    The size is the distance in ULP, of integers the difference. Equal ones come in the order of the index.
    """
    reference, candidate = as_real(reference), as_real(candidate)
    differs = _bits(reference) != _bits(candidate)
    distances: Array | None = None
    if _is_float(reference):
        distances = ulp_distance(reference, candidate).reshape(-1)
        kinds = classify(reference, candidate).reshape(-1)
        broken = np.isin(kinds, (PairClass.NAN_NUMBER, PairClass.INF_OPPOSITE, PairClass.INF_FINITE))
        size = np.where(broken, np.inf, distances.astype(np.float64))
    else:
        size = np.abs(candidate.astype(np.float64) - reference.astype(np.float64)).reshape(-1)  # only to rank by
    largest = _largest(np.where(differs, size, -np.inf), number)
    return [
        Element(
            index=_index(i, reference.shape),
            ulp=None if distances is None or distances[i] < 0 else int(distances[i]),
            values=(_value(reference.flat[i]), _value(candidate.flat[i])),
        )
        for i in largest
        if differs[i]
    ]


def largest_elements(array: Array, number: int) -> list[Element]:
    """NaN first, then by magnitude."""
    array = as_real(array)
    with np.errstate(invalid="ignore"):
        size = np.abs(array.astype(np.float64)).reshape(-1)
    # A NaN ranks above an infinity: the one in place of the other, and every finite size below both.
    rank = np.where(np.isnan(size), np.inf, np.where(np.isinf(size), np.finfo(np.float64).max, size))
    return [Element(_index(i, array.shape), None, (_value(array.flat[i]),)) for i in _largest(rank, number)]


def _largest(key: Array, number: int) -> list[int]:
    """Indices of the largest, the first of equal ones first; no more than what is sorted is held."""
    number = min(number, key.size)
    if number == 0:
        return []
    threshold = np.partition(key, key.size - number)[key.size - number]
    above = np.flatnonzero(key > threshold)
    largest = np.concatenate((above, np.flatnonzero(key == threshold)[: number - above.size]))
    return [int(i) for i in largest[np.lexsort((largest, -key[largest]))]]


def _bits(array: Array) -> Array:
    """Each element's bits as one number, flat; 16 bytes of complex128 as two."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(f"u{min(flat.itemsize, 8)}")


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16


def _smallest_normal(array: Array) -> float:
    return format_of(array.dtype).smallest_normal if _is_float(array) else 0.0


def _rms(values: Array) -> float:
    """In units of the largest, whose square need not be a float64."""
    largest = float(np.abs(values).max(initial=0.0))
    if not values.size or largest == 0.0:
        return 0.0 if values.size else math.nan
    return largest * math.sqrt(float(np.mean(np.square(values / largest))))


def _value(value: Any) -> ElementValue:
    return ElementValue(str(value), value.tobytes()[::-1].hex())


def _index(flat: int, shape: Index) -> Index:
    return tuple(int(i) for i in np.unravel_index(flat, shape)) if shape else ()
