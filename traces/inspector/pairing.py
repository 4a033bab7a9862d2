"""Which tensors `diff` holds against which: by exact names, never by guess."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diag.common.wording import ranges_of
from diag.errors import UserError
from traces.inspector.address import Address
from traces.inspector.catalogue import BATCHES, SNAPSHOTS, Catalogue, Entry, StoredTensor

ORDER_IN_STEP = {SNAPSHOTS: 0, BATCHES: 1}
"""The state before a step, its batch, and then (2) what it computed."""


@dataclass(frozen=True)
class Pairing:
    """What is held against what, in the order it happened; and what only one of two traces has."""

    pairs: tuple[tuple[StoredTensor, StoredTensor], ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairSelection:
    """Of which traces, steps and lanes pairs are made.

    `step_pair` are two steps to hold against each other; `steps` those to be taken each by itself, None for all.

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


def pair_two(selection: PairSelection, first: Address, second: Address) -> Pairing:
    """Two tensors, each by its address; a step or a lane that only one of them names is the other's too.

    Raises:
      UserError: an address names more than one tensor, no step is named, or both are the same.
    """
    one, other = _one_entry(selection.a, first), _one_entry(selection.b, second)
    steps = _one_step(selection, 0, one, first, second), _one_step(selection, 1, other, second, first)
    selection = PairSelection(selection.a, selection.b, steps, lanes=_two_lanes(selection, first, second))
    if one.path == other.path:
        _refuse_twice(selection, one)
        return Pairing(tuple(_of_entries(selection, one, other)))
    lanes = _lanes_of_two(selection, one, other)
    return Pairing(
        tuple(
            (StoredTensor(selection.a, one, steps[0], a), StoredTensor(selection.b, other, steps[1], b))
            for a, b in lanes
        )
    )


def pair_all(selection: PairSelection, address: Address) -> Pairing:
    """All tensors an address selects, each with the one of the same name.

    Raises:
      UserError: it selects none, or everything would be held against itself.
    """
    selection.refuse_itself()
    entries_b = {entry.path: entry for entry in selection.b.entries}
    selected = selection.a.select(address)
    pairs, only_a, only_b = [], [], []
    for one in selected:
        if one.path in entries_b:
            pairs += list(_of_entries(selection, one, entries_b[one.path].within(address.lane)))
        else:
            only_a.append(one.path)
    if selection.a is not selection.b:
        entries_a = {entry.path for entry in selection.a.entries}
        matching = [e for e in selection.b.entries if address.matches(e.path, e.name, e.kind, e.layer)]
        only_b += [entry.path for entry in matching if entry.path not in entries_a]
        only_a += _steps_only_in(selection.a, selection.b, selection)
        only_b += _steps_only_in(selection.b, selection.a, selection)
    order = {entry.path: place for place, entry in enumerate(selected)}
    pairs.sort(key=lambda pair: (pair[0].step, ORDER_IN_STEP.get(pair[0].entry.kind, 2), order[pair[0].entry.path]))
    return Pairing(tuple(pairs), tuple(only_a), tuple(only_b))


def _of_entries(selection: PairSelection, one: Entry, other: Entry) -> Iterator[tuple[StoredTensor, StoredTensor]]:
    for step_a, step_b in _step_pairs(selection, one, other):
        for lane_a, lane_b in selection.lane_pairs(one, other):
            yield StoredTensor(selection.a, one, step_a, lane_a), StoredTensor(selection.b, other, step_b, lane_b)


def _step_pairs(selection: PairSelection, one: Entry, other: Entry) -> list[tuple[int, int]]:
    in_a, in_b = selection.a.steps_of(one), set(selection.b.steps_of(other))
    if selection.step_pair:
        first, second = selection.step_pair
        return [(first, second)] if first in in_a and second in in_b else []
    return [(step, step) for step in in_a if step in in_b and (selection.steps is None or step in selection.steps)]


def _steps_only_in(one: Catalogue, other: Catalogue, selection: PairSelection) -> list[str]:
    if selection.step_pair:
        return []
    missing = [step for step in one.trace.whole_steps if step not in other.trace.whole_steps]
    wanted = [step for step in missing if selection.steps is None or step in selection.steps]
    return [f"step{'s' if len(wanted) > 1 else ''} {ranges_of(wanted)}"] if wanted else []


def _one_entry(catalogue: Catalogue, address: Address) -> Entry:
    entries = catalogue.select(address)
    exact = [entry for entry in entries if entry.path == address.pattern]
    if len(exact or entries) > 1:
        raise UserError(
            f"{address.text!r} names {len(entries)} tensors, {entries[0].path} first; of two tensors each must be "
            "named by itself, as KIND/NAME@STEP"
        )
    return (exact or entries)[0]


def _one_step(selection: PairSelection, side: int, entry: Entry, address: Address, others: Address) -> int:
    available = (selection.b if side else selection.a).steps_of(entry)
    if steps := address.steps or others.steps:
        chosen = steps.select(available)
    elif selection.step_pair:
        chosen = [selection.step_pair[side]]
    else:
        chosen = [step for step in available if selection.steps is None or step in selection.steps]
    if len(chosen) != 1:
        count = f"{len(chosen)} steps, {ranges_of(chosen)}" if chosen else "no step"
        raise UserError(f"{address.text!r} is of {count}; of two tensors each must be of one, as {entry.path}@STEP")
    return chosen[0]


def _two_lanes(selection: PairSelection, first: Address, second: Address) -> tuple[str, ...] | None:
    one, other = first.lane or second.lane, second.lane or first.lane
    return (one, other) if one and other else selection.lanes


def _lanes_of_two(selection: PairSelection, one: Entry, other: Entry) -> list[tuple[str, str]]:
    """Lane by lane; what all lanes share is held against each lane of the other."""
    if selection.lanes:
        first, second = selection.lanes[0], selection.lanes[-1]
        return [("" if one.is_shared else first, "" if other.is_shared else second)]
    if one.is_shared or other.is_shared:
        return [(a, b) for a in one.lanes for b in other.lanes]
    return [(lane, lane) for lane in one.lanes if lane in other.lanes]


def _refuse_twice(selection: PairSelection, entry: Entry) -> None:
    """One tensor of one step differs from itself only between lanes, which must then be named."""
    if not selection.is_within_step:
        return
    if selection.lanes is None or selection.lanes[0] == selection.lanes[-1] or entry.is_shared:
        raise UserError(f"A and B are both {entry.path}; expected two steps or two lanes, as {entry.path}@STEP:LANE")
