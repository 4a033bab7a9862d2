"""What `show --op` prints of an op itself: what it is, which line made it, what it reads and from where."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from diag.common.terminal import facts_table
from diag.common.text import LONGEST, as_text
from traces.described import DescribedOp, OpInput
from traces.views.terminal import TITLE, name, number, row, table, word


def render_described(op: DescribedOp, width: int) -> Iterator[RenderableType]:
    of = op.variable or op.layer
    yield Text(as_text(f"op {op.index} {op.op_type}" + (f" of {of}" if of else "") + f", {op.phase}"), style=TITLE)
    attributes = ", ".join(f"{key}={value}" for key, value in op.attributes.items())
    facts = [("name", op.name), ("made at", str(op.line or "")), ("output", op.outputs), ("attributes", attributes)]
    yield facts_table((key, as_text(text, longest=LONGEST)) for key, text in facts if text)
    if op.inputs:
        yield Text()
        rows = [row(str(place), _producer(each), each.name, each.kind) for place, each in enumerate(op.inputs)]
        yield table("", (number("input"), word("from"), name("name"), word("what")), rows, width)
    yield Text()


def _producer(given: OpInput) -> str:
    if given.producer is None:
        return "-"
    return f"op {given.producer}" + (f" [{given.output}]" if given.output else "")
