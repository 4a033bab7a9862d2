"""Pieces of terminal output that several reports are made of."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from diag.common.notebook import is_notebook
from diag.common.text import escaped


class ReportConsole(Console):
    """A console on which text is text: no control character reaches the terminal, and markup is off.

    A report that writes markup itself, and escapes what it did not write, says `markup=True`.
    """

    def __init__(self, **options: Any) -> None:
        environment = {**os.environ, "COLUMNS": os.environ.get("COLUMNS", "").lstrip("0")}  # 0 as where it is unset
        plain = {"markup": False, "highlight": False, "emoji": False, "force_jupyter": False}
        if is_notebook():
            plain["force_terminal"] = False  # its output is kept: plain text, and no bar that is drawn again and again
        super().__init__(**{**plain, "_environ": environment, **options})

    def on_broken_pipe(self) -> None:
        """Rich would end the process with 1, which is a verdict."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(escaped(segment.text, except_for="\n"), segment.style)


class Unbroken(Text):
    """A path or a command: to be copied whole, however wide the console."""


class Stripped:
    """Anything that rich prints, without the blanks that it fills lines with."""

    def __init__(self, part: RenderableType) -> None:
        self.part = part

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in console.render_lines(self.part, options, pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            if line:
                line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
            yield from line
            yield Segment.line()


def facts_table(facts: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in facts:
        grid.add_row(name, Text(text))
    return grid
