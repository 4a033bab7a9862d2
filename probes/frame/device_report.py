"""The card of a device: what the probes read, as plain records and as JSON.  No TensorFlow is imported here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from diag.common.files import write_text
from diag.common.jsonable import json_safe
from diag.errors import UserError

SCHEMA = "lockstep-card/1"
PASS, FAIL, NOTE, UNSUPPORTED = "pass", "fail", "note", "unsupported"
STATUSES = (PASS, FAIL, NOTE, UNSUPPORTED)
_ALWAYS = ("family", "op", "dtype", "case", "status", "says", "figures")
Value: TypeAlias = "float | int | str | bool | None"


@dataclass(frozen=True)
class Measurement:
    """What one probe found.

    family, op, dtype, case: name it; no two readings of a card have all four alike.
    status: `pass` or `fail` where there is a right answer, `note` where there is none (what rounding, which order),
        `unsupported` where the place cannot compute it.
    says: one line for a person.
    figures: what was measured; names and units are those of docs/PROBES.md.  Plain numbers, texts, truths.
    reproducer: a Python program of at most 20 lines that shows a failure without this package; "" where there is none.
    """

    family: str
    op: str
    dtype: str
    case: str
    status: str
    says: str
    figures: Mapping[str, Value] = field(default_factory=dict)
    reproducer: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.family, self.op, self.dtype, self.case)

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.op, self.dtype, self.case) if part)


@dataclass(frozen=True)
class DeviceReport:
    """All readings of one place.

    environment: what it ran on, as in a trace.  quick: fewer cases were tried.
    """

    place: str
    environment: Mapping[str, Any]
    quick: bool
    measurements: tuple[Measurement, ...]

    @property
    def failures(self) -> tuple[Measurement, ...]:
        return tuple(measurement for measurement in self.measurements if measurement.status == FAIL)

    def of(self, family: str) -> tuple[Measurement, ...]:
        return tuple(measurement for measurement in self.measurements if measurement.family == family)

    def count(self, status: str) -> int:
        return sum(measurement.status == status for measurement in self.measurements)

    def to_json(self, ascii_only: bool = False) -> str:
        """The card as a JSON document, one reading a line; numbers that JSON lacks become texts.

        ascii_only: for a stream whose encoding is not ours to choose; it reads back the same.
        """
        head = {
            "schema": SCHEMA,
            "place": self.place,
            "environment": dict(self.environment),
            "quick": self.quick,
            "counts": {status: self.count(status) for status in STATUSES},
        }
        opened = json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}")
        rows = ",\n  ".join(_row(measurement, ascii_only) for measurement in self.measurements)
        return f'{opened},\n "readings": [\n  {rows}\n ]\n}}\n'


def _row(measurement: Measurement, ascii_only: bool) -> str:
    """Compact, and without what is empty: a card has some thousand of them."""
    row = {name: value for name, value in json_safe(asdict(measurement)).items() if value or name in _ALWAYS}
    return json.dumps(row, allow_nan=False, ensure_ascii=ascii_only, separators=(",", ":"))


def report_of(text: str, source: str) -> DeviceReport:
    """The card that a JSON document holds.

    Raises UserError where it is none; `source` says where it came from.
    """
    try:
        document = json.loads(text)
        if document.get("schema") != SCHEMA:
            raise UserError(f"{source}: expected a card of schema {SCHEMA}, received {document.get('schema')!r}")
        measurements = tuple(Measurement(**row) for row in document["readings"])
        return DeviceReport(document["place"], document["environment"], document["quick"], measurements)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{source}: expected a card as `python -m probes --json` prints it; {error}") from error


def read_report(path: Path) -> DeviceReport:
    """Raises UserError where there is no such file, or it is no card."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a card: {error}") from error
    return report_of(text, str(path))


def write_atomically(path: Path, text: str) -> None:
    """All of it or nothing: whoever reads the file, or interrupts the writer, finds no half of a card.

    Raises UserError where it cannot be written.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}; name a file in a folder with room") from error


def check_unique(measurements: Iterable[Measurement]) -> None:
    """Raises ValueError where two readings have one name: a card could not be compared."""
    seen: set[tuple[str, str, str, str]] = set()
    for measurement in measurements:
        if measurement.key in seen:
            raise ValueError(f"Two readings of one name. Received: key={measurement.key}")
        seen.add(measurement.key)


def write_reproducers(card: DeviceReport, folder: Path) -> list[Path]:
    """One Python file for each failure that has a program; returns their paths.  Makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for measurement in card.failures:
        if measurement.reproducer:
            name = re.sub(r"[^A-Za-z0-9]+", "_", " ".join(measurement.key)).strip("_").lower()
            path = folder / f"{name}.py"
            if path in written:  # two names may differ in signs alone
                path = folder / f"{name}_{len(written)}.py"
            path.write_text(measurement.reproducer, encoding="utf-8")
            written.append(path)
    return written
