"""Combinations that are known to go wrong, and which of them this machine is.  No TensorFlow: it may be what fails."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LEVELS = ("broken", "wrong", "precision", "slow", "note")  # worst first
DATA = "data/known_combinations.toml"


@dataclass(frozen=True)
class Device:
    """One physical device; `details` as TensorFlow gives them, in text."""

    kind: str  # CPU, GPU...
    name: str
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def compute_capability(self) -> str:
        """`8.0` of an NVIDIA GPU, "" of any other device."""
        given = self.details.get("compute_capability", "")
        return ".".join(part.strip() for part in given.strip("()").split(",")) if given else ""


@dataclass(frozen=True)
class Machine:
    """What conditions are held against."""

    packages: Mapping[str, str]
    python: str
    system: str
    machine: str
    devices: tuple[Device, ...] = ()
    switches: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Condition:
    """All that is given has to hold; None and empty say nothing."""

    packages: Mapping[str, SpecifierSet] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    python: SpecifierSet | None = None
    system: str | None = None
    machine: str | None = None
    device: str | None = None
    compute_capability: SpecifierSet | None = None
    switches: Mapping[str, bool] = field(default_factory=dict)

    def holds(self, on: Machine) -> bool:
        return (
            all(_is_within(on.packages.get(name), wanted) for name, wanted in self.packages.items())
            and not any(name in on.packages for name in self.absent)
            and (self.python is None or _is_within(on.python, self.python))
            and self.system in (None, on.system)
            and self.machine in (None, on.machine)
            and self._has_device(on)
            and all(on.switches.get(name) is wanted for name, wanted in self.switches.items())
        )

    def _has_device(self, on: Machine) -> bool:
        if self.device is None and self.compute_capability is None:
            return True
        return any(
            self.device in (None, device.kind)
            and (self.compute_capability is None or _is_within(device.compute_capability, self.compute_capability))
            for device in on.devices
        )


@dataclass(frozen=True)
class Combination:
    id: str
    level: str
    title: str
    when: Condition
    wrong: str
    do: str
    sources: tuple[str, ...]

    @property
    def is_bad(self) -> bool:
        return self.level != "note"


def _is_within(version: str | None, wanted: SpecifierSet) -> bool:
    """Whether a version is in a range; 2.20.0rc0 is not yet >=2.20."""
    if not version:
        return False
    try:
        return wanted.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def shipped() -> tuple[Combination, ...]:
    """The rows of the data file that comes with the program."""
    return parse(resources.files("diag").joinpath(DATA).read_text(encoding="utf-8"))


def parse(text: str) -> tuple[Combination, ...]:
    """Rows of TOML text.  Raises ValueError for a row that is not as docs/DOCTOR.md has it."""
    return tuple(_combination(row) for row in tomllib.loads(text).get("combination", ()))


def matching(machine: Machine, rows: tuple[Combination, ...]) -> tuple[Combination, ...]:
    """Those that this machine is, the worst first."""
    holding = [row for row in rows if row.when.holds(machine)]
    return tuple(sorted(holding, key=lambda row: LEVELS.index(row.level)))


def _combination(row: Mapping[str, Any]) -> Combination:
    known = {"id", "level", "title", "when", "wrong", "do", "sources"}
    if row.keys() != known:
        raise ValueError(f"{row.get('id', row)}: expected the fields {sorted(known)}, received {sorted(row)}")
    if row["level"] not in LEVELS:
        raise ValueError(f"{row['id']}: expected a level of {', '.join(LEVELS)}, received {row['level']!r}")
    if not row["sources"] or any(not source.startswith("https://") for source in row["sources"]):
        raise ValueError(f"{row['id']}: expected at least one source, each an https address")
    return Combination(
        row["id"], row["level"], row["title"], _condition(row["id"], row["when"]), row["wrong"], row["do"],
        tuple(row["sources"]),
    )  # fmt: skip


def _condition(name: str, when: Mapping[str, Any]) -> Condition:
    known = set(Condition.__dataclass_fields__)
    if not when or not when.keys() <= known:
        raise ValueError(f"{name}: expected a condition of {sorted(known)}, received {sorted(when)}")
    try:
        return Condition(
            packages={package: SpecifierSet(text) for package, text in when.get("packages", {}).items()},
            absent=tuple(when.get("absent", ())),
            python=_range(when.get("python")),
            system=when.get("system"),
            machine=when.get("machine"),
            device=when.get("device"),
            compute_capability=_range(when.get("compute_capability")),
            switches=when.get("switches", {}),
        )
    except InvalidSpecifier as error:
        raise ValueError(f"{name}: {error}") from error


def _range(text: str | None) -> SpecifierSet | None:
    return None if text is None else SpecifierSet(text)
