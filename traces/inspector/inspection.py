"""What `show` says of one tensor at one step: each lane by itself, and two lanes against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diag.errors import UserError
from diag.numerics.figures import PairStatistics
from traces.encoding import Array
from traces.inspector.address import Address
from traces.inspector.catalogue import Catalogue, Entry, StoredTensor
from traces.inspector.elements import (
    Element,
    LaneFigures,
    compare_values,
    lane_figures,
    largest_elements,
    worst_elements,
)
from traces.inspector.judgements import Judgement, worst_of


@dataclass(frozen=True)
class TensorView:
    """One tensor at one step.

    `lanes` are those looked at, of which `figures` has one each; empty where only `checksums` are stored.
    With two lanes `pair` compares the second with the first, unless `not_compared` says why it cannot be;
    `elements` are then the worst, and else the largest.
    """

    entry: Entry
    step: int
    lanes: tuple[str, ...]
    checksums: dict[str, int | None]
    figures: tuple[LaneFigures, ...]
    pair: PairStatistics | None
    not_compared: str
    elements: tuple[Element, ...]
    judged: tuple[Judgement, ...]

    @property
    def address(self) -> str:
        return f"{self.entry.path}@{self.step}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "kind": self.entry.kind,
            "name": self.entry.name,
            "layer": self.entry.layer,
            "observed": self.entry.specs[0].observed,
            "step": self.step,
            "lanes": self.lanes,
            "checksums": {lane: None if sum is None else f"{sum:016x}" for lane, sum in self.checksums.items()},
            "statistics": self.figures,
            "compared": self.pair,
            "not_compared": self.not_compared or None,
            "elements": self.elements,
            "judged": [
                {name: getattr(row, name) for name in ("phase", "unit", "excess", "verdict")} for row in self.judged
            ],
        }


def inspect_tensors(
    catalogue: Catalogue, address: Address, lanes: Sequence[str] | None, num_elements: int, limit: int | None
) -> tuple[list[TensorView], int]:
    """The tensors an address names, in the layout's order, and how many more than `limit` there are.

    Of a tensor whose step is not named, the step of its largest excess is taken among those that hold it, and
    else the first of them.

    Raises:
      UserError: it names none, or a lane has no such tensor.
    """
    if address.steps:
        places = catalogue.places(address)
    else:
        places = [(entry, _likely_step(catalogue, entry)) for entry in catalogue.select(address)]
    shown = places[:limit]
    return [_view(catalogue, entry, step, lanes, num_elements) for entry, step in shown], len(places) - len(shown)


def _likely_step(catalogue: Catalogue, entry: Entry) -> int:
    kept = catalogue.steps_kept(entry) or list(catalogue.steps_of(entry))
    if not kept:
        raise UserError(f"{entry.path} is stored of no step: the trace {catalogue.trace.path} holds no whole step yet")
    worst = worst_of(row for row in catalogue.judgements if row.tensor == entry.tensor_name and row.step in set(kept))
    return worst.step if worst else kept[0]


def _view(catalogue: Catalogue, entry: Entry, step: int, lanes: Sequence[str] | None, num_elements: int) -> TensorView:
    lanes = ("",) if entry.is_shared else tuple(lanes or entry.lanes[:2])
    if missing := [lane for lane in lanes if lane not in entry.lanes]:
        raise UserError(f"{entry.path} has no lane {missing[0]!r}; expected one of {', '.join(entry.lanes)}")
    stored = [StoredTensor(catalogue, entry, step, lane) for lane in lanes]
    values = {tensor.lane: tensor.value for tensor in stored if tensor.is_kept}
    not_compared = _not_compared(values, lanes)
    pair: PairStatistics | None = None
    elements: list[Element] = []
    if len(lanes) == 2 and not not_compared:
        reference, candidate = values.values()
        pair, elements = compare_values(reference, candidate), worst_elements(reference, candidate, num_elements)
    elif len(values) == 1:
        elements = largest_elements(next(iter(values.values())), num_elements)
    return TensorView(
        entry=entry,
        step=step,
        lanes=lanes,
        checksums={tensor.lane: tensor.checksum for tensor in stored},
        figures=tuple(lane_figures(lane, array) for lane, array in values.items()),
        pair=pair,
        not_compared=not_compared,
        elements=tuple(elements),
        judged=tuple(row for row in catalogue.judgements if row.tensor == entry.tensor_name and row.step == step),
    )


def _not_compared(values: Mapping[str, Array], lanes: Sequence[str]) -> str:
    """Why two lanes cannot be compared, if they cannot."""
    if len(lanes) < 2:
        return ""
    if missing := [lane for lane in lanes if lane not in values]:
        return f"no value of {' and '.join(missing)} is stored"
    a, b = (values[lane] for lane in lanes)
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{lanes[0]} is {a.dtype.name} {a.shape}, {lanes[1]} {b.dtype.name} {b.shape}"
    return ""
