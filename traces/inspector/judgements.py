"""The rows of the op and the unit table, and the worst of them by step, layer and tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from traces.encoding import Array
from traces.inspector.reading import InspectedTrace

DIVERGENCE, UNJUDGED = "divergence", "unjudged"
TABLES = ("ops", "units")
MISSING: Mapping[str, Any] = {
    "step": -1,
    "phase": "",
    "layer": "",
    "variable": "",
    "unit": "",
    "index": -1,
    "op_type": "",
    "output": -1,
    "excess": math.nan,
    "verdict": "",
}
"""The columns that a judgement is made of, in its order, and what stands for one that a table lacks."""

Key = TypeVar("Key")


class TensorName(NamedTuple):
    """What a step's tensor is called in every lane."""

    kind: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.kind}/{self.name}"


class Judgement(NamedTuple):
    """One row of a table, in short.

    `tensor` is the step's tensor that the row judges, where its unit's name says which. `excess` is NaN where
    nothing was judged.
    """

    table: str
    row: int
    tensor: TensorName | None
    step: int
    phase: str
    layer: str
    variable: str
    unit: str
    op_index: int
    op_type: str
    output: int
    excess: float
    verdict: str

    @property
    def subject(self) -> str:
        """What was judged, without step and phase."""
        if self.table == "units":
            return _unit_subject(self)
        output = f" [{self.output}]" if self.output > 0 else ""
        of = self.variable if self.phase == "optimizer" else self.layer
        return f"op {self.op_index} {self.op_type}{output}" + (f" of {of}" if of else "")

    def subject_within(self, layer: str) -> str:
        """The same where the layer is named already."""
        if not layer or not self.tensor:
            return self.subject.removesuffix(f" of {layer}").removeprefix(f"{layer}: ")
        if self.tensor.name == layer:
            return self.tensor.kind
        return f"{self.tensor.kind} {self.tensor.name.removeprefix(layer + '/')}"

    @property
    def rank(self) -> tuple[bool, float]:
        """Greater is worse: what was called a divergence, then by excess."""
        return self.verdict == DIVERGENCE, -1.0 if math.isnan(self.excess) else self.excess

    @property
    def is_judged(self) -> bool:
        return self.verdict != UNJUDGED and not math.isnan(self.excess)


def judgements(trace: InspectedTrace) -> list[Judgement]:
    """All rows of both tables, in their order; columns that a trace lacks read as missing."""
    names = {spec.name for spec in trace.layout.tensors if spec.kind == "activations"}
    several = frozenset(name.removesuffix(":1") for name in names if name.endswith(":1"))
    return [row for table in TABLES for row in _rows(table, trace.columns(table, tuple(MISSING)), several)]


def worst_of(rows: Iterable[Judgement]) -> Judgement | None:
    return max(rows, key=lambda row: row.rank, default=None)


def worst_by(rows: Iterable[Judgement], key: Callable[[Judgement], Key]) -> dict[Key, Judgement]:
    """Of the rows of each key, the first of the worst."""
    worst: dict[Key, Judgement] = {}
    for row in rows:
        of = key(row)
        if of not in worst or row.rank > worst[of].rank:
            worst[of] = row
    return worst


def tensor_of_unit(unit: str, layer: str, variable: str) -> TensorName | None:
    """The step's tensor that a unit's output is; `unit` is as in the unit table, such as "layer:output of dense"."""
    _, _, name = unit.partition(":")
    if name == "output" and layer:
        return TensorName("activations", layer)
    for prefix, kind in (("output of ", "activations"), ("gradient of ", "gradients")):
        if name.startswith(prefix):
            return TensorName(kind, name.removeprefix(prefix))
    if variable and name in ("value", "momentum", "velocity"):
        return TensorName("update" if name == "value" else name, variable)
    return None


def _rows(table: str, columns: Mapping[str, Array], several: frozenset[str]) -> Iterator[Judgement]:
    """`several` are the layers of several outputs: each is called "output", so which tensor is meant is not known."""
    num_rows = len(next(iter(columns.values()), ()))
    cells = [columns[name].tolist() if name in columns else [missing] * num_rows for name, missing in MISSING.items()]
    tensors: dict[tuple[str, str, str], TensorName | None] = {}
    for number, row in enumerate(zip(*cells, strict=True)):
        _, _, layer, variable, unit, *_ = row
        if (unit, layer, variable) not in tensors:
            tensor = tensor_of_unit(unit, layer, variable)
            is_ambiguous = tensor is not None and tensor.kind == "activations" and tensor.name in several
            tensors[unit, layer, variable] = None if is_ambiguous else tensor
        yield Judgement(table, number, tensors[unit, layer, variable], *row)


def _unit_subject(judged: Judgement) -> str:
    kind, _, name = judged.unit.partition(":")
    if judged.tensor:
        return judged.tensor.path
    if kind == "step":
        return f"whole step: {name}"
    of = judged.variable or judged.layer
    return f"{of}: {name}" if of else name or judged.unit
