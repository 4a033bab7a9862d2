"""What differs between two cards: two machines, two versions, two settings of one machine.  No TensorFlow here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from probes.frame.device_report import DeviceReport, Measurement

SCHEMA = "lockstep-card-comparison/1"


@dataclass(frozen=True)
class MeasurementDifference:
    """One reading that is not alike: as each card has it, None where a card lacks it."""

    key: tuple[str, str, str, str]
    first: Measurement | None
    second: Measurement | None

    @property
    def sides(self) -> tuple[Measurement | None, Measurement | None]:
        return (self.first, self.second)

    @property
    def in_both(self) -> bool:
        return None not in self.sides

    @property
    def family(self) -> str:
        return self.key[0]

    @property
    def statuses(self) -> tuple[str | None, str | None]:
        first, second = (None if side is None else side.status for side in self.sides)
        return (first, second)


@dataclass(frozen=True)
class ReportComparison:
    """environment: name -> (first, second) of what the two ran on, where it differs."""

    places: tuple[str, str]
    environment: dict[str, tuple[Any, Any]]
    differences: tuple[MeasurementDifference, ...]
    num_alike: int

    @property
    def labels(self) -> tuple[str, str]:
        """The places, told apart where they are one."""
        first, second = self.places
        return (first, second) if first != second else (f"{first} (first)", f"{second} (second)")

    @property
    def differs(self) -> bool:
        return bool(self.differences)


def compare(first: DeviceReport, second: DeviceReport) -> ReportComparison:
    """Readings are paired by name; alike are those of equal status and figures."""
    before, after = ({measurement.key: measurement for measurement in card.measurements} for card in (first, second))
    keys = list(dict.fromkeys([*before, *after]))
    differences = [
        MeasurementDifference(key, before.get(key), after.get(key))
        for key in keys
        if not _alike(before.get(key), after.get(key))
    ]
    known = [{"quick": card.quick, **card.environment} for card in (first, second)]
    names = sorted({*known[0], *known[1]} - {"place"})
    pairs = {name: (known[0].get(name), known[1].get(name)) for name in names}
    environment = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return ReportComparison((first.place, second.place), environment, tuple(differences), len(keys) - len(differences))


def _alike(first: Measurement | None, second: Measurement | None) -> bool:
    if first is None or second is None:
        return False
    return (first.status, _texts(first)) == (second.status, _texts(second))


def _texts(measurement: Measurement) -> dict[str, str]:
    """Figures as a JSON document keeps them, so that a card compares equal to itself read back."""
    return {name: str(value) for name, value in measurement.figures.items()}


def to_json(found: ReportComparison) -> str:
    document = {
        "schema": SCHEMA,
        "places": found.places,
        "environment": {name: list(pair) for name, pair in found.environment.items()},
        "alike": found.num_alike,
        "differences": [
            {
                "family": d.key[0], "op": d.key[1], "dtype": d.key[2], "case": d.key[3],
                "first": None if d.first is None else _shown(d.first),
                "second": None if d.second is None else _shown(d.second),
            }
            for d in found.differences
        ],
    }  # fmt: skip
    return json.dumps(document, indent=1, default=str) + "\n"


def _shown(measurement: Measurement) -> dict[str, Any]:
    row = asdict(measurement)
    return {name: row[name] for name in ("status", "says", "figures")}
