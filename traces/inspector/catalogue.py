"""Everything in a trace that has a name: tensors of steps, variables of snapshots, components of batches."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from diag.common.wording import shape_text
from diag.errors import UserError
from traces.encoding import Array
from traces.inspector.address import Address, StepSet
from traces.inspector.judgements import Judgement, TensorName, judgements
from traces.inspector.reading import InspectedTrace
from traces.schema import TensorKey, TensorSpec

SNAPSHOTS, BATCHES, ACTIVATIONS = "snapshots", "batches", "activations"


@dataclass(frozen=True)
class Entry:
    """One named tensor: the same kind and name in every lane that has it.

    `specs` has one for each lane, in the layout's order; what all lanes share has the lane "".
    """

    kind: str
    name: str
    layer: str
    specs: tuple[TensorSpec, ...]

    @property
    def tensor_name(self) -> TensorName:
        return TensorName(self.kind, self.name)

    @property
    def path(self) -> str:
        return self.tensor_name.path

    @property
    def lanes(self) -> tuple[str, ...]:
        return tuple(spec.lane for spec in self.specs)

    def within(self, lane: str | None) -> Entry:
        """The same of one lane alone; what all lanes share is of each."""
        return self if lane is None else replace(self, specs=tuple(s for s in self.specs if s.lane in ("", lane)))

    @property
    def is_shared(self) -> bool:
        return self.lanes == ("",)

    @property
    def is_of_steps(self) -> bool:
        return self.kind not in (SNAPSHOTS, BATCHES)

    @property
    def dtype(self) -> str:
        """Of the lanes; both where they have two."""
        return "/".join(dict.fromkeys(spec.dtype for spec in self.specs))

    @property
    def shape(self) -> str:
        return "/".join(dict.fromkeys(shape_text(spec.shape) for spec in self.specs))


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of one trace, at a step and in a lane, which is "" for what all lanes share."""

    catalogue: Catalogue
    entry: Entry
    step: int
    lane: str

    @property
    def address(self) -> str:
        return f"{self.entry.path}@{self.step}" + (f":{self.lane}" if self.lane else "")

    @property
    def dtype(self) -> str:
        return next(spec.dtype for spec in self.entry.specs if spec.lane == self.lane)

    @property
    def checksum(self) -> int | None:
        """Of what the step had, be it kept or not; None where nothing was handed over."""
        if self.entry.is_of_steps:
            return self.catalogue.trace.checksums(self.step).get(self._key)
        return self.catalogue.state_checksums(self.entry.kind, self.step, self.lane).get(self.entry.name)

    @property
    def is_kept(self) -> bool:
        """Whether the value itself is stored, and not just its checksum; of states and batches all are."""
        if self.entry.is_of_steps:
            return self._key in self.catalogue.trace.kept(self.step)
        return self.checksum is not None

    @property
    def value(self) -> Array:
        """A value that the trace holds, in its own dtype."""
        if self.entry.is_of_steps:
            return self.catalogue.trace.tensor(self.step, *self._key)
        return self.catalogue.state(self.entry.kind, self.step, self.lane)[self.entry.name]

    @property
    def _key(self) -> TensorKey:
        return self.lane, self.entry.kind, self.entry.name


