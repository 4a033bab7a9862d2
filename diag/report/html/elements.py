"""The worst elements: where, both values, and their bits."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes  # noqa: F401  makes bfloat16 known by name
import numpy as np

from diag.report.words import moment_of, name_of, over_bound
from diag.verdict.findings import Observation
from diag.verdict.result import RunResult

MOST = 20


@dataclass(frozen=True)
class WorstElement:
    unit: str
    moment: str
    error: str
    index: str
    values: tuple[str, str]
    bits: tuple[str, str]


def elements_of(result: RunResult) -> tuple[WorstElement, ...]:
    """Of each unit with a large error, the element in which the two places are furthest apart."""
    first = (result.first_bit_difference,) if result.first_bit_difference is not None else ()
    found: dict[tuple[object, ...], WorstElement] = {}
    for observation in (*result.worst, *first):
        element = _element(observation)
        if element is not None:
            found.setdefault((*observation.where.location, observation.where.name), element)
    return tuple(found.values())[:MOST]


def _element(observation: Observation) -> WorstElement | None:
    seen = observation.propagated
    if seen is None or seen.worst_index is None or seen.worst_values is None:
        return None
    reference, candidate = seen.worst_values
    return WorstElement(
        name_of(observation.where),
        moment_of(observation.where),
        over_bound(observation.excess) if observation.bound is not None else "not judged",
        "[" + ", ".join(map(str, seen.worst_index)) + "]",
        (f"{reference:.9g}", f"{candidate:.9g}"),
        (_bits(reference, seen.dtype), _bits(candidate, seen.dtype)),
    )


def _bits(value: float, dtype: str) -> str:
    """As hexadecimal digits; "" of what is no floating number."""
    try:
        kind = np.dtype(dtype)
        array = np.array(value).astype(kind)
    except (TypeError, ValueError):
        return ""
    if kind.kind in "biu" or kind.itemsize > 8:
        return ""
    return f"0x{int(array.view(f'u{kind.itemsize}')):0{2 * kind.itemsize}x}"
