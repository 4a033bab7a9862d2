"""The step in at most seven rows: where the error comes in, what it becomes, and what it does to the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from diag.common.wording import counted, percent
from diag.report.path import index_of_first, is_beyond, normwise
from diag.report.words import name_of, over_bound
from diag.verdict.findings import Observation, Verdict
from diag.verdict.result import RunResult

MOST_ROWS = 7


@dataclass(frozen=True)
class Row:
    """One unit of the path, or several that are left out."""

    name: str
    phase: str = ""
    error: str = ""
    apart: str = ""
    is_first: bool = False
    is_beyond: bool = False


def rows_of(result: RunResult) -> list[Row]:
    """Empty where the two places do not differ."""
    path = result.path
    if not any(o.differs or is_beyond(o) for o in path):
        return []
    first = index_of_first(result)
    kept = _kept(path, first)
    rows, previous = [], -1
    for index in kept:
        rows += _gap(path[previous + 1 : index])
        rows.append(_row(path[index], index == first and result.first_fault is not None))
        previous = index
    return [*rows, *_gap(path[previous + 1 :])]


def _kept(path: Sequence[Observation], first: int) -> list[int]:
    """So many that with the gaps between them there are no more than seven rows."""
    loss = max((i for i, o in enumerate(path) if o.where.phase == "forward"), default=len(path) - 1)
    largest = sorted(range(len(path)), key=lambda i: (not is_beyond(path[i]), -path[i].excess, -normwise(path[i])))
    last = len(path) - 1
    furthest = [
        max(
            (i for i in range(len(path)) if path[i].where.phase == phase), key=lambda i: normwise(path[i]), default=last
        )
        for phase in ("backward", "optimizer")
    ]
    kept: list[int] = []
    for index in dict.fromkeys([first, loss, *furthest, *largest]):
        with_it = sorted([*kept, index])
        if len(with_it) + _num_gaps(with_it, len(path)) <= MOST_ROWS:
            kept = with_it
    return kept


def _num_gaps(kept: Sequence[int], length: int) -> int:
    edges = [-1, *kept, length]
    return sum(after - before > 1 for before, after in pairwise(edges))


def _gap(left_out: Sequence[Observation]) -> list[Row]:
    """What lies between two rows, as one."""
    if not left_out:
        return []
    if len(left_out) == 1:
        return [_row(left_out[0], False)]
    phases = [phase for phase, _ in groupby(o.where.phase for o in left_out)]
    worst, furthest = max(o.excess for o in left_out), max(map(normwise, left_out))
    name = f"... {counted(len(left_out), 'more output')}"
    return [
        Row(
            name,
            " to ".join(dict.fromkeys((phases[0], phases[-1]))),
            f"<= {over_bound(worst)}" if worst else "0",
            _apart(furthest),
        )
    ]


def _row(observation: Observation, is_first: bool) -> Row:
    name, phase = name_of(observation.where), observation.where.phase
    apart = _apart(normwise(observation)) if observation.propagated is not None else "-"
    return Row(name, phase, _error(observation), apart, is_first, is_beyond(observation))


def _error(observation: Observation) -> str:
    if observation.bound is not None:
        return over_bound(observation.bound.excess)
    return "same bits" if observation.verdict is Verdict.IDENTICAL else "not judged"


def _apart(difference: float) -> str:
    """The relative difference of the two places, in norm."""
    if math.isinf(difference):
        return "not finite"
    return percent(difference) if difference else "0"
