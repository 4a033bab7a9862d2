"""A card on the terminal: what it ran on, its arithmetic, what failed, each family in a few lines, what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from diag.common.wording import counted
from probes.frame.device_report import FAIL, NOTE, STATUSES, UNSUPPORTED, DeviceReport, Measurement
from probes.report.families import FINGERPRINT, HEADLINES, headline, summary

MOST_FAILURES, MOST_NOTES, MOST_REASONS = 25, 6, 6
LONG_CASE = 12  # characters; longer ones stand before what is said
TITLES = {
    "fingerprint": "What arithmetic this device does",
    "exact": "Exact results: integers, data movement, order",
    "accuracy": "Functions, largest error in ULP",
    "composites": "Keras activations and losses, error over what rounding explains",
    "optimizers": "Optimizers against exact arithmetic",
    "random": "Random numbers",
}
MARKS = {FAIL: "[bold red]FAIL[/bold red]", NOTE: "[yellow]note[/yellow]", UNSUPPORTED: "[dim]none[/dim]"}


def render(
    card: DeviceReport, console: Console, verbose: bool = False, out: Path | None = None, emit: Path | None = None
) -> None:
    """All of a card in some sixty lines, every reading where `verbose`; `out` and `emit` are where it was written."""
    _header(card, console)
    families = list(dict.fromkeys(measurement.family for measurement in card.measurements))
    if FINGERPRINT in families:
        _section(console, TITLES[FINGERPRINT])
        _fingerprint(console, card.of(FINGERPRINT), verbose)
        families.remove(FINGERPRINT)
    _failures(console, card, verbose)
    for family in families:
        _section(console, TITLES.get(family, family.capitalize()))
        _family(console, family, card.of(family), verbose)
    _unsupported(console, [r for r in card.measurements if r.status == UNSUPPORTED], verbose)
    _closing(console, card, out, emit)


def _header(card: DeviceReport, console: Console) -> None:
    known = card.environment
    device = known.get("device", {})
    console.print(f"[bold]{escape(card.place)}[/bold]  {escape(str(known.get('chip', '')))}", highlight=False)
    versions = [f"TensorFlow {known.get('tensorflow')}", f"Keras {known.get('keras')}"]
    libraries = {"driver": "driver", "cuda": "CUDA", "cudnn": "cuDNN", "tensorflow-metal": "tensorflow-metal"}
    versions += [f"{title} {known[name]}" for name, title in libraries.items() if name in known]
    capability = device.get("compute_capability") if isinstance(device, dict) else None
    switches = [f"{title} {'on' if known.get(name) else 'off'}" for name, title in _switches(known).items()]
    parts = [
        *versions,
        *([f"compute capability {capability}"] if capability else []),
        *switches,
        str(known.get("os", "")),
    ]
    _line(console, escape(" · ".join(filter(None, parts))))
    if card.quick:
        _line(console, "[dim]--quick: fewer samples and shapes[/dim]")


def _switches(known: Any) -> dict[str, str]:
    """TF32 says something of GPUs, oneDNN of CPUs."""
    if str(known.get("place", "")).startswith("GPU"):
        return {"tf32": "TF32", "op_determinism": "op determinism"}
    return {"onednn": "oneDNN", "op_determinism": "op determinism"}


def _fingerprint(console: Console, measurements: Sequence[Measurement], verbose: bool) -> None:
    shown = [r for r in measurements if r.status != UNSUPPORTED]
    chosen = shown if verbose else headline(shown)
    by_op: dict[str, list[Measurement]] = {}
    for measurement in chosen:
        by_op.setdefault(measurement.op, []).append(measurement)
    alike: dict[object, list[str]] = {}
    for op, of in by_op.items():
        alike.setdefault(tuple(_arithmetic(measurement) for measurement in of), []).append(op)
    for ops in alike.values():
        _line(console, f"[bold]{escape(', '.join(ops))}[/bold]")
        rows = Table(box=None, padding=(0, 1, 0, 0), show_header=False, pad_edge=False)
        rows.add_column(min_width=11, no_wrap=True)
        rows.add_column(overflow="fold")
        for same in zip(*(by_op[op] for op in ops), strict=True):
            measurement = min(same, key=lambda each: len(each.says))  # what is said of other shapes is not of all
            case, says = ("" if measurement.case in HEADLINES else measurement.case), measurement.says
            if len(case) > LONG_CASE:
                case, says = "", f"{case}: {says}"
            rows.add_row(escape(f"  {measurement.dtype} {case}".rstrip()), escape(says))
        console.print(rows, highlight=False)
    if len(chosen) < len(shown):
        _line(console, f"[dim]and {counted(len(shown) - len(chosen), 'detail')}: --verbose[/dim]")


def _arithmetic(measurement: Measurement) -> tuple[object, ...]:
    """What is alike in ops that do the same; which shapes, and how many, they were asked in is not."""
    figures = {name: value for name, value in measurement.figures.items() if name not in ("shape", "shapes")}
    return (
        (measurement.dtype, measurement.case, *figures.items())
        if figures
        else (measurement.dtype, measurement.case, measurement.says)
    )


def _failures(console: Console, card: DeviceReport, verbose: bool) -> None:
    if not card.failures:
        return
    _section(console, f"[red]{counted(len(card.failures), 'failure')}[/red]")
    shown = card.failures if verbose else card.failures[:MOST_FAILURES]
    _measurements(console, shown)
    if len(shown) < len(card.failures):
        rest = Counter(measurement.family for measurement in card.failures[len(shown) :])
        more = ", ".join(f"{number} {family}" for family, number in rest.items())
        _line(console, f"[dim]and {len(card.failures) - len(shown):,} more ({more}): --verbose[/dim]")


def _family(console: Console, family: str, measurements: Sequence[Measurement], verbose: bool) -> None:
    if verbose:
        _measurements(console, measurements)
        return
    for part in summary(family, measurements, console.width):
        if isinstance(part, str):
            _line(console, part)
        else:
            console.print(part)
    notes = [measurement for measurement in measurements if measurement.status == NOTE]
    _measurements(console, notes[:MOST_NOTES])
    if len(notes) > MOST_NOTES:
        _line(console, f"[dim]and {counted(len(notes) - MOST_NOTES, 'note')} more: --verbose[/dim]")


def _measurements(console: Console, measurements: Sequence[Measurement]) -> None:
    """Each with what it says below its name, so that neither is squeezed in 80 columns."""
    for measurement in measurements:
        mark = f"{MARKS[measurement.status]} " if measurement.status in MARKS else ""
        _line(console, f"{mark}[bold]{escape(measurement.name)}[/bold]")
        says: RenderableType = escape(measurement.says)
        console.print(Padding(says, (0, 0, 0, 4), expand=False), highlight=False)


def _unsupported(console: Console, measurements: Sequence[Measurement], verbose: bool) -> None:
    if not measurements or verbose:
        return
    _section(console, f"Not to be had here ({counted(len(measurements), 'probe')})")
    reasons: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        reasons.setdefault(measurement.says.rstrip("."), []).append(measurement)
    by_size = sorted(reasons.items(), key=lambda item: -len(item[1]))
    for says, of in by_size[:MOST_REASONS]:
        names = ", ".join(dict.fromkeys(f"{r.op} {r.dtype}".strip() for r in of[:3]))
        _line(console, escape(f"{says}: {names}{f' and {len(of) - 3} more' if len(of) > 3 else ''}"))
    if len(by_size) > MOST_REASONS:
        _line(console, f"[dim]and {counted(len(by_size) - MOST_REASONS, 'reason')} more: --verbose[/dim]")


def _closing(console: Console, card: DeviceReport, out: Path | None, emit: Path | None) -> None:
    console.print()
    _line(console, ", ".join(f"{card.count(status):,} {status}" for status in STATUSES if card.count(status)))
    again = f"python -m probes --place {card.place}"
    programs = sum(bool(measurement.reproducer) for measurement in card.failures)
    if programs and emit is None:
        _next(console, f"{counted(programs, 'program')} that a vendor can run", f"{again} --emit FOLDER")
    elif out is None:
        _next(console, "Keep this card", f"{again} --out card.json")
    if out is not None:
        _next(console, "What differs from another card", f"python -m probes compare {out} OTHER.json")


def _next(console: Console, what_for: str, command: str) -> None:
    """A command on a line of its own, never broken, to be copied."""
    _line(console, f"{what_for}:")
    console.print(f"    {escape(command)}", highlight=False, soft_wrap=True)


def _section(console: Console, title: str) -> None:
    console.print()
    console.print(f"[bold]{title}[/bold]", highlight=False)


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False)
