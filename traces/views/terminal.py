"""What the texts of all subcommands share: tables that fit, facts, lines that are not to be broken."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from diag.common.wording import shortened

GOOD, BAD, FAINT, TITLE = "bold green", "bold red", "dim", "bold"
_BETWEEN = "  "
_SHORTEST = 8  # an elastic column is not cut below this


def console() -> Console:
    """Names of layers may look like markup; they are printed as they are."""
    return Console(markup=False, highlight=False, emoji=False)


class Unbroken(Text):
    """A path or a command: to be copied whole, however wide the console."""


def write(parts: Callable[[int], Iterable[RenderableType]]) -> None:
    """Print what is made for the width of the terminal."""
    to = console()
    for part in parts(to.width):
        to.print(part, soft_wrap=isinstance(part, Unbroken))


@dataclass(frozen=True)
class Column:
    """A heading, of which "\\n" makes two lines; an elastic one is cut, in the middle, where room is short."""

    heading: str
    is_number: bool = False
    is_elastic: bool = False


def name(heading: str) -> Column:
    return Column(heading, is_elastic=True)


def word(heading: str) -> Column:
    return Column(heading)


def number(heading: str) -> Column:
    return Column(heading, is_number=True)


@dataclass(frozen=True)
class Row:
    cells: tuple[str, ...]
    style: str = ""


def row(*cells: str, style: str = "") -> Row:
    return Row(cells, style)


def table(title: str, columns: Sequence[Column], rows: Sequence[Row], width: int) -> Group:
    """A table no wider than `width` as long as its rigid columns are not.

    A line of text each: `rich.table` takes six times as long, which 100,000 lines of `ls --all` would feel.
    """
    widths = _fitted(_widths(columns, rows), columns, width)
    headings = [column.heading.split("\n") for column in columns]
    height = max(map(len, headings))
    padded = [[*[""] * (height - len(lines)), *lines] for lines in headings]
    lines = [Text(title, style=TITLE)] if title else []
    if any(column.heading for column in columns):
        lines += [Text(_line([cells[i] for cells in padded], columns, widths), style=FAINT) for i in range(height)]
        lines.append(Text("─" * (sum(widths) + len(_BETWEEN) * (len(widths) - 1)), style=FAINT))
    lines += [Text(_line(each.cells, columns, widths), style=each.style) for each in rows]
    return Group(*lines)


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    fitted = (shortened(cell, width) for cell, width in zip(cells, widths, strict=True))
    aligned = (
        cell.rjust(width) if column.is_number else cell.ljust(width)
        for cell, column, width in zip(fitted, columns, widths, strict=True)
    )
    return _BETWEEN.join(aligned).rstrip()


def width_of(columns: Sequence[Column], rows: Sequence[Row]) -> int:
    """How wide the table is if nothing is cut."""
    return sum(_widths(columns, rows)) + len(_BETWEEN) * (len(columns) - 1)


def _widths(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    return [
        max(len(text) for text in (*column.heading.split("\n"), *(each.cells[i] for each in rows)))
        for i, column in enumerate(columns)
    ]


def _fitted(widths: list[int], columns: Sequence[Column], width: int) -> list[int]:
    """Take what is too much from the widest elastic columns."""
    elastic = [i for i, column in enumerate(columns) if column.is_elastic]
    too_much = sum(widths) + len(_BETWEEN) * (len(widths) - 1) - width
    while elastic and too_much > 0:
        widest = max(elastic, key=lambda i: widths[i])
        if widths[widest] <= _SHORTEST:
            break
        widths[widest] -= 1
        too_much -= 1
    return widths


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=FAINT, no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in pairs:
        grid.add_row(label, Text(text))
    return grid


def next_commands(commands: Iterable[Sequence[str]]) -> Iterator[RenderableType]:
    """Command lines worth trying now, each given as its arguments after `python -m traces`."""
    lines = list(dict.fromkeys(shlex.join(["python", "-m", "traces", *arguments]) for arguments in commands))
    if lines:
        yield Text("\nNext", style=TITLE)
    for line in lines:
        yield Unbroken(f"  {line}")
