"""Which tensors `diff` holds against which: by exact names, never by guess."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diag.common.wording import ranges_of
from diag.errors import UserError
from traces.inspector.address import Address
from traces.inspector.catalogue import BATCHES, SNAPSHOTS, Catalogue, Entry

ORDER_IN_STEP = {SNAPSHOTS: 0, BATCHES: 1}
"""The state before a step, its batch, and then (2) what it computed."""


@dataclass(frozen=True)
class Side:
    """One tensor of one trace, at a step and in a lane, which is "" for what all lanes share."""

    catalogue: Catalogue
    entry: Entry
    step: int
    lane: str

    @property
    def address(self) -> str:
        return f"{self.entry.path}@{self.step}" + (f":{self.lane}" if self.lane else "")

    @property
    def checksum(self) -> int | None:
        return self.catalogue.checksum(self.entry, self.step, self.lane)

    @property
    def is_kept(self) -> bool:
        return self.catalogue.holds(self.entry, self.step, self.lane)


@dataclass(frozen=True)
class Pairing:
    """What is held against what, in the order it happened; and what only one of two traces has."""

    pairs: tuple[tuple[Side, Side], ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """`step_pair` are two steps to hold against each other; `steps` those to be taken each by itself, None for all.

    `lanes` are one, or two to hold against each other; None for the usual, which is each lane against itself
    where the traces or the steps are two, and the first two lanes where they are not.
    """

    a: Catalogue
    b: Catalogue
    step_pair: tuple[int, int] | None = None
    steps: frozenset[int] | None = None
    lanes: tuple[str, ...] | None = None

    def lane_pairs(self, one: Entry, other: Entry) -> list[tuple[str, str]]:
        shared = [lane for lane in one.lanes if lane in other.lanes]
        if self.lanes is None:
            if self.is_within_step:
                return [(shared[0], shared[1])] if len(shared) > 1 else []
            return [(lane, lane) for lane in shared]
        if shared == [""]:
            return [] if self.is_within_step else [("", "")]
        first, second = self.lanes[0], self.lanes[-1]
        return [(first, second)] if first in one.lanes and second in other.lanes else []

    @property
    def is_within_step(self) -> bool:
        """Whether both sides are of one trace and one step, so that only the lanes are two."""
        return self.a is self.b and (self.step_pair is None or self.step_pair[0] == self.step_pair[1])

    def refuse_itself(self) -> None:
        """Raise `UserError` if everything would be held against itself: it is the same, and that says nothing."""
        if self.is_within_step and self.lanes is not None and self.lanes[0] == self.lanes[-1]:
            raise UserError(
                f"diff would hold lane {self.lanes[0]} against itself; expected two lanes, two steps, or --other FILE"
            )


def pair_two(question: Question, first: Address, second: Address) -> Pairing:
    """Two tensors, each by an address of its own; a step or a lane that only one of them says is the other's too.

    Raises:
      UserError: an address names more than one tensor, no step is said, or both are the same.
    """
    one, other = _one_entry(question.a, first), _one_entry(question.b, second)
    steps = _one_step(question, 0, one, first, second), _one_step(question, 1, other, second, first)
    question = Question(question.a, question.b, steps, lanes=_two_lanes(question, first, second))
    if one.path == other.path and question.is_within_step:
        _refuse_twice(question, one)
    if one.path == other.path:
        return Pairing(tuple(_of_entries(question, one, other)))
    lanes = _lanes_of_two(question, one, other)
    return Pairing(tuple((Side(question.a, one, steps[0], a), Side(question.b, other, steps[1], b)) for a, b in lanes))


def pair_all(question: Question, address: Address) -> Pairing:
    """All tensors an address selects, each with the one of the same name.

    Raises:
      UserError: it selects none, or everything would be held against itself.
    """
    question.refuse_itself()
    entries_b = {entry.path: entry for entry in question.b.entries}
    selected = question.a.select(address)
    pairs, only_a, only_b = [], [], []
    for one in selected:
        if one.path in entries_b:
            pairs += list(_of_entries(question, one, entries_b[one.path].within(address.lane)))
        else:
            only_a.append(one.path)
    if question.a is not question.b:
        entries_a = {entry.path for entry in question.a.entries}
        matching = [e for e in question.b.entries if address.matches(e.path, e.name, e.kind, e.layer)]
        only_b += [entry.path for entry in matching if entry.path not in entries_a]
        only_a += _steps_only_in(question.a, question.b, question)
        only_b += _steps_only_in(question.b, question.a, question)
    order = {entry.path: place for place, entry in enumerate(selected)}
    pairs.sort(key=lambda pair: (pair[0].step, ORDER_IN_STEP.get(pair[0].entry.kind, 2), order[pair[0].entry.path]))
    return Pairing(tuple(pairs), tuple(only_a), tuple(only_b))


def _of_entries(question: Question, one: Entry, other: Entry) -> Iterator[tuple[Side, Side]]:
    for step_a, step_b in _step_pairs(question, one, other):
        for lane_a, lane_b in question.lane_pairs(one, other):
            yield Side(question.a, one, step_a, lane_a), Side(question.b, other, step_b, lane_b)


def _step_pairs(question: Question, one: Entry, other: Entry) -> list[tuple[int, int]]:
    in_a, in_b = question.a.steps_of(one), set(question.b.steps_of(other))
    if question.step_pair:
        first, second = question.step_pair
        return [(first, second)] if first in in_a and second in in_b else []
    return [(step, step) for step in in_a if step in in_b and (question.steps is None or step in question.steps)]


def _steps_only_in(one: Catalogue, other: Catalogue, question: Question) -> list[str]:
    if question.step_pair:
        return []
    missing = [step for step in one.trace.whole_steps if step not in other.trace.whole_steps]
    wanted = [step for step in missing if question.steps is None or step in question.steps]
    return [f"step{'s' if len(wanted) > 1 else ''} {ranges_of(wanted)}"] if wanted else []


def _one_entry(catalogue: Catalogue, address: Address) -> Entry:
    found = catalogue.select(address)
    exact = [entry for entry in found if entry.path == address.pattern]
    if len(exact or found) > 1:
        raise UserError(
            f"{address.text!r} names {len(found)} tensors, {found[0].path} first; of two tensors each must be named by "
            "itself, as KIND/NAME@STEP"
        )
    return (exact or found)[0]


def _one_step(question: Question, side: int, entry: Entry, own: Address, others: Address) -> int:
    available = (question.b if side else question.a).steps_of(entry)
    if said := own.steps or others.steps:
        chosen = said.select(available)
    elif question.step_pair:
        chosen = [question.step_pair[side]]
    else:
        chosen = [step for step in available if question.steps is None or step in question.steps]
    if len(chosen) != 1:
        steps = f"{len(chosen)} steps, {ranges_of(chosen)}" if chosen else "no step"
        raise UserError(f"{own.text!r} is of {steps}; of two tensors each must be of one, as {entry.path}@STEP")
    return chosen[0]


def _two_lanes(question: Question, first: Address, second: Address) -> tuple[str, ...] | None:
    said = (first.lane or second.lane, second.lane or first.lane)
    return (str(said[0]), str(said[1])) if said[0] else question.lanes


def _lanes_of_two(question: Question, one: Entry, other: Entry) -> list[tuple[str, str]]:
    """Lane by lane; what all lanes share is held against each lane of the other."""
    if question.lanes:
        first, second = question.lanes[0], question.lanes[-1]
        return [("" if one.is_shared else first, "" if other.is_shared else second)]
    if one.is_shared or other.is_shared:
        return [(a, b) for a in one.lanes for b in other.lanes]
    return [(lane, lane) for lane in one.lanes if lane in other.lanes]


def _refuse_twice(question: Question, entry: Entry) -> None:
    """One tensor of one step differs from itself only between lanes, which must then be said."""
    if question.lanes is None or question.lanes[0] == question.lanes[-1] or entry.is_shared:
        raise UserError(f"A and B are both {entry.path}; expected two steps or two lanes, as {entry.path}@STEP:LANE")
