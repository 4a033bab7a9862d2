"""What the page shows, as plain records of text; the template only lays them out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from diag.common.modes import FIGURE
from diag.common.wording import figure
from diag.report import weights
from diag.report.html.distances import UlpHistogram, histograms_of
from diag.report.html.elements import WorstElement, elements_of
from diag.report.html.figures import HeatMap, LossChart, heat_map_of, loss_chart_of
from diag.report.html.ops import OpRow, op_rows_of
from diag.report.issue import SWITCHES, VERSIONS, issue_of
from diag.report.made_at import made_at
from diag.report.next_commands import next_commands_of
from diag.report.path import is_beyond, normwise
from diag.report.to_do import Action, to_do
from diag.report.verbose import cautions, notes_of
from diag.report.words import num_judged, over_bound, sentence
from diag.verdict.attribution import outcome
from diag.verdict.findings import Observation
from diag.verdict.result import SIMULATED, RunResult
from traces.described import DescribedOp
from traces.reader import TraceReader

HOTTEST = 5
PHASES = ("forward", "backward", "optimizer")


@dataclass(frozen=True)
class PathUnit:
    """A layer of the step in one phase.  level: 0 within the bound, then one more for each power of ten beyond it."""

    layer: str
    error: str
    apart: str
    level: int
    is_first: bool
    line: str


@dataclass(frozen=True)
class SwitchRow:
    name: str
    outcome: str
    figures: str


@dataclass(frozen=True)
class Page:
    sentence: str
    made_at: str
    is_bad: bool
    banners: tuple[str, ...]
    chips: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    actions: tuple[Action, ...]
    step: int | None
    path: tuple[tuple[str, tuple[PathUnit, ...]], ...]
    weights: tuple[tuple[str, ...], ...]
    heat_map: HeatMap | None
    figure: str
    mode: str
    losses: LossChart | None
    switches: tuple[SwitchRow, ...]
    ops: tuple[OpRow, ...]
    ops_left_out: int
    histograms: tuple[UlpHistogram, ...]
    elements: tuple[WorstElement, ...]
    cautions: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    issue: str


def page_values(result: RunResult, trace: TraceReader | None) -> Page:
    commands = next_commands_of(result, trace.command if trace is not None else ())
    described = {} if trace is None else trace.described_ops()
    ops, left_out = op_rows_of(result, trace, described)
    return Page(
        sentence=sentence(result),
        made_at="" if result.first_divergence is None else made_at(result.first_divergence),
        is_bad=result.first_divergence is not None or bool(result.reference_errors) or not num_judged(result),
        banners=tuple(_banners(result)),
        chips=tuple(_chips(result)),
        versions=tuple(_versions(result)),
        actions=tuple(to_do(result, commands)),
        step=result.path[0].where.step if result.path else None,
        path=tuple(_path(result, _lines_of_layers(described.values()))),
        weights=() if result.weights is None else tuple(weights.rows_of(result.weights)),
        heat_map=None if trace is None else heat_map_of(trace),
        figure=FIGURE[result.mode],
        mode=result.mode,
        losses=loss_chart_of(result),
        switches=tuple(_switches(result)),
        ops=ops,
        ops_left_out=left_out,
        histograms=histograms_of(result, trace),
        elements=elements_of(result),
        cautions=tuple(cautions(result)),
        notes=tuple(notes_of(result)),
        issue=issue_of(result),
    )


def level_of(excess: float) -> int:
    """How hot an error over its bound is: a correctly rounded op sits at its bound, so colour starts at 1."""
    if math.isnan(excess) or excess <= 1:
        return HOTTEST if math.isnan(excess) else 0
    return HOTTEST if math.isinf(excess) else min(HOTTEST, 1 + int(math.log10(excess)))


def _banners(result: RunResult) -> list[str]:
    lines = [note.text for note in result.notes if note.kind == SIMULATED]
    simulated = [f"{lane.name} {lane.place}" for lane in result.lanes if lane.is_simulated]
    if simulated and not lines:
        lines = [f"SIMULATED: {' and '.join(simulated)} is no real device; a fault is planted in it"]
    return lines if num_judged(result) else [*lines, "NOTHING WAS JUDGED: no output was held against float64 truth"]


def _chips(result: RunResult) -> list[tuple[str, str]]:
    chips = [(lane.name, lane.place) for lane in result.lanes]
    chips += [(name, text) for name, text in (("model", result.model), ("data", result.data)) if text]
    return [*chips, ("steps", f"{result.steps:,}")]


def _versions(result: RunResult) -> list[tuple[str, str]]:
    """What the places have in common once, and else each lane's."""
    versions = []
    for name in (*VERSIONS, *SWITCHES):
        values = {lane.name: str(lane.environment[name]) for lane in result.lanes if name in lane.environment}
        if len(set(values.values())) == 1:
            versions.append((name, next(iter(values.values()))))
        else:
            versions += [(f"{name} of the {lane}", value) for lane, value in values.items()]
    return versions


def _lines_of_layers(ops: Iterable[DescribedOp]) -> dict[str, str]:
    """Of each layer the file and the number of the first line that made one of its ops."""
    lines: dict[str, str] = {}
    for op in ops:
        if op.line is not None and op.layer is not None and op.phase != "optimizer":
            lines.setdefault(op.layer, f"{PurePath(op.line.file).name}:{op.line.line}")
    return lines


def _path(result: RunResult, lines: Mapping[str, str]) -> list[tuple[str, tuple[PathUnit, ...]]]:
    """Each phase with its layers, in the order in which they run; of a layer the worst of its outputs."""
    first = result.first_divergence.where if result.first_divergence is not None else None
    rows = []
    for phase in PHASES:
        layers: dict[str, list[Observation]] = {}
        for observation in result.path:
            if observation.where.phase == phase:
                layers.setdefault(observation.where.layer or "the step", []).append(observation)
        is_here = first is not None and first.phase == phase
        units = [
            _unit(layer, found, is_here and first is not None and first.layer == layer, lines)
            for layer, found in layers.items()
        ]
        if units:
            rows.append((phase, tuple(units)))
    return rows


def _unit(layer: str, observations: Sequence[Observation], is_first: bool, lines: Mapping[str, str]) -> PathUnit:
    worst = max(observations, key=lambda o: (is_beyond(o), o.excess))
    difference = max(map(normwise, observations))
    error = over_bound(worst.excess) if worst.bound is not None else worst.verdict.value
    apart = "not finite" if math.isinf(difference) else figure(difference)
    if all(o.propagated is None for o in observations):
        apart = "not watched"
    line = "" if worst.where.phase == "optimizer" else lines.get(layer.split("+")[0], "")
    return PathUnit(layer, error, apart, level_of(worst.excess) if is_beyond(worst) else 0, is_first, line)


def _switches(result: RunResult) -> list[SwitchRow]:
    found = result.attribution
    if found is None:
        return []
    trials = [(trial, outcome(trial, found.baseline).value) for trial in found.trials]
    rows = [("as recorded", "wrong", found.baseline), *((trial.name, what, trial) for trial, what in trials)]
    return [
        SwitchRow(name, what, ", ".join(f"{measure} {over_bound(value)}" for measure, value in trial.measured.items()))
        for name, what, trial in rows
    ]
