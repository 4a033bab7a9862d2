"""Two cards beside each other: what they ran on, then what reads otherwise, the gravest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diag.common.wording import counted
from probes.frame.comparing import MeasurementDifference, ReportComparison
from probes.frame.device_report import NOTE, Measurement
from probes.report.families import FINGERPRINT

MOST = 25


def render_comparison(found: ReportComparison, console: Console) -> None:
    first, second = found.labels
    _environment(found, console)
    if "quick" in found.environment:
        _line(console, "One of the cards is of --quick and tried less: figures that count what was tried differ")
    if not found.differs:
        _line(console, f"{first} and {second} are alike in {counted(found.num_alike, 'reading')}")
        return
    arithmetic = [d for d in found.differences if d.in_both and d.family == FINGERPRINT]
    rest = [d for d in found.differences if d.in_both and d.family != FINGERPRINT]
    status = [d for d in rest if d.statuses[0] != d.statuses[1]]
    notes = [d for d in rest if d.statuses == (NOTE, NOTE)]
    figures = [d for d in rest if d.statuses[0] == d.statuses[1] != NOTE]
    _section(console, "Another arithmetic", arithmetic, found)
    _section(console, "Another outcome", status, found)
    _section(console, "Other facts", notes, found)
    _section(console, "The same outcome, other figures", figures, found)
    for index, place in enumerate(found.labels):
        alone = [d for d in found.differences if not d.in_both and d.sides[index] is not None]
        if alone:
            families = ", ".join(f"{number} {name}" for name, number in Counter(d.family for d in alone).items())
            _line(console, f"\n{counted(len(alone), 'reading')} only in {escape(place)}: {families}")
    _line(console, f"\n{counted(len(found.differences), 'reading')} not alike, {found.num_alike:,} alike")


def _environment(found: ReportComparison, console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in ("", *found.labels):
        table.add_column(escape(title), overflow="fold")
    for name, pair in found.environment.items():
        table.add_row(escape(name), *(escape(_shown(value)) for value in pair))
    console.print(table)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return "-" if value is None else str(value)


def _section(
    console: Console, title: str, differences: Sequence[MeasurementDifference], found: ReportComparison
) -> None:
    if not differences:
        return
    _line(console, f"\n[bold]{title} ({len(differences):,})[/bold]")
    width = max(map(len, found.labels))
    for difference in differences[:MOST]:
        _line(console, f"[bold]{escape(' '.join(filter(None, difference.key)))}[/bold]")
        table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
        table.add_column(width=width, no_wrap=True)
        table.add_column(overflow="fold")
        for label, side in zip(found.labels, difference.sides, strict=True):
            table.add_row(escape(label), escape(_side(side)))
        console.print(table)
    if len(differences) > MOST:
        _line(console, f"[dim]and {len(differences) - MOST:,} more: --json[/dim]")


def _side(side: Measurement | None) -> str:
    return "-" if side is None else side.says if side.status == NOTE else f"{side.status}: {side.says}"


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False)
