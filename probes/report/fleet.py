"""A fleet on the terminal: its devices in a table, then what each odd one answers and its siblings do not."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diag.common.wording import counted, size_text
from probes.fleet.answers import FleetDevice
from probes.fleet.siblings import TIED, FleetComparison, FleetDifference, Siblings

MOST = 8  # of one device's differences; --verbose and --json have all
COLUMNS = ("device", "host", "card", "probes", "failed", "differs in", "")


def render_fleet(found: FleetComparison, console: Console, verbose: bool = False) -> None:
    for group in found.siblings:
        _siblings(group, console, verbose)
    if found.seen_twice:
        _line(console, f"[dim]the same card as one above: {escape(', '.join(found.seen_twice))}[/dim]")
    for device in found.silent:
        _line(console, f"\n[bold red]{escape(device.label)}[/bold red] answered nothing: {escape(device.error or '')}")
    _closing(found, console)


def _siblings(group: Siblings, console: Console, verbose: bool) -> None:
    kind = group.devices[0].kind
    versions = [kind.get("chip", ""), f"TensorFlow {kind.get('tensorflow')}"]
    versions += [f"{name} {kind[name]}" for name in ("driver", "cuda", "cudnn") if name in kind]
    _line(
        console, f"\n[bold]{counted(len(group.devices), 'device')}[/bold]  {escape(' · '.join(filter(None, versions)))}"
    )
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title in COLUMNS:
        table.add_column(title, justify="right" if title in ("probes", "failed", "differs in") else "left")
    for device in group.devices:
        table.add_row(*_row(device, group))
    console.print(table)
    if not group.are_several:
        _line(console, "[yellow]one of its kind: there is no sibling to hold it against[/yellow]")
    if group.unsettled:
        probes = counted(len(group.unsettled), "probe")
        _line(console, f"[dim]{probes} not the same twice on most of them, which says nothing of any one[/dim]")
    for device in group.devices:
        _differences(device, group.of(device), console, verbose)


def _row(device: FleetDevice, group: Siblings) -> tuple[str, ...]:
    num = len(group.of(device))
    verdict = "[bold red]DIFFERS[/bold red]" if num else "alike" if group.are_several else "alone"
    failed = f"[red]{device.failures:,}[/red]" if device.failures else "0"
    identity = device.identity or "-"
    return (
        escape(device.label), escape(device.host), escape(identity), f"{len(device.answers):,}", failed, f"{num:,}",
        verdict,
    )  # fmt: skip


def _differences(device: FleetDevice, differences: Sequence[FleetDifference], console: Console, verbose: bool) -> None:
    if not differences:
        return
    _line(console, f"\n[bold]{escape(device.label)}[/bold] differs in {counted(len(differences), 'probe')}")
    shown = differences if verbose else differences[:MOST]
    for each in shown:
        _line(console, f"[bold]{escape(' '.join(filter(None, each.probe)))}[/bold]: {each.how}")
        if each.its or each.theirs:
            others = "another" if each.how == TIED else "siblings"
            _line(console, f"    it: {escape(each.its)}")
            _line(console, f"    {others}: {escape(each.theirs)}")
    if len(shown) < len(differences):
        _line(console, f"[dim]and {len(differences) - len(shown):,} more: --verbose[/dim]")


def _closing(found: FleetComparison, console: Console) -> None:
    devices = [device for group in found.siblings for device in group.devices]
    odd = [device.label for group in found.siblings for device in group.devices if group.of(device)]
    console.print()
    if odd:
        _line(console, f"[bold]{escape(', '.join(odd))}[/bold]: not as {'its' if len(odd) == 1 else 'their'} siblings")
    elif any(group.are_several for group in found.siblings):
        _line(console, "Siblings agree in every bit")
    seconds, num_bytes = sum(device.seconds for device in devices), sum(device.num_bytes for device in devices)
    _line(
        console,
        f"[dim]{counted(len(devices), 'device')}, {seconds:,.0f} s of probing, {size_text(num_bytes)} of answers[/dim]",
    )


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False)