class Catalogue:
    """The entries of a trace, the values behind them, and how they were judged."""

    def __init__(self, trace: InspectedTrace) -> None:
        self.trace = trace
        self.judgements = judgements(trace)
        layout = trace.layout
        layer_of = _layer_finder(trace, self.judgements)
        self.entries = [
            *_entries((spec.kind, spec, layer_of(spec)) for spec in layout.tensors),
            *_entries((SNAPSHOTS, spec, "") for spec in layout.variables),
            *_entries((BATCHES, spec, "") for spec in layout.batch),
        ]
        """In the layout's order, which is that of the model."""
        self.state = lru_cache(maxsize=2)(self._read_state)
        """A snapshot's or a batch's values by name, of a kind, a step and a lane."""
        self.state_checksums = lru_cache(maxsize=None)(self._read_state_checksums)

    def select(self, address: Address) -> list[Entry]:
        """The entries whose path, name, kind or layer the pattern matches, in the lane it names if it does.

        Raises:
          UserError: there is none.
        """
        if entries := self.matching(address):
            return entries
        named = self.matching(replace(address, lane=None))
        if not named:
            raise UserError(f"Nothing in {self.trace.path} is called {address.pattern!r}; {self._nearest(address)}")
        lanes = ", ".join(dict.fromkeys(lane for each in named for lane in each.lanes))
        raise UserError(f"{address.pattern!r} has no lane {address.lane!r} in {self.trace.path}; it has {lanes}")

    def matching(self, address: Address) -> list[Entry]:
        """As `select`, but there may be none."""
        named = (e for e in self.entries if address.matches(e.path, e.name, e.kind, e.layer))
        return [entry for each in named if (entry := each.within(address.lane)).specs]

    def steps_of(self, entry: Entry) -> Sequence[int]:
        """The whole steps; of a variable in snapshots, the steps before which a state was stored."""
        return self.trace.snapshot_steps if entry.kind == SNAPSHOTS else self.trace.whole_steps

    def places(self, address: Address) -> list[tuple[Entry, int]]:
        """The entries an address selects, each at those of its steps that the address chooses.

        Raises:
          UserError: it selects none, or a step that none of them has.
        """
        entries = self.select(address)
        chosen = self.choose(entries, address.steps) if address.steps else None
        return [(e, step) for e in entries for step in self.steps_of(e) if chosen is None or step in chosen]

    def choose(self, entries: Iterable[Entry], wanted: StepSet) -> frozenset[int]:
        """Those of the steps of any of these entries that are wanted.

        The last is the last whole step: a state may be stored before one that is not whole yet.

        Raises:
          UserError: none is, or a single one is not there.
        """
        kinds = {entry.kind for entry in entries}
        if kinds == {SNAPSHOTS}:
            return frozenset(wanted.select(self.trace.snapshot_steps, "snapshots before steps"))
        whole = self.trace.whole_steps
        states = self.trace.snapshot_steps if SNAPSHOTS in kinds else []
        return frozenset(wanted.select(sorted({*whole, *(step for step in states if step <= max(whole, default=0))})))

    def steps_kept(self, entry: Entry) -> list[int]:
        """The steps of which some lane's value is stored."""
        return [step for step in self.steps_of(entry) if self.is_kept(entry, step)]

    def is_kept(self, entry: Entry, step: int) -> bool:
        """Whether some lane's value is stored."""
        return any(StoredTensor(self, entry, step, lane).is_kept for lane in entry.lanes)

    def _read_state(self, kind: str, step: int, lane: str) -> dict[str, Array]:
        return self.trace.batch(step) if kind == BATCHES else self.trace.snapshot(step, lane)

    def _read_state_checksums(self, kind: str, step: int, lane: str) -> dict[str, int]:
        if kind == SNAPSHOTS:
            return self.trace.snapshot_checksums(step, lane)
        return self.trace.batch_checksums(step) if step in self.trace.batch_steps else {}

    def _nearest(self, address: Address) -> str:
        names = [name for e in self.entries for name in (e.path, e.name, e.layer)]
        near = list(dict.fromkeys(difflib.get_close_matches(address.pattern, names, 3)))
        return f"did you mean {' or '.join(near)}?" if near else "see all names with: python -m traces ls FILE --all"


def _entries(specs: Iterable[tuple[str, TensorSpec, str]]) -> list[Entry]:
    """One entry for each kind and name, wherever its lanes stand."""
    entries: dict[tuple[str, str], tuple[str, list[TensorSpec]]] = {}
    for kind, spec, layer in specs:
        entries.setdefault((kind, spec.name), (layer, []))[1].append(spec)
    return [Entry(kind, name, layer, tuple(lanes)) for (kind, name), (layer, lanes) in entries.items()]


def _layer_finder(trace: InspectedTrace, judgements: Iterable[Judgement]) -> Callable[[TensorSpec], str]:
    """Says which layer a step's tensor belongs to; "" where nothing says so."""
    activations = {spec.name for spec in trace.layout.tensors if spec.kind == ACTIVATIONS}
    layers = activations | set(trace.layout.layers)
    variables = {spec.name for spec in trace.layout.variables}
    of_variables = {
        each.tensor.name: each.layer
        for each in judgements
        if each.tensor and each.layer and each.tensor.kind != ACTIVATIONS
    }

    def layer_of(spec: TensorSpec) -> str:
        """Of an output, its layer; of a variable, the layer it was judged in, and else the path above it."""
        if spec.kind == ACTIVATIONS:
            first = re.sub(r":\d+$", "", spec.name)  # a layer's second output is called LAYER:1
            return first if first in activations else spec.name
        if spec.name in of_variables:
            return of_variables[spec.name]
        above = spec.name.rpartition("/")[0]
        return above if above in layers or spec.name in variables else ""

    return layer_of
