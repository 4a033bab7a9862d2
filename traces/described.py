"""What a trace says of each op of a training step, run or not: attributes, inputs, and the line that made it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diag.common.source_lines import SourceLine
from traces.encoding import Array
from traces.schema import NODE_TABLES

NONE = -1
Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class OpInput:
    """What an op reads.

    producer: the index of the op that computed it, and `output`, which of its; None of what no op computes: a variable,
    a part of the batch, a constant, which `name` says.  shape: `4x10x10x8`, "" of a scalar, "?" where it is not known.
    """

    name: str
    producer: int | None
    output: int
    dtype: str
    shape: str

    @property
    def kind(self) -> str:
        return f"{self.dtype} {self.shape or 'scalar'}"


@dataclass(frozen=True)
class DescribedOp:
    """One op of a step; index as in the op table.  outputs: dtype and shape of each, as of `OpInput`."""

    index: int
    name: str
    op_type: str
    phase: str
    layer: str | None
    variable: str | None
    line: SourceLine | None = None
    outputs: str = ""
    inputs: tuple[OpInput, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


def rows_of(ops: Sequence[DescribedOp], program: int, known: dict[SourceLine, int]) -> dict[str, Columns]:
    """The rows that describe the ops of a program, by table; `known` lines are in the table by their numbers.

    Lines that are new are added to `known`.
    """
    rows: dict[str, Columns] = {name: {column.name: [] for column in columns} for name, columns in NODE_TABLES.items()}
    for op in ops:
        source = NONE
        if op.line is not None:
            if op.line not in known:
                known[op.line] = len(known)
                _add(rows["sources"], known[op.line], op.line.line, op.line.file, op.line.function, op.line.text)
            source = known[op.line]
        _add(rows["nodes"], op.index, program, source, op.name, op.op_type, op.phase, op.layer, op.variable, op.outputs)
        for number, each in enumerate(op.inputs):
            of = (each.producer, each.output, each.name, each.dtype, each.shape)
            _add(rows["node_inputs"], op.index, program, number, *of)
        for name, value in op.attributes.items():
            _add(rows["node_attributes"], op.index, program, name, value)
    return rows


def _add(columns: Columns, *values: Any) -> None:
    for column, value in zip(columns.values(), values, strict=True):
        column.append(value)


def ops_of(tables: Mapping[str, Mapping[str, Array]], program: int = 0) -> dict[int, DescribedOp]:
    """The ops of a program by index, from the columns of `NODE_TABLES`."""
    lines = lines_of(tables["sources"])
    inputs: dict[int, list[OpInput]] = defaultdict(list)
    for index, of, _, producer, output, name, dtype, shape in _rows(tables, "node_inputs"):
        if of == program:
            inputs[index].append(OpInput(name, None if producer == NONE else producer, output, dtype, shape))
    attributes: dict[int, dict[str, str]] = defaultdict(dict)
    for index, of, name, value in _rows(tables, "node_attributes"):
        if of == program:
            attributes[index][name] = value
    return {
        index: DescribedOp(index, name, op_type, phase, layer or None, variable or None, lines.get(source), outputs,
                           tuple(inputs[index]), attributes[index])
        for index, of, source, name, op_type, phase, layer, variable, outputs in _rows(tables, "nodes")
        if of == program
    }  # fmt: skip


def lines_of(table: Mapping[str, Array]) -> dict[int, SourceLine]:
    """The lines by number, from the columns of `sources`."""
    rows = _rows({"sources": table}, "sources")
    return {index: SourceLine(file, line, function, text) for index, line, file, function, text in rows}


def _rows(tables: Mapping[str, Mapping[str, Array]], name: str) -> Sequence[tuple[Any, ...]]:
    columns = [tables[name][column.name].tolist() for column in NODE_TABLES[name]]
    return list(zip(*columns, strict=False))
