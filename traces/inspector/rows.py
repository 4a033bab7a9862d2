"""What `show` says of rows of the op and the unit table: one op's, or the worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diag.common.wording import ranges_of
from diag.errors import UserError
from traces.inspector.address import Address, StepSet
from traces.inspector.judgements import TABLES, Judgement, judgements
from traces.inspector.reading import InspectedTrace


@dataclass(frozen=True)
class RowView:
    """One row: in short, and all its columns by name, as they are stored."""

    judged: Judgement
    columns: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {"table": self.judged.table, "row": self.judged.row, **self.columns}


def table_of(pattern: str) -> str | None:
    """The table that a pattern such as "ops" or "units/dense*" is about."""
    table = pattern.partition("/")[0]
    return table if table in TABLES else None


def rows_of_op(trace: InspectedTrace, op: int, steps: StepSet | None) -> list[RowView]:
    """An op's rows, one for each output and step; none of an op that is described and was not looked at.

    Raises:
      UserError: there is no such op, or no such step.
    """
    of_ops = [row for row in judgements(trace) if row.table == "ops"]
    of_op = [row for row in of_ops if row.op_index == op]
    if not of_op and steps is None and op in trace.described_ops():
        return []
    if not of_op:
        stored = ranges_of(sorted({row.op_index for row in of_ops}))
        holds = f"holds ops {stored}" if stored else "is empty: no step was looked at op by op"
        raise UserError(f"The op table of {trace.path} has no op {op}; it {holds}")
    chosen = _at_steps(of_op, steps, f"op {op} at steps")
    return [_view(trace, row) for row in chosen]


def worst_rows(trace: InspectedTrace, address: Address, number: int) -> tuple[list[RowView], int]:
    """The worst rows of a table, and how many there are of which these are the worst.

    The address is a table's name, and behind a slash a glob over layers, variables and types of op.

    Raises:
      UserError: there is none.
    """
    table, _, pattern = address.pattern.partition("/")
    of_table = Address(address.text, pattern or "*")
    in_table = [row for row in judgements(trace) if row.table == table]
    matching = [row for row in in_table if of_table.matches(row.layer, row.variable, row.op_type)]
    if not matching:
        raise UserError(f"The {table} table of {trace.path} has no row that {address.pattern!r} matches")
    chosen = _at_steps(matching, address.steps, f"these {table} at steps")
    worst_first = sorted(chosen, key=lambda row: row.rank, reverse=True)
    return [_view(trace, row) for row in worst_first[:number]], len(chosen)


def rows_of_layer(trace: InspectedTrace, layer: str) -> dict[str, list[RowView]]:
    """What was judged of a layer, or of one variable, in each table that has rows of it, the worst first.

    Raises:
      UserError: there is none.
    """
    rows = judgements(trace)
    found = sorted((row for row in rows if layer in (row.layer, row.variable)), key=lambda row: row.rank, reverse=True)
    if not found:
        layers = ", ".join(dict.fromkeys(row.layer for row in rows if row.layer))
        raise UserError(f"{trace.path} has nothing of a layer {layer!r}; it has {layers or 'no row of any'}")
    tables = ((table, [_view(trace, row) for row in found if row.table == table]) for table in ("units", "ops"))
    return {table: views for table, views in tables if views}


def _at_steps(rows: Sequence[Judgement], steps: StepSet | None, what: str) -> Sequence[Judgement]:
    if steps is None:
        return rows
    chosen = set(steps.select(sorted({row.step for row in rows}), what))
    return [row for row in rows if row.step in chosen]


def _view(trace: InspectedTrace, row: Judgement) -> RowView:
    return RowView(row, {name: values[row.row] for name, values in trace.tables[row.table].items()})
