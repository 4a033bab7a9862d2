"""Growth curves as plain characters: a logarithmic axis, one column for each few steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from diag.verdict.chaos import Trajectories

HEIGHT = 12
LABEL = 6  # columns of "1e-12 "
CANDIDATE, TWINS, ENVELOPE, BEYOND = "o", ":", "-", "^"


def plot(trajectories: Trajectories, width: int) -> list[str]:
    """Lines of at most `width` characters; empty where no distance is above zero.

    The twins are drawn from the least to the greatest, the envelope above them, the candidate on top of
    both.  A column that stands for several steps shows the largest distance of each lane there.  What is
    not finite stands in the top row; what is zero is not drawn.
    """
    num_steps = len(trajectories.candidate.distance)
    columns = min(max(width - LABEL - 1, 10), max(num_steps, 1))
    candidate = _binned(trajectories.candidate.distance, columns)
    twins = [_binned(twin.distance, columns) for twin in trajectories.twins]
    envelope = _binned(trajectories.envelope, columns)
    scale = _Scale.of([*candidate, *envelope, *(d for twin in twins for d in twin)])
    if scale is None:
        return []
    wide = max(1, (width - LABEL - 1) // columns)
    grid = [[" "] * columns for _ in range(HEIGHT)]
    for column in range(columns):
        rows = [row for twin in twins if (row := scale.row(twin[column])) is not None]
        for row in range(min(rows), max(rows) + 1) if rows else ():
            grid[row][column] = TWINS
        for value, mark in ((envelope[column], ENVELOPE), (candidate[column], CANDIDATE)):
            row = scale.row(value)
            if row is not None:
                grid[row][column] = mark if math.isfinite(value) else BEYOND
    lines = [f"{scale.label(row):>{LABEL}}|" + "".join(c.ljust(wide) for c in grid[row]) for row in range(HEIGHT)][::-1]
    last = str(trajectories.first_step + num_steps - 1)
    axis = "-" * (columns * wide)
    room = max(len(axis) - len(last), 1)
    return [*lines, f"{'':>{LABEL}}+{axis}", f"{'':>{LABEL}} " + f"{trajectories.first_step} step".ljust(room) + last]


class _Scale:
    """Rows of a logarithmic axis, whole powers of ten at both ends."""

    def __init__(self, lowest: int, highest: int) -> None:
        self.lowest, self.highest = lowest, highest

    @classmethod
    def of(cls, values: Sequence[float]) -> _Scale | None:
        logs = [math.log10(value) for value in values if 0 < value < math.inf]
        if not logs:
            return None
        lowest = math.floor(min(logs))
        return cls(lowest, max(math.ceil(max(logs)), lowest + 1))

    def row(self, value: float) -> int | None:
        """None where the value has no place: zero, or not a number."""
        if math.isnan(value) or value <= 0:
            return None
        if math.isinf(value):
            return HEIGHT - 1
        return round((math.log10(value) - self.lowest) / (self.highest - self.lowest) * (HEIGHT - 1))

    def label(self, row: int) -> str:
        """A power of ten beside the row that is nearest to it, and no more than one a row."""
        found = [power for power in range(self.lowest, self.highest + 1) if self.row(10.0**power) == row]
        return f"1e{found[0]} " if found else ""


def _binned(values: Sequence[float], columns: int) -> list[float]:
    """The largest value of each column's steps; a NaN among them makes it NaN."""
    edges = [round(column * len(values) / columns) for column in range(columns + 1)]
    bins = [values[start:end] for start, end in pairwise(edges)]
    return [math.nan if any(map(math.isnan, each)) else max(each) for each in bins if each]
