"""The curves and the map of the page, as numbers that the template and the page's script draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diag.verdict.chaos import Curve
from diag.verdict.result import RunResult
from traces.reader import TraceReader

COLUMNS = 240
"""Of the map: what lies in one of them is shown by its largest error."""
POINTS = 600
WIDTH, HEIGHT = 800.0, 220.0
"""Of the chart of losses, in units of its own."""
HOTTEST = 5
NOT_TAKEN = "-"


@dataclass(frozen=True)
class HeatMap:
    """rows: of each layer its name and a letter a column: 0 within the bound to 5, "-" where nothing was taken."""

    rows: tuple[tuple[str, str], ...]
    first_step: int
    last_step: int


@dataclass(frozen=True)
class LossCurve:
    name: str
    points: str


@dataclass(frozen=True)
class LossChart:
    """band: the outline of what the reference's loss becomes where it is changed by one rounding; "" if not known."""

    curves: tuple[LossCurve, ...]
    lowest: str
    highest: str
    first_step: int
    last_step: int
    num_not_finite: int
    band: str
    num_twins: int


def heat_map_of(trace: TraceReader) -> HeatMap | None:
    """None where no layer was ever held against its bound."""
    excess, steps = np.asarray(trace.excess), trace.steps
    if not len(steps) or not excess.size or not np.any(np.isfinite(excess) | np.isinf(excess)):
        return None
    edges = np.unique(np.linspace(0, len(steps), min(COLUMNS, len(steps)) + 1).astype(int))
    with np.errstate(invalid="ignore", divide="ignore"):
        filled = np.where(np.isnan(excess), -np.inf, excess)
        largest = np.maximum.reduceat(filled, edges[:-1], axis=0)
        levels = np.where(largest > 1, np.minimum(HOTTEST, 1 + np.floor(np.log10(np.maximum(largest, 1)))), 0)
    rows = [
        (layer, "".join(NOT_TAKEN if value == -np.inf else str(int(level)) for value, level in zip(*each, strict=True)))
        for layer, each in zip(trace.layout.layers, zip(largest.T, levels.T, strict=True), strict=True)
    ]
    taken = tuple((layer, cells) for layer, cells in rows if set(cells) != {NOT_TAKEN})
    return HeatMap(taken, steps[0], steps[-1])


def loss_chart_of(result: RunResult) -> LossChart | None:
    losses = {name: values for name, values in result.losses.items() if values}
    finite = [value for values in losses.values() for value in values if math.isfinite(value)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    curves = tuple(LossCurve(name, _points(values, low, high)) for name, values in losses.items())
    num_steps = max(map(len, losses.values()))
    lost = sum(not math.isfinite(value) for values in losses.values() for value in values)
    last = result.first_step + num_steps - 1
    twins = () if result.twins is None else result.twins.twins
    band = _band(losses.get("reference", []), twins, low, high)
    return LossChart(curves, f"{low:.4g}", f"{high:.4g}", result.first_step, last, lost, band, len(twins))


def _band(reference: Sequence[float], twins: Sequence[Curve], low: float, high: float) -> str:
    """As far from the reference's loss as the furthest twin, up and down; beyond the chart it is cut."""
    if not twins or not reference or any(len(twin.loss_difference) != len(reference) for twin in twins):
        return ""
    furthest = np.nanmax([twin.loss_difference for twin in twins], axis=0, initial=0.0)
    losses = np.nan_to_num(np.asarray(reference), nan=low, posinf=high, neginf=low)
    with np.errstate(invalid="ignore"):  # a loss of 0 that a twin has not: as far as the chart goes
        room = np.fmin(np.abs(losses) * furthest, high - low)
    edges = np.unique(np.linspace(0, len(losses), min(POINTS // 2, len(losses)) + 1).astype(int))[:-1]
    upper = np.maximum.reduceat(np.minimum(losses + room, high), edges)
    lower = np.minimum.reduceat(np.maximum(losses - room, low), edges)
    wide, tall = max(len(losses) - 1, 1), (high - low) or 1.0
    way = [*zip(edges, upper, strict=True), *reversed(list(zip(edges, lower, strict=True)))]
    return " ".join(f"{WIDTH * i / wide:.1f},{HEIGHT * (1 - (value - low) / tall):.1f}" for i, value in way)


def _points(values: Sequence[float], low: float, high: float) -> str:
    """As SVG takes them: of many steps the least and the largest of each stretch."""
    kept: list[int] = []
    for each in np.array_split(np.arange(len(values)), min(POINTS // 2, len(values))):
        finite = [int(i) for i in each if math.isfinite(values[i])]
        if finite:
            ends = {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
            kept += sorted(ends)
    wide, tall = max(len(values) - 1, 1), (high - low) or 1.0
    return " ".join(f"{WIDTH * i / wide:.1f},{HEIGHT * (1 - (values[i] - low) / tall):.1f}" for i in kept)
