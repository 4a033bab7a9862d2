"""Pieces of terminal output that several reports are made of."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text


class Unbroken(Text):
    """A path or a command: to be copied whole, however wide the console."""


def facts_table(facts: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in facts:
        grid.add_row(name, Text(text))
    return grid
