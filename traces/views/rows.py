"""What `show` prints of rows of the op and the unit table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from diag.common.terminal import facts_table
from diag.common.text import as_text
from diag.common.wording import figure
from traces.described import DescribedOp
from traces.inspector.judgements import DIVERGENCE, Judgement
from traces.inspector.rows import RowView
from traces.views.described import render_described
from traces.views.terminal import BAD, FAINT, TITLE, name, next_commands, number, row, table, word

SOURCES = {
    "reference_local": "reference\nagainst truth",
    "local": "candidate\nagainst truth",
    "propagated": "candidate\nagainst reference",
}
"""Prefix of a statistic's column, and what is compared: on the same inputs, and last on each lane's own."""


IN_HEADING = ("step", "phase", "index", "op_type", "output", "unit", "excess", "bound", "verdict")


def render_op(path: str, op: DescribedOp | None, views: Sequence[RowView], width: int) -> Iterator[RenderableType]:
    """op: None in a trace of an earlier version; views: none of an op that was not looked at."""
    if op is not None:
        yield from render_described(op, width)
    if not views:
        yield Text("No step was looked at op by op, so nothing was judged of it.", style=FAINT)
    for position, view in enumerate(views):
        if position:
            yield Text()
        yield from _detail(view, width)
    yield from next_commands(_next(path, views))


def render_worst(path: str, views: Sequence[RowView], num_rows: int, width: int) -> Iterator[RenderableType]:
    yield _worst_table(views, num_rows, width)
    yield from next_commands(_next(path, views))


def _worst_table(views: Sequence[RowView], num_rows: int, width: int) -> Group:
    which = views[0].judged.table
    of = f", the worst {len(views)} of {num_rows:,}" if len(views) < num_rows else ""
    columns = (number("excess"), number("step"), word("phase"), name("unit"), word("shape"), word("verdict"))
    rows = [
        row(
            figure(view.judged.excess),
            str(view.judged.step),
            view.judged.phase,
            view.judged.subject,
            str(view.columns.get("shape", "")),
            view.judged.verdict,
            style=BAD if view.judged.verdict == DIVERGENCE else "",
        )
        for view in views
    ]
    return table(f"{which}{of}", columns, rows, width)


def render_layer(tables: Mapping[str, Sequence[RowView]], limit: int, width: int) -> Iterator[RenderableType]:
    """The worst rows of each table, at most so many of one, without commands to try next."""
    for position, views in enumerate(tables.values()):
        if position:
            yield Text()
        yield _worst_table(views[:limit], len(views), width)


def _detail(view: RowView, width: int) -> Iterator[RenderableType]:
    judged, columns = view.judged, view.columns
    yield Text(as_text(f"{judged.subject}, step {judged.step}, {judged.phase}"), style=TITLE)
    others = {key: str(value) for key, value in columns.items() if key not in IN_HEADING and _source(key) is None}
    verdict = _verdict_text(judged, _number(columns.get("bound")))
    yield facts_table([("verdict", verdict), *((as_text(key), as_text(text)) for key, text in others.items() if text)])
    yield from _statistics(columns, width)


def _verdict_text(judged: Judgement, bound: float) -> str:
    over = "" if math.isnan(bound) else f" over a bound of {figure(bound)}"
    return f"{judged.verdict}, excess {figure(judged.excess)}{over}"


def _statistics(columns: dict[str, Any], width: int) -> Iterator[Group | Text]:
    sources = [source for source in SOURCES if any(_source(key) == source for key in columns)]
    names = dict.fromkeys(key.removeprefix(f"{source}_") for key in columns if (source := _source(key)))
    rows = [
        row(each.replace("_", " "), *(figure(_number(columns.get(f"{source}_{each}"))) for source in sources))
        for each in names
    ]
    rows = [each for each in rows if any(cell != "-" for cell in each.cells[1:])]
    if rows:
        yield Text()
        yield table("", (name(""), *(number(SOURCES[source]) for source in sources)), rows, width)
        yield Text("max to bias are in ULP; - is not taken or has no value", style=FAINT)


def _source(column: str) -> str | None:
    return next((source for source in SOURCES if column.startswith(f"{source}_")), None)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _next(path: str, views: Sequence[RowView]) -> Iterator[Sequence[str]]:
    if not views:
        return
    judged = views[0].judged
    if judged.table == "ops" and len(views) > 1:
        yield "show", path, "--op", str(judged.op_index), "--step", str(judged.step)
    if judged.tensor:
        yield "show", path, f"{judged.tensor.path}@{judged.step}"
    if judged.layer:
        yield "ls", path, judged.layer
    yield "export", path, "--to", f"{judged.table}.csv", "--table", judged.table
