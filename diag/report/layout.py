"""Tables of the printed report."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from diag.report.words import moment_of, name_of, shortened
from diag.verdict.findings import Where


class Unbroken(Text):
    """A path or a command: to be copied whole, however wide the console."""


def facts_table(facts: Sequence[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in facts:
        grid.add_row(name, Text(text))
    return grid


def table_of(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False,
        padding=(0, 1, 0, 0), pad_edge=False, header_style="dim",
    )  # fmt: skip
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, no_wrap=True, justify="right")
    return table


def where_cell(where: Where, room: int, judged_by: str) -> Text:
    """Two lines: the unit, then when it was and by what it was judged."""
    cell = Text(shortened(name_of(where), room))
    return cell.append(f"\n  {moment_of(where)}{judged_by}", style="dim")
