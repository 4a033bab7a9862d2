"""What `ls` says: the steps, the layers and the tensors of a trace, and how bad each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from traces.inspector.address import Address
from traces.inspector.catalogue import Catalogue, Entry
from traces.inspector.header import Header, header_of
from traces.inspector.judgements import DIVERGENCE, Judgement, worst_by, worst_of
from traces.inspector.reading import InspectedTrace


@dataclass(frozen=True)
class StepRow:
    """One step: its worst judgement, how many were what, and how many of the tensors are kept."""

    step: int
    worst: Judgement | None
    num_judged: int
    num_unjudged: int
    num_divergences: int
    num_tensors_kept: int
    num_tensors: int

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "worst": _judgement_dict(self.worst)}


@dataclass(frozen=True)
class JudgedRow:
    """What was judged in several steps; `worst_at` has the worst judgement of each step that has one."""

    worst_at: dict[int, Judgement]

    @property
    def worst(self) -> Judgement | None:
        return worst_of(self.worst_at.values())


@dataclass(frozen=True)
class TensorRow(JudgedRow):
    """One tensor over the steps chosen."""

    entry: Entry
    steps_kept: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.entry.path,
            "kind": self.entry.kind,
            "name": self.entry.name,
            "lanes": {spec.lane: {"dtype": spec.dtype, "shape": spec.shape} for spec in self.entry.specs},
            "steps_kept": self.steps_kept,
            "worst": _judgement_dict(self.worst),
        }

    def to_dict_by_step(self) -> dict[str, Any]:
        return {**self.to_dict(), "excess_at": {step: each.excess for step, each in self.worst_at.items()}}


@dataclass(frozen=True)
class LayerRow(JudgedRow):
    """One layer, with the judgements of its ops too; the loss and the optimizer have no tensors."""

    name: str
    tensors: tuple[TensorRow, ...]


@dataclass(frozen=True)
class Listing:
    """`others` are the variables of snapshots and the components of batches."""

    header: Header
    steps: tuple[StepRow, ...]
    layers: tuple[LayerRow, ...]
    others: tuple[TensorRow, ...]

    @property
    def num_tensors(self) -> int:
        return sum(len(layer.tensors) for layer in self.layers)

    def to_dict(self, per_step: bool) -> dict[str, Any]:
        layers = [
            {
                "layer": layer.name,
                "worst": _judgement_dict(layer.worst),
                "tensors": [row.to_dict_by_step() if per_step else row.to_dict() for row in layer.tensors],
            }
            for layer in self.layers
        ]
        return {**self.header.to_dict(), "steps": self.steps, "layers": layers, "others": self.others}


def _judgement_dict(judged: Judgement | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    names = ("excess", "verdict", "step", "phase", "table", "row", "subject")
    return {name: getattr(judged, name) for name in names}


def listing_of(trace: InspectedTrace, address: Address) -> Listing:
    """What the address selects, in the steps it chooses.

    The loss and the optimizer are layers without tensors, which only judgements name.

    Raises:
      UserError: it selects nothing.
    """
    catalogue = Catalogue(trace)
    layers = {layer for layer in {row.layer for row in catalogue.judgements} if address.matches(layer)}
    entries = catalogue.matching(address) if layers or address.pattern == "*" else catalogue.select(address)
    of_steps = [entry for entry in entries if entry.is_of_steps]
    steps = address.steps.select(trace.whole_steps) if address.steps else trace.whole_steps
    tensors, wanted = {entry.tensor_name for entry in of_steps}, set(steps)
    rows = [
        row for row in catalogue.judgements if row.step in wanted and (row.tensor in tensors or row.layer in layers)
    ]
    return Listing(
        header_of(trace),
        tuple(_step_rows(catalogue, of_steps, rows, steps)),
        tuple(_layer_rows(catalogue, of_steps, rows, steps)),
        tuple(TensorRow({}, entry, tuple(catalogue.steps_kept(entry))) for entry in entries if not entry.is_of_steps),
    )


def _step_rows(
    catalogue: Catalogue, entries: Sequence[Entry], rows: Sequence[Judgement], steps: Sequence[int]
) -> list[StepRow]:
    by_step: dict[int, list[Judgement]] = {step: [] for step in steps}
    for row in rows:
        by_step[row.step].append(row)
    return [
        StepRow(
            step=step,
            worst=worst_of(of_step),
            num_judged=sum(row.is_judged for row in of_step),
            num_unjudged=sum(not row.is_judged for row in of_step),
            num_divergences=sum(row.verdict == DIVERGENCE for row in of_step),
            num_tensors_kept=sum(catalogue.is_kept(entry, step) for entry in entries),
            num_tensors=len(entries),
        )
        for step, of_step in by_step.items()
    ]


def _layer_rows(
    catalogue: Catalogue, entries: Sequence[Entry], rows: Sequence[Judgement], steps: Sequence[int]
) -> list[LayerRow]:
    """In the order the layers run; those that are not among them stand behind, as they come."""
    of_tensor = _by_step(worst_by(rows, lambda row: (row.tensor, row.step)))
    of_layer = _by_step(worst_by(rows, lambda row: (row.layer, row.step)))
    tensors: dict[str, list[TensorRow]] = {}
    for entry in entries:
        kept = tuple(step for step in steps if catalogue.is_kept(entry, step))
        tensors.setdefault(entry.layer, []).append(TensorRow(of_tensor.get(entry.tensor_name, {}), entry, kept))
    order = {layer: place for place, layer in enumerate(catalogue.trace.layout.layers)}
    layers = sorted(dict.fromkeys([*tensors, *of_layer]), key=lambda layer: order.get(layer, len(order)))
    return [LayerRow(of_layer.get(layer, {}), layer, tuple(tensors.get(layer, ()))) for layer in layers]


def _by_step(worst: dict[tuple[Any, int], Judgement]) -> dict[Any, dict[int, Judgement]]:
    by_key: dict[Any, dict[int, Judgement]] = {}
    for (key, step), row in worst.items():
        by_key.setdefault(key, {})[step] = row
    return by_key
