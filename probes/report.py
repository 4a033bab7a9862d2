"""A card on the terminal, two cards side by side, and programs for what failed."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from rich.console import Console
from rich.table import Table

from diag.report.wording import counted
from probes.card import FAIL, STATUSES, UNSUPPORTED, Card, Reading
from probes.comparing import Comparison, Difference

MOST_UNSUPPORTED = 8


def render(card: Card, console: Console, options: argparse.Namespace) -> None:
    """Family by family; what failed comes once more at the end, with the next command to try."""
    environment = card.environment
    versions = f"TensorFlow {environment['tensorflow']}, Keras {environment['keras']}"
    _line(console, f"[bold]{card.place}[/bold]  {environment.get('chip', '')}  {versions}")
    for family in dict.fromkeys(reading.family for reading in card.readings):
        _line(console, f"\n[bold]{family.capitalize()}[/bold]")
        _family(console, [r for r in card.of(family) if r.status != UNSUPPORTED])
    _unsupported(console, [r for r in card.readings if r.status == UNSUPPORTED])
    _line(console, "")
    _line(console, ", ".join(f"{card.count(status):,} {status}" for status in STATUSES if card.count(status)))
    if card.failures and options.emit is None:
        _line(console, "A program for each failure, to send to a vendor: the same command with --emit FOLDER")


def _family(console: Console, readings: list[Reading]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for reading in readings:
        mark = "[bold red]FAIL[/bold red] " if reading.status == FAIL else ""
        table.add_row(_escaped(reading.name), f"{mark}{_escaped(reading.says)}")
    console.print(table)


def _unsupported(console: Console, readings: list[Reading]) -> None:
    if readings:
        _line(console, f"\n[bold]Not to be had here[/bold] ({counted(len(readings), 'probe')})")
        for reading in readings[:MOST_UNSUPPORTED]:
            _line(console, _escaped(f"{reading.name}: {reading.says}"))
        if len(readings) > MOST_UNSUPPORTED:
            _line(console, f"and {len(readings) - MOST_UNSUPPORTED} more, in --json")


def render_comparison(found: Comparison, console: Console) -> None:
    first, second = found.places
    for name, (one, other) in found.environment.items():
        _line(console, _escaped(f"{name}: {one} / {other}"))
    if not found.differs:
        _line(console, f"{first} and {second} are alike in {counted(found.num_alike, 'reading')}")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", first, second):
        table.add_column(_escaped(title), overflow="fold")
    for difference in found.differences:
        table.add_row(_escaped(" ".join(filter(None, difference.key))), *_sides(difference))
    console.print(table)
    _line(console, f"{counted(len(found.differences), 'reading')} not alike, {found.num_alike:,} alike")


def _sides(difference: Difference) -> list[str]:
    return [_escaped("-" if side is None else f"{side.status}: {side.says}") for side in
            (difference.first, difference.second)]  # fmt: skip


def write_reproducers(card: Card, folder: Path) -> list[Path]:
    """One Python file for each failure that has a program; returns their paths."""
    folder.mkdir(exist_ok=True)
    written = []
    for reading in card.failures:
        if reading.reproducer:
            path = folder / f"{re.sub(r'[^A-Za-z0-9]+', '_', ' '.join(reading.key)).strip('_').lower()}.py"
            path.write_text(reading.reproducer, encoding="utf-8")
            written.append(path)
    return written


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
