"""How far apart single elements are, in ULP: histograms of tensors that the trace keeps of the step, and the worst."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from diag.common.wording import counted, figure
from diag.report.path import index_of_first, is_beyond, normwise
from diag.report.words import UNRELATED, moment_of, name_of, ulp_text
from diag.verdict.findings import Observation
from diag.verdict.result import RunResult
from traces.encoding import Array
from traces.inspector.elements import Element, compare_values, worst_elements
from traces.inspector.judgements import tensor_of_unit
from traces.reader import TraceReader
from traces.views.histogram import bins_of

MOST = 6
"""Tensors: that of the first divergence, then those that are wrong, then those furthest apart."""
MOST_ELEMENTS = 1 << 22
"""Of all of them: 4 million take 0.2 s to compare."""
MOST_WORST = 4


@dataclass(frozen=True)
class HistogramBar:
    """width: in hundredths of the widest; at least 1 where there is anything."""

    distance: str
    count: str
    share: str
    width: int


@dataclass(frozen=True)
class WorstOf:
    """An element: its index, and of both places its value and its bits."""

    index: str
    values: tuple[tuple[str, str], ...]
    apart: str


@dataclass(frozen=True)
class UlpHistogram:
    unit: str
    moment: str
    summary: str
    bars: tuple[HistogramBar, ...]
    elements: tuple[WorstOf, ...]


def histograms_of(result: RunResult, trace: TraceReader | None) -> tuple[UlpHistogram, ...]:
    """Of the step of the path, as far as the trace keeps its tensors."""
    if trace is None or not result.path or result.path[0].where.step not in trace.steps:
        return ()
    found, left = [], MOST_ELEMENTS
    for observation in _by_interest(result):
        size = prod(observation.shape)
        pair = _values(trace, observation) if size <= left else None
        if pair is None:
            continue
        left -= size
        histogram = _histogram(observation, *pair)
        if histogram.bars:
            found.append(histogram)
        if len(found) == MOST:
            break
    return tuple(found)


def _by_interest(result: RunResult) -> list[Observation]:
    first = index_of_first(result)
    rows = range(len(result.path))
    order = sorted(rows, key=lambda i: (i != first, not is_beyond(result.path[i]), -normwise(result.path[i])))
    return [result.path[i] for i in order if result.path[i].differs]


def _values(trace: TraceReader, observation: Observation) -> tuple[Array, Array] | None:
    """Of both places, each on its own values; None where they are not kept."""
    where, lanes = observation.where, trace.layout.lanes[:2]
    name = tensor_of_unit(f"{where.unit}:{where.name}", where.layer or "", where.variable or "")
    if name is None or not {(lane, *name) for lane in lanes} <= trace.kept_in(where.step):
        return None
    reference, candidate = (trace.tensor(where.step, lane, *name) for lane in lanes)
    return (reference, candidate) if reference.shape == candidate.shape else None


def _histogram(observation: Observation, reference: Array, candidate: Array) -> UlpHistogram:
    pair = compare_values(reference, candidate)
    bins = bins_of(pair)
    widest = max((bin.share for bin in bins), default=0.0)
    bars = [
        HistogramBar(b.distance, f"{b.count:,}" if b.count else "", f"{figure(100 * b.share)}%" if b.count else "",
            max(1, round(100 * b.share / widest)) if b.count else 0)
        for b in bins
    ]  # fmt: skip
    furthest = f"at most by {ulp_text(pair.max)}" if pair.max <= UNRELATED else "some of them unrelated"
    furthest = "some of them not finite" if pair.classes.num_mismatched else furthest
    summary = f"{pair.num_unequal:,} of {counted(pair.size, 'element')} differ, {furthest}"
    elements = tuple(_elements(worst_elements(reference, candidate, MOST_WORST)))
    return UlpHistogram(name_of(observation.where), moment_of(observation.where), summary, tuple(bars), elements)


def _elements(worst: list[Element]) -> Iterator[WorstOf]:
    for each in worst:
        index = "[" + ", ".join(map(str, each.index)) + "]"
        apart = "-" if each.ulp is None else ulp_text(each.ulp)
        yield WorstOf(index, tuple((value.text, f"0x{value.bits}") for value in each.values), apart)
