"""The table of ops of the step that was looked at op by op."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from diag.common.text import LONGEST
from diag.common.wording import figure, shortened
from diag.report.words import over_bound
from diag.verdict.result import RunResult
from traces.described import DescribedOp, OpInput
from traces.reader import TraceReader

MOST_OPS = 2000
MOST_READS = 8
"""Of one op: a sum of gradients, or a loop, may read hundreds."""
COLUMNS = (
    "step", "index", "output", "phase", "layer", "variable", "op_type", "dtype", "shape", "excess", "verdict",
    "propagated_normwise_relative_error", "inherited", "relation", "flipped",
)  # fmt: skip


@dataclass(frozen=True)
class Read:
    """What an op reads; op: the index of what made it, where that has a row of its own."""

    text: str
    op: int | None


@dataclass(frozen=True)
class OpRow:
    """One output of one op; `place` is its variable or else its layer, `excess` is sorted by and `error` read.

    reads, attributes, line: of its first output alone, so that they stand there once.
    """

    index: int
    output: int
    op_type: str
    place: str
    phase: str
    kind: str
    excess: float
    error: str
    apart: str
    origin: str
    verdict: str
    reads: tuple[Read, ...] = ()
    attributes: str = ""
    line: str = ""

    @property
    def is_first(self) -> bool:
        """Whether links lead here."""
        return self.output <= 0


def op_rows_of(
    result: RunResult, trace: TraceReader | None, described: Mapping[int, DescribedOp]
) -> tuple[tuple[OpRow, ...], int]:
    """The rows, the worst first where there are too many, and how many are left out; described: ops by index."""
    table = {} if trace is None else trace.op_table()
    columns = {name: table[name].tolist() for name in COLUMNS if name in table}
    steps = columns.get("step", [])
    if not steps:
        return (), 0
    first = result.first_divergence
    step = first.where.step if first is not None and first.where.step in steps else steps[-1]
    rows = [_row({name: values[i] for name, values in columns.items()}) for i, at in enumerate(steps) if at == step]
    kept = sorted(rows, key=lambda row: (row.verdict != "divergence", -_or_zero(row.excess)))[:MOST_OPS]
    shown = {row.index for row in kept if row.is_first}
    ordered = sorted(kept, key=lambda row: (row.index, row.output))
    return tuple(_with_description(row, described.get(row.index), shown) for row in ordered), len(rows) - len(kept)


def _with_description(row: OpRow, op: DescribedOp | None, shown: Collection[int]) -> OpRow:
    if op is None or not row.is_first:
        return row
    return replace(
        row,
        reads=tuple(_read(each, shown) for each in op.inputs[:MOST_READS]),
        attributes=shortened(", ".join(f"{name}={value}" for name, value in op.attributes.items()), LONGEST),
        line=str(op.line or ""),
    )


def _read(given: OpInput, shown: Collection[int]) -> Read:
    if given.producer is None:
        return Read(f"{given.name}: {given.kind}", None)
    output = f" [{given.output}]" if given.output else ""
    return Read(f"op {given.producer}{output}: {given.kind}", given.producer if given.producer in shown else None)


def _row(values: Mapping[str, Any]) -> OpRow:
    apart = float(values.get("propagated_normwise_relative_error", math.nan))
    origin = values.get("relation", "")
    flipped = values.get("flipped", "")
    excess = float(values["excess"])
    return OpRow(
        index=int(values["index"]),
        output=int(values["output"]),
        op_type=values["op_type"],
        place=values["variable"] or values["layer"],
        phase=values["phase"],
        kind=f"{values['dtype']} {values['shape'] or 'scalar'}",
        excess=excess,
        error="not judged" if math.isnan(excess) else over_bound(excess),
        apart=figure(apart),
        origin="" if origin == "none" else f"{origin}; {flipped}" if flipped else origin,
        verdict=values["verdict"],
    )


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
