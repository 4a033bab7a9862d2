"""The report a person reads first: what is wrong, what to do now, the path of the step, and where all of it lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from diag.common.terminal import Unbroken
from diag.common.text import as_text
from diag.common.wording import counted, shortened
from diag.report import verbose
from diag.report.attribution import Code
from diag.report.made_at import made_at
from diag.report.short_path import Row, rows_of
from diag.report.to_do import Action, to_do
from diag.report.weights import weights_table
from diag.report.words import num_judged, sentence
from diag.verdict.result import SIMULATED, RunResult

WIDEST = 100
NAME_ROOM = 44
"""Columns of a path's row that are not the unit's name."""


def render(result: RunResult, console: Console, next_commands: Sequence[str] = (), is_verbose: bool = False) -> None:
    """Print the report.  `next_commands` are command lines worth trying."""
    console = _bounded(console)
    for section in (_banner, _verdict, *(() if is_verbose else (weights_table,))):
        verbose.print_section(section(result, console.width), console)
    verbose.print_section(_to_do(to_do(result, next_commands), console.width), console)
    verbose.print_section(_path(result, console.width), console)
    if is_verbose:
        verbose.details(result, console)
        verbose.print_section(verbose.sending(result, console.width), console)
        verbose.print_section(_next(next_commands), console)
    else:
        verbose.print_section(_cautions(result, console.width), console)
    verbose.print_section(_files(result, is_verbose), console)


def _bounded(console: Console) -> Console:
    """Lines of more than a hundred characters are hard to read."""
    console.width = min(console.width, WIDEST)
    return console


def _banner(result: RunResult, width: int) -> Iterator[RenderableType]:
    simulated = [f"{lane.name} {lane.place}" for lane in result.lanes if lane.is_simulated]
    lines = [note.text for note in result.notes if note.kind == SIMULATED]
    if simulated and not lines:
        lines = [f"SIMULATED: {' and '.join(simulated)} is no real device; a fault is planted in it"]
    for line in lines:
        yield Text(line, style="bold reverse yellow")
    if not num_judged(result):
        yield Text("NOTHING WAS JUDGED: no output was held against float64 truth", style="bold reverse red")


def _verdict(result: RunResult, width: int) -> Iterator[RenderableType]:
    bad = result.first_divergence is not None or bool(result.reference_errors) or not num_judged(result)
    good = "bold yellow" if result.drift else "bold green"
    yield Text(sentence(result), style="bold red" if bad else good)
    if result.first_divergence is not None and (line := made_at(result.first_divergence)):
        yield Text(shortened(line[0].upper() + line[1:], 2 * width))
    texts = [f"{lane.name} {lane.place}" for lane in result.lanes]
    texts += [each for each in (result.model, result.data, counted(result.steps, "step")) if each]
    yield Text(" | ".join(map(as_text, texts)), style="dim")


def _to_do(actions: Sequence[Action], width: int) -> Iterator[RenderableType]:
    if actions:
        yield Text("Do now", style="bold")
    for number, action in enumerate(actions, start=1):
        text, lines = f"{number}. {as_text(action.text)}", [as_text(line) for line in action.code.splitlines()]
        if len(lines) == 1 and len(text) + len(lines[0]) + 2 <= width:
            yield Code(f"{text}  ").append(lines[0], style="cyan")
            continue
        yield Text(text)
        for line in lines:
            yield Code(f"   {line}", style="cyan")


def _path(result: RunResult, width: int) -> Iterator[RenderableType]:
    rows = rows_of(result)
    if not rows:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", title_justify="left",
                  title=Text(f"The path of step {result.path[0].where.step}", style="bold"))  # fmt: skip
    for name in ("", "phase"):
        table.add_column(name, no_wrap=True)
    for name in ("error / bound", "apart"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        table.add_row(*_cells(row, max(width - NAME_ROOM, 16)), style="bold red" if row.is_beyond else "")
    yield table
    yield Text("error / bound: its own error, rounding explains up to 1; apart: inherited too", style="dim")


def _cells(row: Row, room: int) -> tuple[str, str, str, str]:
    return f"{'> ' if row.is_first else '  '}{shortened(row.name, room)}", row.phase, row.error, row.apart


def _cautions(result: RunResult, width: int) -> Iterator[RenderableType]:
    for name, text in verbose.cautions(result):
        yield Text(shortened(f"{name}: {text}", width), style="yellow")


def _rest(result: RunResult) -> str:
    notes = len(verbose.notes_of(result))
    among = f", {counted(notes, 'note')} among it" if notes else ""
    return f"--verbose prints the rest{among}" + ("; report.html shows it" if "html" in result.files else "")


def _files(result: RunResult, is_verbose: bool) -> Iterator[RenderableType]:
    for name, path in result.files.items():
        yield Unbroken(f"{name:<7} {path}")
    if not is_verbose:
        yield Text(_rest(result), style="dim")


def _next(commands: Sequence[str]) -> Iterator[RenderableType]:
    if commands:
        yield Text("Next", style="bold")
    for command in commands:
        yield Unbroken(f"  {command}")
