"""What `show` says of rows of the op and the unit table: one op's, or the worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diag.common.wording import ranges_of
from diag.errors import UserError
from traces.inspector.address import Address, StepSet
from traces.inspector.judgements import TABLES, Judgement
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
    return next((table for table in TABLES if pattern == table or pattern.startswith(f"{table}/")), None)


def rows_of_op(trace: InspectedTrace, rows: Sequence[Judgement], op: int, steps: StepSet | None) -> list[RowView]:
    """An op's rows, one for each output and step.

    Raises:
      UserError: there is none.
    """
    of_ops = [row for row in rows if row.table == "ops"]
    found = [row for row in of_ops if row.op_index == op]
    if not found:
        held = ranges_of(sorted({row.op_index for row in of_ops}))
        holds = f"holds ops {held}" if held else "is empty: no step was looked at op by op"
        raise UserError(f"The op table of {trace.path} has no op {op}; it {holds}")
    if steps:
        chosen = steps.select(dict.fromkeys(row.step for row in found), f"op {op} at steps")
        found = [row for row in found if row.step in chosen]
    return [_view(trace, row) for row in found]


def worst_rows(
    trace: InspectedTrace, rows: Sequence[Judgement], address: Address, steps: StepSet | None, number: int
) -> tuple[list[RowView], int]:
    """The worst rows of a table, and how many there are of which these are the worst.

    The address is a table's name, and behind a slash a glob over layers, variables and types of op.

    Raises:
      UserError: there is none.
    """
    table = table_of(address.pattern)
    rest = Address(address.text, address.pattern.partition("/")[2] or "*")
    found = [row for row in rows if row.table == table and rest.matches(row.layer, row.variable, row.op_type)]
    if not found:
        raise UserError(f"The {table} table of {trace.path} has no row that {address.pattern!r} matches")
    if wanted := address.steps or steps:
        chosen = set(wanted.select(sorted({row.step for row in found}), f"these {table} at steps"))
        found = [row for row in found if row.step in chosen]
    worst_first = sorted(found, key=lambda row: row.rank, reverse=True)
    return [_view(trace, row) for row in worst_first[:number]], len(found)


def _view(trace: InspectedTrace, row: Judgement) -> RowView:
    return RowView(row, {name: values[row.row] for name, values in trace.tables[row.table].items()})
