"""What each device of a fleet answered, as records.  No TensorFlow here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from diag.common.task import Done
from probes.frame.device_report import FAIL

ProbeKey: TypeAlias = "tuple[str, str, str, str]"
"""Family, op, dtype, case."""


@dataclass(frozen=True)
class Answer:
    """One probe on one device.

    bits: a digest of every bit that it computed; None where two passes over all probes did not give the same.
    readings: case -> (status, what it says), of the first pass.
    """

    bits: str | None
    readings: Mapping[str, tuple[str, str]]

    @property
    def failures(self) -> int:
        return sum(status == FAIL for status, _ in self.readings.values())


@dataclass(frozen=True)
class FleetDevice:
    """One device: where it is, what it is, and all its answers.

    label: names it among all.  kind: all that siblings have in common; identity: what tells one card of a host from
    another, such as a PCI bus id, "" where nothing does.  error: why there are no answers.
    """

    label: str
    host: str = ""
    identity: str = ""
    kind: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[ProbeKey, Answer] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0
    num_bytes: int = 0

    @property
    def failures(self) -> int:
        return sum(answer.failures for answer in self.answers.values())


def device_of(label: str, done: Done) -> FleetDevice:
    """A device out of the result of its task (probes/fleet/asking.py)."""
    if done.error is not None:
        return FleetDevice(label, done.host, error=done.error, seconds=done.seconds)
    said: dict[str, Any] = done.value
    answers = {
        (row["family"], row["op"], row["dtype"], row["case"]): Answer(
            row["bits"], {case: (status, says) for case, status, says in row["readings"]}
        )
        for row in said["probes"]
    }
    return FleetDevice(
        label, done.host, said["identity"], said["kind"], answers, seconds=done.seconds, num_bytes=done.num_bytes
    )
