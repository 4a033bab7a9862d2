"""Which lines of the person's own made what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from diag.common.source_lines import SourceLine
from diag.common.text import as_text
from diag.verdict.findings import Divergence, Where
from diag.verdict.result import RunResult
from traces.described import DescribedOp

MOST = 3
"""Of one unit: a layer may be written in many lines."""
LONGEST = 300


def with_lines(result: RunResult, ops: Mapping[int, DescribedOp]) -> RunResult:
    """The result with the lines that made what diverges, as far as the ops of the step, by index, tell."""
    divergences = tuple(replace(each, lines=lines_of(each, ops)) for each in result.divergences)
    return replace(result, divergences=divergences, first_divergence=divergences[0] if divergences else None)


def lines_of(divergence: Divergence, ops: Mapping[int, DescribedOp]) -> tuple[SourceLine, ...]:
    """Of an op its line; of a unit those of the ops that are wrong together, or else of all its ops."""
    where, fused = divergence.where, divergence.fused
    if where.unit == "op":
        indices = [] if where.op_index is None else [where.op_index]
    elif fused is not None and fused.op_indices:
        indices = list(fused.op_indices)
    else:
        indices = [index for index, op in ops.items() if _is_of(op, where)]
    lines = (ops[index].line for index in indices if index in ops)
    return tuple(dict.fromkeys(line for line in lines if line is not None))[:MOST]


def _is_of(op: DescribedOp, where: Where) -> bool:
    """Whether an op is of a unit; a unit may be several layers, run as one."""
    is_in_layer = where.layer is not None and op.layer in where.layer.split("+")
    return is_in_layer and op.phase == where.phase and where.variable in (None, op.variable)


def made_at(divergence: Divergence) -> str:
    """`made at model.py:31: x = tf.nn.conv2d(...)`; "" where no line is known."""
    if not divergence.lines:
        return ""
    return as_text("made at " + ", and at ".join(map(str, divergence.lines)), longest=LONGEST)
