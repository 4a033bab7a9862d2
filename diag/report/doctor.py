"""The report of the doctor: the machine in a few lines, and what is known to go wrong on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from diag.common.jsonable import json_safe
from diag.common.text import as_text
from diag.common.wording import counted

if TYPE_CHECKING:
    from diag.machine.diagnosis import Diagnosis
    from diag.machine.known_combinations import Combination

SCHEMA = "lockstep-doctor/1"
NAMES = {
    "tf32": "TensorFloat-32",
    "onednn": "oneDNN",
    "op_determinism": "op determinism",
    "soft_placement": "soft placement",
}


def report(found: Diagnosis) -> dict[str, Any]:
    here, loaded = found.machine, found.tensorflow
    contents = {
        "schema": SCHEMA,
        "verdict": "bad" if found.is_bad else "good",
        "versions": {"python": here.python, **here.packages},
        "system": {"os": found.operating_system, "machine": here.machine, "chip": found.chip},
        "tensorflow_error": found.error or None,
        "devices": [{"kind": d.kind, "name": d.name, "details": dict(d.details)} for d in here.devices],
        "logical_devices": list(loaded.logical) if loaded else [],
        "libraries": dict(loaded.libraries) if loaded else {},
        "switches": {**here.switches, **(dict(loaded.settings) if loaded else {})},
        "variables": dict(found.variables),
        "known": [_row(row) for row in found.combinations],
    }
    safe: dict[str, Any] = json_safe(contents)
    return safe


def _row(row: Combination) -> dict[str, Any]:
    return {
        "id": row.id,
        "level": row.level,
        "title": row.title,
        "wrong": row.wrong,
        "do": row.do,
        "sources": list(row.sources),
    }


def render(found: Diagnosis, console: Console) -> None:
    here, loaded = found.machine, found.tensorflow
    _section(console, "System", {"os": found.operating_system, "machine": here.machine, "chip": found.chip})
    _section(console, "Versions", {"python": here.python, **here.packages, **(loaded.libraries if loaded else {})})
    if loaded is None:
        console.print("TensorFlow does not load", style="bold red")
        _line(console, f"  {found.error}")
    else:
        _section(console, "Devices", {device.name: _details(device.details) for device in here.devices})
        _line(console, f"  logical: {', '.join(loaded.logical)}")
        switches = {NAMES[name]: "on" if value else "off" for name, value in here.switches.items()}
        _section(console, "Switches in force", {**switches, **loaded.settings})
    if found.variables:
        _section(console, "Environment variables that may change arithmetic", found.variables)
    _known(found, console)


def _known(found: Diagnosis, console: Console) -> None:
    bad = [row for row in found.combinations if row.is_bad]
    notes = [row for row in found.combinations if not row.is_bad]
    if bad:
        console.print(f"Known to go wrong here: {counted(len(bad), 'combination')}", style="bold")
    else:
        console.print("Nothing that is known to go wrong.", style="bold")
    for row in [*bad, *notes]:
        console.print(f"{row.level}: ", end="", style="bold")
        _line(console, row.title)
        _line(console, f"  {row.wrong}")
        _line(console, f"  What to do: {row.do}")
        for source in row.sources:
            _line(console, f"  {source}")
    console.print("To see whether your own training is hit:")
    _line(console, "  python -m diag.lockstep --model FILE.py:FUNCTION --data FILE.py:FUNCTION")


def _section(console: Console, title: str, values: Mapping[str, Any]) -> None:
    console.print(title, style="bold")
    for name, value in values.items():
        _line(console, f"  {name}: {value or '-'}")


def _details(details: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in details.items() if name != "name" and value)


def _line(console: Console, text: str) -> None:
    console.print(as_text(text), soft_wrap=True)
