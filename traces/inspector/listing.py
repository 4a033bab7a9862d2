"""What `ls` says: the steps, the layers and the tensors of a trace, and how bad each is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from traces.inspector.address import Address, StepSet
from traces.inspector.catalogue import Catalogue, Entry
from traces.inspector.header import Header, header_of
from traces.inspector.judgements import DIVERGENCE, Judgement, worst_by
from traces.inspector.reading import InspectedTrace


@dataclass(frozen=True)
class StepRow:
    """One step: its worst judgement, how many were what, and how many of the tensors are kept."""

    step: int
    worst: Judgement | None
    num_judged: int
    num_unjudged: int
    num_divergences: int
    num_kept: int
    num_tensors: int


@dataclass(frozen=True)
class TensorRow:
    """One tensor over the steps chosen; `worst_at` has the worst judgement of each step that has one."""

    entry: Entry
    steps_kept: tuple[int, ...]
    worst_at: dict[int, Judgement]

    @property
    def worst(self) -> Judgement | None:
        return max(self.worst_at.values(), key=lambda judged: judged.rank, default=None)


@dataclass(frozen=True)
class LayerRow:
    """One layer, with the judgements of its ops too; the loss and the optimizer have no tensors."""

    name: str
    tensors: tuple[TensorRow, ...]
    worst_at: dict[int, Judgement]

    @property
    def worst(self) -> Judgement | None:
        return max(self.worst_at.values(), key=lambda judged: judged.rank, default=None)


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
        return {
            **self.header.to_dict(),
            "steps": [_step_dict(row) for row in self.steps],
            "layers": [
                {
                    "layer": layer.name,
                    "worst": _judgement_dict(layer.worst),
                    "tensors": [_tensor_dict(row, per_step) for row in layer.tensors],
                }
                for layer in self.layers
            ],
            "others": [_tensor_dict(row, False) for row in self.others],
        }


def listing_of(trace: InspectedTrace, address: Address, steps: StepSet | None) -> Listing:
    """What the address selects, in the steps it or `steps` chooses.

    The loss and the optimizer are layers without tensors, which only judgements name.

    Raises:
      UserError: it selects nothing.
    """
    catalogue = Catalogue(trace)
    layers = {layer for layer in {row.layer for row in catalogue.judgements} if address.matches(layer)}
    entries = catalogue.matching(address) if layers or address.pattern == "*" else catalogue.select(address)
    of_steps = [entry for entry in entries if entry.is_of_steps]
    wanted = address.steps or steps
    chosen = wanted.select(trace.whole_steps) if wanted else trace.whole_steps
    tensors = {(entry.kind, entry.name) for entry in of_steps}
    meant = set(chosen)
    rows = [row for row in catalogue.judgements if row.step in meant and (row.tensor in tensors or row.layer in layers)]
    return Listing(
        header_of(trace),
        tuple(_step_rows(trace, of_steps, rows, chosen)),
        tuple(_layer_rows(trace, of_steps, rows, chosen)),
        tuple(TensorRow(entry, tuple(catalogue.steps_kept(entry)), {}) for entry in entries if not entry.is_of_steps),
    )


def _step_rows(
    trace: InspectedTrace, entries: Sequence[Entry], rows: Sequence[Judgement], steps: Sequence[int]
) -> list[StepRow]:
    by_step: dict[int, list[Judgement]] = {step: [] for step in steps}
    for row in rows:
        by_step[row.step].append(row)
    return [
        StepRow(
            step,
            max(of_step, key=lambda judged: judged.rank, default=None),
            sum(row.is_judged for row in of_step),
            sum(not row.is_judged for row in of_step),
            sum(row.verdict == DIVERGENCE for row in of_step),
            sum(_is_kept(trace, entry, step) for entry in entries),
            len(entries),
        )
        for step, of_step in by_step.items()
    ]


def _layer_rows(
    trace: InspectedTrace, entries: Sequence[Entry], rows: Sequence[Judgement], steps: Sequence[int]
) -> list[LayerRow]:
    of_tensor = _by_step(worst_by(rows, lambda row: (row.tensor, row.step)))
    of_layer = _by_step(worst_by(rows, lambda row: (row.layer, row.step)))
    tensors: dict[str, list[TensorRow]] = {}
    for entry in entries:
        kept = tuple(step for step in steps if _is_kept(trace, entry, step))
        row = TensorRow(entry, kept, of_tensor.get((entry.kind, entry.name), {}))
        tensors.setdefault(entry.layer, []).append(row)
    layers = sorted(dict.fromkeys([*tensors, *of_layer]), key=_order_in(trace.layout.layers))
    return [LayerRow(layer, tuple(tensors.get(layer, ())), of_layer.get(layer, {})) for layer in layers]


def _order_in(layers: Sequence[str]) -> Callable[[str], int]:
    """Place of a layer among those that run; the others stand behind, as they come."""
    order = {layer: place for place, layer in enumerate(layers)}
    return lambda layer: order.get(layer, len(order))


def _by_step(worst: dict[tuple[Any, int], Judgement]) -> dict[Any, dict[int, Judgement]]:
    found: dict[Any, dict[int, Judgement]] = {}
    for (key, step), row in worst.items():
        found.setdefault(key, {})[step] = row
    return found


def _is_kept(trace: InspectedTrace, entry: Entry, step: int) -> bool:
    return any(spec.key in trace.kept(step) for spec in entry.specs)


def _step_dict(row: StepRow) -> dict[str, Any]:
    return {
        "step": row.step,
        "worst": _judgement_dict(row.worst),
        "num_judged": row.num_judged,
        "num_unjudged": row.num_unjudged,
        "num_divergences": row.num_divergences,
        "num_tensors_kept": row.num_kept,
        "num_tensors": row.num_tensors,
    }


def _tensor_dict(row: TensorRow, per_step: bool) -> dict[str, Any]:
    entry = row.entry
    found = {
        "path": entry.path,
        "kind": entry.kind,
        "name": entry.name,
        "lanes": {spec.lane: {"dtype": spec.dtype, "shape": spec.shape} for spec in entry.specs},
        "steps_kept": row.steps_kept,
        "worst": _judgement_dict(row.worst),
    }
    return {**found, "excess_at": {step: each.excess for step, each in row.worst_at.items()}} if per_step else found


def _judgement_dict(judged: Judgement | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    return {
        "excess": judged.excess, "verdict": judged.verdict, "step": judged.step, "phase": judged.phase,
        "table": judged.table, "row": judged.row, "subject": judged.subject,
    }  # fmt: skip
