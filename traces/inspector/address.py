"""How a tensor, or a set of them, is named on the command line: KIND/NAME[@STEPS[:LANE]]."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from diag.common.wording import ranges_of
from diag.errors import UserError

LAST = "last"
_STEPS = re.compile(rf"\*|{LAST}|(\d{{1,18}})(?:-(\d{{1,18}}))?", re.ASCII)


@dataclass(frozen=True)
class StepSet:
    """Step numbers as a person names them: "3", "0,3-5", "last", or "*" for all of them."""

    text: str

    def __post_init__(self) -> None:
        for part in self._parts:
            if not _STEPS.fullmatch(part):
                raise UserError(f"Steps {self.text!r} cannot be read; expected such as 3 or 0,3-5 or last or '*'")

    def select(self, available: Iterable[int], what: str = "steps") -> list[int]:
        """Those of the available numbers that are meant, in their order.

        Raises:
          UserError: none is, or a single number is not there.
        """
        available = list(dict.fromkeys(available))
        wanted = {number for part in self._parts for number in self._numbers(part, available, what)}
        if not wanted:
            raise UserError(f"No step of {self.text!r} is there; the trace holds {_listed(available, what)}")
        return [number for number in available if number in wanted]

    @property
    def _parts(self) -> list[str]:
        return self.text.replace(" ", "").split(",")

    def _numbers(self, part: str, available: Sequence[int], what: str) -> Sequence[int]:
        if part == "*":
            return available
        if part == LAST:
            return available[-1:]
        first, _, end = part.partition("-")
        if int(first) == int(end or first) and int(first) not in available:
            raise UserError(f"There is no step {int(first)}; the trace holds {_listed(available, what)}")
        return [number for number in available if int(first) <= number <= int(end or first)]


@dataclass(frozen=True)
class Address:
    """A pattern over names, and the steps and the lane where they are named.

    `text` is what was given; `pattern` is a glob, in which `*` crosses slashes.
    """

    text: str
    pattern: str
    steps: StepSet | None = None
    lane: str | None = None

    def at(self, steps: StepSet | None) -> Address:
        """The same address, at these steps where it has none itself."""
        return self if self.steps else replace(self, steps=steps)

    def matches(self, *names: str) -> bool:
        """Whether one of the names is the pattern, brackets and all, or fits it as a glob."""
        return any(name == self.pattern or fnmatchcase(name, self.pattern) for name in names)


def parse_address(text: str, lanes: Sequence[str]) -> Address:
    """Split an address at its last "@", if what follows it reads as steps and a lane.

    A name may hold an "@" of its own: what follows it then does not read so, and belongs to the name. Before the
    "@" nothing is as good as "*".
    """
    pattern, at, place = text.rpartition("@")
    steps, colon, lane = place.partition(":")
    reads_as_steps = all(map(_STEPS.fullmatch, steps.split(","))) if steps else bool(colon)
    if not at or not reads_as_steps:
        return Address(text, text)
    if colon and lane not in lanes:
        raise UserError(f"{text!r} names no lane of this trace; expected after the colon one of {', '.join(lanes)}")
    return Address(text, pattern or "*", StepSet(steps) if steps else None, lane or None)


def parse_lanes(text: str | None, lanes: Sequence[str]) -> tuple[str, ...] | None:
    """One or two lanes, as "candidate" or "reference,candidate"; None where none are named."""
    if text is None:
        return None
    chosen = tuple(text.replace(" ", "").split(","))
    if len(chosen) > 2 or any(lane not in lanes for lane in chosen):
        raise UserError(f"Lanes {text!r} are not known; expected one, or two with a comma, of {', '.join(lanes)}")
    return chosen


def _listed(available: Sequence[int], what: str) -> str:
    return f"{what} {ranges_of(available)}" if available else f"no {what}"
