"""The ULP histogram of two tensors as rows, one for each power of two that anything lies in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from diag.numerics.figures import HISTOGRAM_EDGES, PairStatistics


@dataclass(frozen=True)
class Bin:
    """distance: in ULP, as a person reads it; "..." for three or more empty bins in a row.  share: of all elements."""

    distance: str
    count: int
    share: float


def bins_of(pair: PairStatistics) -> list[Bin]:
    """From the first bin that is filled to the last; empty where no element differs."""
    counts = [int(count) for count in pair.histogram]
    if not pair.num_unequal or not any(counts):
        return []
    filled = [bin for bin, count in enumerate(counts) if count]
    bins = [bin for bin in range(filled[0], filled[-1] + 1) if counts[bin] or HISTOGRAM_EDGES[bin] >= 1]
    total, found = sum(counts), []
    for is_empty, run in groupby(bins, lambda bin: counts[bin] == 0):
        of_run = list(run)
        if is_empty and len(of_run) > 2:
            found.append(Bin("...", 0, 0.0))
            continue
        found += [Bin(_edge_text(bin), counts[bin], counts[bin] / total) for bin in of_run]
    return found


def _edge_text(bin: int) -> str:
    """The distances of a bin; they are whole numbers."""
    first = HISTOGRAM_EDGES[bin]
    if first <= 1:
        return f"{int(first)}"
    exponent = int(first).bit_length() - 1
    return f"{int(first)} to {2 * int(first) - 1}" if first < 1024 else f"2^{exponent} to 2^{exponent + 1}"
