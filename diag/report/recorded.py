"""What a trace says of its run, by itself: the result it ended with, or what its tables show of one that was killed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from diag.common.modes import mode_in
from diag.common.wording import counted
from diag.errors import UserError
from diag.numerics.figures import HISTOGRAM_EDGES, Bound, ClassCounts, PairStatistics, Statistics
from diag.numerics.op_classes import ErrorClass
from diag.report import json_report
from diag.report.made_at import with_lines
from diag.report.stored import KEY, result_of
from diag.verdict.findings import PHASE_ORDER, Divergence, Observation, Verdict, Where
from diag.verdict.ladder import first_difference, overall
from diag.verdict.result import UNFINISHED, Judged, LaneInfo, Notice, RunResult
from traces.reader import TraceReader

FIGURES = tuple(f.name for f in fields(Statistics) if f.name not in (
    "dtype", "histogram", "worst_index", "worst_values", "classes",
))  # fmt: skip
SIMULATED_PLACES = ("sim:", "rewrite:")
KILLED = "the run ended before its cause was looked for"


def recorded_result(trace: TraceReader) -> RunResult:
    """The result of a trace's run.

    Raises:
        UserError: its report is not one of ours.
    """
    document = trace.report() or {}
    result = result_of(document[KEY]) if isinstance(document.get(KEY), dict) else _from_tables(trace)
    if result.first_divergence is not None and not result.first_divergence.lines:  # of a run that was killed
        result = with_lines(result, trace.described_ops())
    numbers = list(dict.fromkeys(trace.steps))
    losses = {lane: _last_of_each(trace.steps, values) for lane, values in trace.losses.items()}
    result = replace(result, steps=len(numbers), losses=losses, files=_files(trace.path))
    if not result.command:
        result = replace(result, command=tuple(trace.command), created=trace.created)
    planned = trace.layout.steps
    if planned is not None and len(numbers) < planned:
        result = replace(result, notes=(*result.notes, _unfinished(len(numbers), planned)))
    return result


def recorded_report(trace: TraceReader, result: RunResult) -> Mapping[str, object]:
    """report.json as the run wrote it; of a run that was killed, what there is."""
    document = {name: value for name, value in (trace.report() or {}).items() if name != KEY}
    return document if document.get("steps") == result.steps else json_report.report(result)


def _unfinished(num_steps: int, planned: int) -> Notice:
    text = f"the run did not finish: of {counted(planned, 'step')} {num_steps:,} are whole in the trace"
    return Notice(UNFINISHED, text)


def _last_of_each(steps: list[int], values: np.ndarray) -> list[float]:
    """One value a step, the last where a step was written again after a rewind."""
    return list(dict(zip(steps, map(float, values), strict=False)).values())


def _files(path: Path) -> dict[str, str]:
    beside = {"report": path.with_name("report.json"), "html": path.with_name("report.html")}
    return {"trace": str(path), **{name: str(file) for name, file in beside.items() if file.exists()}}


# -- a run without a report ------------------------------------------------------------------------


def _from_tables(trace: TraceReader) -> RunResult:
    """From the judgements step by step: what is wrong and where; causes are found later than that."""
    units, ops = _observations(trace.unit_table()), _observations(trace.op_table())
    wrong = sorted((o for o in (*ops, *units) if o.verdict is Verdict.DIVERGENCE), key=lambda o: o.where.sort_key)
    divergences = _reported(trace) or tuple(_divergence(o) for o in _one_a_location(wrong))
    at = divergences[0].where.step if divergences else max((o.where.step for o in units), default=0)
    judged = [sum(o.verdict is not Verdict.UNJUDGED for o in each) for each in (units, ops)]
    unjudged = sum(o.verdict is Verdict.UNJUDGED for o in (*units, *ops))
    difference = first_difference([*units, *ops])
    return RunResult(
        verdict=overall(divergences, difference is not None),
        first_divergence=divergences[0] if divergences else None,
        divergences=divergences,
        first_bit_difference=difference,
        first_nonfinite=None,
        amplifiers=(),
        steps=0,
        lanes=tuple(_lane(lane, trace.environment(lane)) for lane in trace.layout.lanes),
        losses={},
        path=tuple(sorted((o for o in units if o.where.step == at and o.where.unit == "layer"), key=_in_execution)),
        microscope=tuple(o for o in ops if o.where.step == at),
        worst=(),
        judged=Judged(judged[0], judged[1], unjudged, tuple(sorted({o.where.step for o in ops}))),
        mode=mode_in(trace.settings),
        first_step=min(trace.steps, default=0),
    )


def _reported(trace: TraceReader) -> tuple[Divergence, ...]:
    """The divergences of a report that holds no record, as those of other versions."""
    try:
        return tuple(map(Divergence.from_dict, (trace.report() or {}).get("divergences", ())))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{trace.path}: its report is not one of ours: {type(error).__name__} {error}") from error


def _in_execution(observation: Observation) -> tuple[int, int]:
    """Rows come layer by layer; gradients are computed from the last layer to the first."""
    where = observation.where
    return PHASE_ORDER[where.phase], -where.order if where.phase == "backward" else where.order


def _lane(name: str, environment: Mapping[str, Any]) -> LaneInfo:
    place = str(environment.get("place", name))
    return LaneInfo(name, place, place.startswith(SIMULATED_PLACES), dict(environment))


def _one_a_location(observations: list[Observation]) -> list[Observation]:
    found: dict[tuple[Any, ...], Observation] = {}
    for observation in observations:
        found.setdefault(observation.where.location, observation)
    return list(found.values())


def _divergence(observation: Observation) -> Divergence:
    return Divergence(observation.where, "unknown", "unknown", observation.excess, summary=KILLED)


def _observations(table: Mapping[str, np.ndarray]) -> list[Observation]:
    """The rows of the op or the unit table; figures that a trace does not name are left out."""
    columns = {name: values.tolist() for name, values in table.items()}
    num_rows = len(columns.get("step", ()))
    return [_observation({name: values[row] for name, values in columns.items()}, row) for row in range(num_rows)]


def _observation(row: Mapping[str, Any], order: int) -> Observation:
    unit, _, name = str(row.get("unit", "op")).partition(":")
    is_op = "unit" not in row
    phase = row["phase"] if row.get("phase") in ("forward", "backward", "optimizer") else "forward"
    where = Where(
        step=int(row["step"]),
        phase=phase,
        unit=unit,
        layer=row.get("layer") or None,
        variable=row.get("variable") or None,
        op_type=row.get("op_type") or None,
        op_index=int(row.get("index", -1)) if is_op else None,
        output=max(int(row.get("output", 0)), 0),
        name=name,
        order=order,
    )
    excess = float(row["excess"])
    bound = None if math.isnan(excess) else Bound(ErrorClass.COMPOSITE, excess, math.nan, math.nan, "")
    verdict = Verdict(row["verdict"]) if row["verdict"] in {each.value for each in Verdict} else Verdict.UNJUDGED
    return Observation(where, _shape(row["shape"]), row["dtype"], verdict, bound, _propagated(row))


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(length) for length in text.split("x") if length.isdecimal())


def _propagated(row: Mapping[str, Any]) -> PairStatistics | None:
    figures = {name: float(row.get(f"propagated_{name}", math.nan)) for name in FIGURES}
    if math.isnan(figures["num_unequal"]) or math.isnan(figures["size"]):
        return None
    counts = {name: int(value) for name, value in figures.items() if _is_count(name) and not math.isnan(value)}
    none = np.zeros(len(HISTOGRAM_EDGES), np.int64)
    rest: dict[str, Any] = {"worst_index": None, "worst_values": None, "histogram": none, "classes": ClassCounts()}
    return PairStatistics(dtype=row["dtype"], **{**figures, **counts, **rest})


def _is_count(name: str) -> bool:
    return name == "size" or name.startswith("num_")
