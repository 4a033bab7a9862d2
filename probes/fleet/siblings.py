"""Which device answers otherwise than its siblings.  No TensorFlow here.

Siblings are devices of one kind: the same chip, driver and TensorFlow.  Under op determinism they have to agree in
every bit; nobody needs to know the right answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from probes.fleet.answers import Answer, FleetDevice, ProbeKey

SCHEMA = "lockstep-fleet/1"
VARIES, OTHER, TIED, LACKS = "not the same twice", "other bits", "no two agree", "no answer"


@dataclass(frozen=True)
class FleetDifference:
    """One probe that one device answers otherwise.

    how: VARIES from pass to pass; OTHER bits than most siblings have; TIED, where no answer has most of them; or LACKS.
    its, theirs: the readings that differ, as one line each; the same and empty where only bits do.
    """

    label: str
    probe: ProbeKey
    how: str
    its: str = ""
    theirs: str = ""


@dataclass(frozen=True)
class Siblings:
    """Devices of one kind.  unsettled: probes that vary from pass to pass on most of them; nothing has to agree."""

    devices: tuple[FleetDevice, ...]
    num_probes: int
    unsettled: tuple[ProbeKey, ...]
    differences: tuple[FleetDifference, ...]

    @property
    def are_several(self) -> bool:
        return len(self.devices) > 1

    def of(self, device: FleetDevice) -> tuple[FleetDifference, ...]:
        return tuple(difference for difference in self.differences if difference.label == device.label)


@dataclass(frozen=True)
class FleetComparison:
    """siblings: by kind, those with more devices first.  silent: devices with no answers.

    seen_twice: labels of cards that other labels stand for already: two workers may see one card of their host.
    """

    siblings: tuple[Siblings, ...]
    silent: tuple[FleetDevice, ...]
    seen_twice: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether some device is not as it should be: unlike its siblings, wrong in what is known, or silent."""
        return bool(self.silent) or any(
            group.differences or any(device.failures for device in group.devices) for group in self.siblings
        )


def compare(devices: Sequence[FleetDevice]) -> FleetComparison:
    silent = tuple(device for device in devices if device.error is not None)
    by_kind: dict[tuple[tuple[str, str], ...], list[FleetDevice]] = {}
    cards: set[tuple[str, str]] = set()
    seen_twice = []
    for device in devices:
        card = (device.host, device.identity)
        if device.error is None and device.identity and card in cards:
            seen_twice.append(device.label)
        elif device.error is None:
            cards.add(card)
            by_kind.setdefault(tuple(sorted(device.kind.items())), []).append(device)
    groups = sorted(by_kind.values(), key=len, reverse=True)
    return FleetComparison(tuple(map(_siblings, groups)), silent, tuple(seen_twice))


def _siblings(devices: Sequence[FleetDevice]) -> Siblings:
    probes = list(dict.fromkeys(probe for device in devices for probe in device.answers))
    unsettled: list[ProbeKey] = []
    differences: list[FleetDifference] = []
    for probe in probes:
        answers = {device.label: device.answers.get(probe) for device in devices}
        if 2 * sum(answer is not None and answer.bits is None for answer in answers.values()) > len(devices):
            unsettled.append(probe)
        else:
            differences.extend(_of_probe(probe, answers))
    return Siblings(tuple(devices), len(probes), tuple(unsettled), tuple(differences))


def _of_probe(probe: ProbeKey, answers: dict[str, Answer | None]) -> Iterator[FleetDifference]:
    stable = {label: answer for label, answer in answers.items() if answer is not None and answer.bits is not None}
    most, number = Counter(answer.bits for answer in stable.values()).most_common(1)[0] if stable else (None, 0)
    is_settled = 2 * number > len(stable)
    usual = next((answer for answer in stable.values() if answer.bits == most), None)
    for label, answer in answers.items():
        if answer is None:
            yield FleetDifference(label, probe, LACKS)
        elif answer.bits is None:
            yield FleetDifference(label, probe, VARIES, *_unlike(answer, usual))
        elif not is_settled:
            other = next(each for name, each in stable.items() if name != label and each.bits != answer.bits)
            yield FleetDifference(label, probe, TIED, *_unlike(answer, other))
        elif answer.bits != most:
            yield FleetDifference(label, probe, OTHER, *_unlike(answer, usual))


def _unlike(answer: Answer, usual: Answer | None) -> tuple[str, str]:
    """The first reading that is not alike, as each has it."""
    if usual is None:
        return "", ""
    for case in dict.fromkeys((*answer.readings, *usual.readings)):
        its, theirs = answer.readings.get(case), usual.readings.get(case)
        if its != theirs:
            return _said(its), _said(theirs)
    return "", ""


def _said(reading: tuple[str, str] | None) -> str:
    return "-" if reading is None else ": ".join(filter(None, reading))


def to_document(found: FleetComparison) -> dict[str, Any]:
    """For `--json`."""
    return {
        "siblings": [
            {
                "kind": dict(group.devices[0].kind), "probes": group.num_probes, "unsettled": group.unsettled,
                "devices": [
                    {
                        "device": device.label, "host": device.host, "identity": device.identity,
                        "failures": device.failures, "seconds": device.seconds, "bytes": device.num_bytes,
                        "differences": [
                            {"probe": each.probe, "how": each.how, "says": each.its, "siblings_say": each.theirs}
                            for each in group.of(device)
                        ],
                    }
                    for device in group.devices
                ],
            }
            for group in found.siblings
        ],
        "seen_twice": found.seen_twice,
        "silent": [{"device": each.label, "host": each.host, "error": each.error} for each in found.silent],
    }  # fmt: skip
