"""What `show` says of one tensor at one step: each lane by itself, and two lanes against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diag.errors import UserError
from diag.numerics.statistics import PairStatistics, compare
from traces.encoding import Array
from traces.inspector.address import Address, StepSet
from traces.inspector.catalogue import Catalogue, Entry
from traces.inspector.elements import Element, LaneFigures, as_real, lane_figures, largest_elements, worst_elements
from traces.inspector.judgements import Judgement


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
            "statistics": [vars(figures) for figures in self.figures],
            "compared": None if self.pair is None else self.pair.to_dict(),
            "not_compared": self.not_compared or None,
            "elements": [
                {"index": each.index, "ulp": each.ulp, "values": [vars(value) for value in each.values]}
                for each in self.elements
            ],
            "judged": [
                {"phase": row.phase, "unit": row.unit, "excess": row.excess, "verdict": row.verdict}
                for row in self.judged
            ],
        }


def views_of(
    catalogue: Catalogue,
    address: Address,
    steps: StepSet | None,
    lanes: Sequence[str] | None,
    num_elements: int,
    limit: int | None,
) -> tuple[list[TensorView], int]:
    """The tensors an address names, in the layout's order, and how many more than `limit` there are.

    Of a tensor whose step is not said, the step of its largest excess is taken among those that hold it, and
    else the first of them.

    Raises:
      UserError: it names none, or a lane has no such tensor.
    """
    if address.steps or steps:
        places = catalogue.places(address, steps)
    else:
        places = [(entry, _likely_step(catalogue, entry)) for entry in catalogue.select(address)]
    shown = places[:limit]
    views = [_view(catalogue, entry, step, lanes, num_elements) for entry, step in shown]
    return views, len(places) - len(shown)


def _likely_step(catalogue: Catalogue, entry: Entry) -> int:
    kept = catalogue.steps_kept(entry) or list(catalogue.steps_of(entry))
    if not kept:
        raise UserError(f"{entry.path} is stored of no step: the trace {catalogue.trace.path} holds no whole step yet")
    judged = [row for row in catalogue.judgements if row.tensor == (entry.kind, entry.name) and row.step in set(kept)]
    return max(judged, key=lambda row: row.rank).step if judged else kept[0]


def _view(catalogue: Catalogue, entry: Entry, step: int, lanes: Sequence[str] | None, num_elements: int) -> TensorView:
    lanes = ("",) if entry.is_shared else tuple(lanes or entry.lanes[:2])
    if missing := [lane for lane in lanes if lane not in entry.lanes]:
        raise UserError(f"{entry.path} has no lane {missing[0]!r}; expected one of {', '.join(entry.lanes)}")
    values = {lane: catalogue.value(entry, step, lane) for lane in lanes if catalogue.holds(entry, step, lane)}
    pair, not_compared = _compared(values, lanes)
    arrays = list(values.values())
    elements: list[Element] = []
    if pair is not None:
        elements = worst_elements(arrays[0], arrays[1], num_elements)
    elif len(arrays) == 1:
        elements = largest_elements(arrays[0], num_elements)
    return TensorView(
        entry=entry,
        step=step,
        lanes=lanes,
        checksums={lane: catalogue.checksum(entry, step, lane) for lane in lanes},
        figures=tuple(lane_figures(lane, array) for lane, array in values.items()),
        pair=pair,
        not_compared=not_compared,
        elements=tuple(elements),
        judged=tuple(
            row for row in catalogue.judgements if row.tensor == (entry.kind, entry.name) and row.step == step
        ),
    )


def _compared(values: dict[str, Array], lanes: Sequence[str]) -> tuple[PairStatistics | None, str]:
    if len(lanes) < 2:
        return None, ""
    if missing := [lane for lane in lanes if lane not in values]:
        return None, f"no value of {' and '.join(missing)} is stored"
    a, b = (values[lane] for lane in lanes)
    if a.dtype != b.dtype or a.shape != b.shape:
        return None, f"{lanes[0]} is {a.dtype.name} {a.shape}, {lanes[1]} {b.dtype.name} {b.shape}"
    return compare(as_real(a), as_real(b)), ""
