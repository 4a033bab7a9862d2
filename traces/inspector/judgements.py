"""The rows of the op and the unit table, and the worst of them by step, layer and tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

from traces.encoding import Array
from traces.inspector.reading import InspectedTrace

DIVERGENCE, UNJUDGED = "divergence", "unjudged"
TABLES = ("ops", "units")
COLUMNS = (
    "step", "phase", "layer", "variable", "unit", "index", "op_type", "output", "excess", "verdict",
)  # fmt: skip

TensorName: TypeAlias = tuple[str, str]
"""(kind, name)"""
Key = TypeVar("Key")


class Judgement(NamedTuple):
    """One row of a table, in short.

    `tensor` is the step's tensor that the row judges, where its unit's name says which. `excess` is NaN where
    nothing was judged.
    """

    table: str
    row: int
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
    tensor: TensorName | None

    @property
    def subject(self) -> str:
        """What was judged, without step and phase."""
        if self.table == "units":
            return _unit_subject(self)
        output = f" [{self.output}]" if self.output > 0 else ""
        of = self.variable if self.phase == "optimizer" else self.layer
        return f"op {self.op_index} {self.op_type}{output}" + (f" of {of}" if of else "")

    def subject_within(self, layer: str) -> str:
        """The same where the layer is said already."""
        if not layer or not self.tensor:
            return self.subject.removesuffix(f" of {layer}").removeprefix(f"{layer}: ")
        kind, name = self.tensor
        return kind if name == layer else f"{kind} {name.removeprefix(layer + '/')}"

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
    return [row for table in TABLES for row in _rows(table, trace.columns(table, COLUMNS), several)]


def worst_by(rows: Iterable[Judgement], key: Callable[[Judgement], Key]) -> dict[Key, Judgement]:
    """Of the rows of each key, the first of the worst."""
    worst: dict[Key, Judgement] = {}
    for row in rows:
        of = key(row)
        if of not in worst or row.rank > worst[of].rank:
            worst[of] = row
    return worst


def tensor_of_unit(unit: str, layer: str, variable: str) -> TensorName | None:
    """The step's tensor that a unit's output is, by the unit table's own words for it."""
    _, _, name = unit.partition(":")
    if name == "output" and layer:
        return "activations", layer
    if name.startswith("output of "):
        return "activations", name.removeprefix("output of ")
    if name.startswith("gradient of "):
        return "gradients", name.removeprefix("gradient of ")
    if variable and name in ("value", "momentum", "velocity"):
        return "update" if name == "value" else name, variable
    return None


def _rows(table: str, columns: Mapping[str, Array], several: frozenset[str]) -> Iterable[Judgement]:
    num_rows = len(next(iter(columns.values()), ()))

    def column(name: str, missing: Any) -> list[Any]:
        return columns[name].tolist() if name in columns else [missing] * num_rows

    names = zip(*(column(name, "") for name in ("unit", "layer", "variable")), strict=True)
    tensors = {each: _tensor_unless_ambiguous(each, several) for each in set(names)}
    for row, (step, phase, layer, variable, unit, op_index, op_type, output, excess, verdict) in enumerate(
        zip(
            column("step", -1), *(column(name, "") for name in ("phase", "layer", "variable", "unit")),
            column("index", -1), column("op_type", ""), column("output", -1), column("excess", math.nan),
            column("verdict", ""), strict=True,
        )
    ):  # fmt: skip
        tensor = tensors[unit, layer, variable]
        yield Judgement(
            table, row, step, phase, layer, variable, unit, op_index, op_type, output, excess, verdict, tensor
        )


def _tensor_unless_ambiguous(names: tuple[str, str, str], several: frozenset[str]) -> TensorName | None:
    """A layer of several outputs calls each of them "output": which tensor is meant, it does not say."""
    tensor = tensor_of_unit(*names)
    return None if tensor and tensor[0] == "activations" and tensor[1] in several else tensor


def _unit_subject(judged: Judgement) -> str:
    kind, _, name = judged.unit.partition(":")
    if judged.tensor:
        return "/".join(judged.tensor)
    if kind == "step":
        return f"whole step: {name}"
    of = judged.variable or judged.layer
    return f"{of}: {name}" if of else name or judged.unit
