"""What `diff` prints: the first difference, then a line for each tensor that differs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from diag.common.terminal import facts_table
from diag.common.text import LONGEST, as_text
from diag.common.wording import counted, figure, ranges_of
from traces.inspector.catalogue import StoredTensor
from traces.inspector.comparison import CHECKSUMS, TensorComparison, TraceComparison
from traces.views.terminal import BAD, FAINT, GOOD, TextRow, name, next_commands, number, row, table, word

MAX_LISTED = 25
MAX_ONLY = 10


def render(comparison: TraceComparison, everything: bool, width: int) -> Iterator[RenderableType]:
    yield Text(as_text(_headline(comparison)), style=GOOD if comparison.is_same else BAD)
    if comparison.pairing.pairs:
        a, b = zip(*comparison.pairing.pairs, strict=True)
        yield facts_table([("A", as_text(_side_text(a))), ("B", as_text(_side_text(b)))])
    yield from _only(comparison)
    if comparison.differing:
        yield Text()
        yield from _table(comparison.differing, everything, width)
        yield from _notes(comparison.differing)
    yield from next_commands(_next(comparison))


def _headline(comparison: TraceComparison) -> str:
    number_of, differing = counted(len(comparison.compared), "tensor"), comparison.differing
    if comparison.is_same:
        return f"The same bits: all of {number_of} compared."
    if not differing:
        return f"The same bits in all of {number_of} that both have; but one has more than the other."
    if len(comparison.compared) == 1:
        return f"They differ: {_first_text(differing[0])}."
    verb = "differs" if len(differing) == 1 else "differ"
    return f"{len(differing):,} of {number_of} {verb}, first {_first_text(differing[0])}."


def _first_text(first: TensorComparison) -> str:
    where = f"{_path_text(first)} at step {_step_text(first)}{f', {_lane(first)}' if _lane(first) else ''}"
    if first.pair is None:
        return f"{where}: {first.note}"
    by = "" if math.isnan(first.pair.max) else f", by at most {figure(first.pair.max)} ULP"
    return f"{where}: {first.num_bits_differ:,} of {counted(first.pair.size, 'element')}{by}"


def _path_text(each: TensorComparison) -> str:
    a, b = each.a.entry.path, each.b.entry.path
    return a if a == b else f"{a} against {b}"


def _step_text(each: TensorComparison) -> str:
    return str(each.a.step) if each.a.step == each.b.step else f"{each.a.step} against {each.b.step}"


def _lane(each: TensorComparison) -> str:
    """The lane, where both sides are of one."""
    return each.a.lane if each.a.lane == each.b.lane else ""


def _side_text(sides: Sequence[StoredTensor]) -> str:
    """What the sides have in common: the trace, the lanes and the steps."""
    lanes = [lane for lane in dict.fromkeys(side.lane for side in sides) if lane]
    steps = sorted({side.step for side in sides})
    step_text = f"step{'s' if len(steps) > 1 else ''} {ranges_of(steps)}"
    return ", ".join(filter(None, [str(sides[0].catalogue.trace.path), " and ".join(lanes), step_text]))


def _only(comparison: TraceComparison) -> Iterator[RenderableType]:
    for side, names in (("only in A", comparison.pairing.only_a), ("only in B", comparison.pairing.only_b)):
        if names:
            more = f" and {len(names) - MAX_ONLY:,} more" if len(names) > MAX_ONLY else ""
            yield facts_table([(side, as_text(", ".join(names[:MAX_ONLY]) + more, longest=LONGEST))])


def _table(differing: Sequence[TensorComparison], everything: bool, width: int) -> Iterator[RenderableType]:
    shown = differing if everything else differing[:MAX_LISTED]
    has_lanes = any(map(_lane, shown))
    columns = [number("step"), name("tensor"), *([word("lane")] if has_lanes else [])]
    columns += [number("elements\ndiffer"), number("\nof"), number("max\nULP"), number("norm-wise\nrelative")]
    yield table("", columns, [line for each in shown for line in _lines(each, has_lanes)], width)
    if len(differing) > len(shown):
        yield Text(f"... and {len(differing) - len(shown):,} more (--all)", style=FAINT)


def _lines(each: TensorComparison, has_lanes: bool) -> Iterator[TextRow]:
    cells = _step_text(each).replace(" against ", ", "), _path_text(each), *([_lane(each)] if has_lanes else [])
    if each.pair is not None:
        relative = figure(each.pair.normwise_relative_error)
        yield row(*cells, f"{each.num_bits_differ:,}", f"{each.pair.size:,}", figure(each.pair.max), relative)
        return
    yield row(*cells, "?", "?", "?", "?")
    if each.by != CHECKSUMS:
        yield row("", f"  {each.note}", *([""] if has_lanes else []), *[""] * 4, style=FAINT)


def _notes(differing: Sequence[TensorComparison]) -> Iterator[RenderableType]:
    """What the figures alone would not say."""
    only_bits = [each for each in differing if each.pair is not None and not each.pair.num_unequal]
    if only_bits:
        yield Text(
            f"{counted(len(only_bits), 'tensor')} with equal values, of which the sign of a zero or the payload of a "
            "NaN differs",
            style=FAINT,
        )
    by_checksum = sum(each.by == CHECKSUMS for each in differing)
    if by_checksum:
        number_of = counted(by_checksum, "tensor")
        yield Text(f"? {number_of} of which only checksums are stored: by how much is not known", style=FAINT)


def _next(comparison: TraceComparison) -> Iterator[Sequence[str]]:
    first = next((each for each in comparison.differing if each.pair is not None), None)
    if first is None:
        return
    for path in dict.fromkeys(str(side.catalogue.trace.path) for side in (first.a, first.b)):
        yield "show", path, f"{first.a.entry.path}@{first.a.step}"
