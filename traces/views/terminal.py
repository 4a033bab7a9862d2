"""How every subcommand prints what it has: as one JSON document, or as tables that fit the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from diag.common.jsonable import print_document
from diag.common.terminal import ReportConsole, Unbroken
from diag.common.text import as_text
from diag.common.wording import shortened

GOOD, BAD, FAINT, TITLE = "bold green", "bold red", "dim", "bold"
_BETWEEN = "  "
_SHORTEST = 8  # an elastic column is not cut below this


def print_result(
    as_json: bool,
    schema: str,
    document: Callable[[], Mapping[str, Any]],
    text: Callable[[int], Iterable[RenderableType]],
) -> None:
    """Print a result as one JSON document, or as text for the width of the terminal."""
    if as_json:
        print_document(schema, document())
        return
    console = ReportConsole()
    for part in text(console.width):
        console.print(part, soft_wrap=isinstance(part, Unbroken))


@dataclass(frozen=True)
class TextColumn:
    """A heading, of which "\\n" makes two lines; an elastic one is cut, in the middle, where room is short."""

    heading: str
    is_number: bool = False
    is_elastic: bool = False


def name(heading: str) -> TextColumn:
    return TextColumn(heading, is_elastic=True)


def word(heading: str) -> TextColumn:
    return TextColumn(heading)


def number(heading: str) -> TextColumn:
    return TextColumn(heading, is_number=True)


@dataclass(frozen=True)
class TextRow:
    cells: tuple[str, ...]
    style: str = ""


def row(*cells: str, style: str = "") -> TextRow:
    return TextRow(tuple(map(as_text, cells)), style)


def table(title: str, columns: Sequence[TextColumn], rows: Sequence[TextRow], width: int) -> Group:
    """A table no wider than `width` as long as its rigid columns are not.

    A line of text each: `rich.table` takes six times as long, which 100,000 lines of `ls --all` would feel.
    """
    widths = _fitted(_widths(columns, rows), columns, width)
    headings = [column.heading.split("\n") for column in columns]
    height = max(map(len, headings))
    padded = [[*[""] * (height - len(lines)), *lines] for lines in headings]
    lines = [Text(as_text(title), style=TITLE)] if title else []
    if any(column.heading for column in columns):
        lines += [Text(_line([cells[i] for cells in padded], columns, widths), style=FAINT) for i in range(height)]
        lines.append(Text("─" * (sum(widths) + len(_BETWEEN) * (len(widths) - 1)), style=FAINT))
    lines += [Text(_line(each.cells, columns, widths), style=each.style) for each in rows]
    return Group(*lines)


def _line(cells: Sequence[str], columns: Sequence[TextColumn], widths: Sequence[int]) -> str:
    fitted = (shortened(cell, width) for cell, width in zip(cells, widths, strict=True))
    aligned = (
        cell.rjust(width) if column.is_number else cell.ljust(width)
        for cell, column, width in zip(fitted, columns, widths, strict=True)
    )
    return _BETWEEN.join(aligned).rstrip()


def width_of(columns: Sequence[TextColumn], rows: Sequence[TextRow]) -> int:
    """How wide the table is if nothing is cut."""
    return sum(_widths(columns, rows)) + len(_BETWEEN) * (len(columns) - 1)


def _widths(columns: Sequence[TextColumn], rows: Sequence[TextRow]) -> list[int]:
    return [
        max(len(text) for text in (*column.heading.split("\n"), *(each.cells[i] for each in rows)))
        for i, column in enumerate(columns)
    ]


def _fitted(widths: list[int], columns: Sequence[TextColumn], width: int) -> list[int]:
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


def next_commands(commands: Iterable[Sequence[str]]) -> Iterator[RenderableType]:
    """Command lines worth trying now, each given as its arguments after `python -m traces`."""
    lines = list(dict.fromkeys(f"python -m traces {shlex.join(arguments)}" for arguments in commands))
    if lines:
        yield Text("\nNext", style=TITLE)
    for line in lines:
        yield Unbroken(f"  {as_text(line)}")
