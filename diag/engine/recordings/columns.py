"""The rows of a trace's op and unit tables: what is kept of each observation, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import chain
from operator import attrgetter

import numpy as np

from diag.numerics.figures import Bound, Statistics
from diag.verdict.findings import Observation
from traces.schema import Column, op_columns

_FIGURES = tuple(
    f.name for f in fields(Statistics) if f.name not in ("dtype", "histogram", "worst_index", "worst_values", "classes")
)
_SOURCES = ("propagated", "local", "reference_local")
_COLUMNS_OF = {source: tuple(f"{source}_{figure}" for figure in _FIGURES) for source in _SOURCES}
COLUMNS = tuple(chain.from_iterable(_COLUMNS_OF.values()))
_figures_of = attrgetter(*_FIGURES)
# Of an op besides: the largest relative difference of its inputs, where its own comes from, what flipped.
OP_COLUMNS = (*op_columns((*COLUMNS, "inherited")), Column("relation", "text"), Column("flipped", "text"))


def columns_of(observations: Sequence[Observation]) -> dict[str, Sequence[object]]:
    """What the rows of ops and of units have in common, column by column: a step may have thousands of rows."""
    places, bounds = [o.where for o in observations], [o.bound for o in observations]
    columns: dict[str, Sequence[object]] = {
        "step": [where.step for where in places],
        "phase": [where.phase for where in places],
        "layer": [where.layer for where in places],
        "variable": [where.variable for where in places],
        "dtype": [o.dtype for o in observations],
        "shape": ["x".join(map(str, o.shape)) for o in observations],
        "bound": [_allowed(bound) for bound in bounds],
        "excess": [bound.excess if bound else None for bound in bounds],
        "verdict": [o.verdict.value for o in observations],
    }
    for source, names in _COLUMNS_OF.items():
        figures = np.full((len(observations), len(names)), np.nan)
        for row, observation in zip(figures, observations, strict=True):
            statistics = getattr(observation, source)
            if statistics is not None:
                row[:] = _figures_of(statistics)
        columns.update(zip(names, figures.T, strict=True))
    return columns


def columns_of_ops(ops: Sequence[Observation]) -> dict[str, Sequence[object]]:
    return {
        "index": [o.where.op_index for o in ops],
        "output": [o.where.output for o in ops],
        "op_type": [o.where.op_type for o in ops],
        "inherited": [o.inherited for o in ops],
        "relation": [o.relation.value for o in ops],
        "flipped": [o.flipped for o in ops],
    }


def _allowed(bound: Bound | None) -> float | None:
    """The largest error the bound allowed, in the units of its rule."""
    if bound is None or not 0 < bound.excess < np.inf:
        return None
    return bound.max / bound.excess
