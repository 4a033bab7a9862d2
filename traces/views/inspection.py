"""What `show` prints of tensors: figures, a histogram, single elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from diag.common.terminal import facts_table
from diag.common.text import as_text
from diag.common.wording import counted, figure, shape_text
from diag.numerics.figures import PairStatistics
from traces.inspector.elements import Element
from traces.inspector.inspection import TensorView
from traces.inspector.judgements import Judgement
from traces.schema import VIEW
from traces.views.histogram import bins_of
from traces.views.terminal import BAD, FAINT, TITLE, TextRow, next_commands, number, row, table, width_of, word

LONGEST_BAR = 40
EIGHTHS = " ▏▎▍▌▋▊▉"
CLASS_WORDS = {
    "nan_nan": "NaN in both",
    "nan_number": "NaN in one",
    "inf_inf": "same infinity",
    "inf_opposite": "opposite infinities",
    "inf_finite": "infinite in one",
    "both_zero": "zero in both",
    "opposite_signs": "opposite signs",
    "subnormals": "subnormal in one or both",
}


def render(path: str, views: Sequence[TensorView], num_hidden: int, width: int) -> Iterator[RenderableType]:
    for position, view in enumerate(views):
        if position:
            yield Text()
        yield from _view(view, width)
    if num_hidden:
        yield Text(f"\n... and {counted(num_hidden, 'more tensor')} that match (--all)", style=FAINT)
    yield from next_commands(_next(path, views))


def _view(view: TensorView, width: int) -> Iterator[RenderableType]:
    yield Text(as_text(view.address), style=TITLE)
    yield facts_table((name, as_text(text)) for name, text in _about(view))
    if view.figures:
        yield Text()
        yield _lanes_table(view, width)
    if view.pair is not None:
        yield Text()
        yield facts_table((as_text(name), as_text(text)) for name, text in _pair_facts(view.pair, view.lanes))
        yield from _histogram(view.pair, width)
    elif view.not_compared:
        yield Text(f"Not compared: {view.not_compared}.")
    if view.elements:
        yield Text()
        yield _elements_table(view, width)


def _about(view: TensorView) -> Iterator[tuple[str, str]]:
    entry = view.entry
    yield "declared", f"{entry.dtype} {entry.shape}" + (f", of layer {entry.layer}" if entry.layer else "")
    if entry.specs[0].observed == VIEW:
        yield "observed", "as a view: another shape of a tensor that the compiled step was watched at"
    for text in dict.fromkeys(map(_judged_text, view.judged)):  # a step that was run again is judged again
        yield "judged", text
    if not view.figures:
        sums = [f"{lane or 'value'} {_checksum_text(view, lane)}" for lane in view.lanes]
        yield "stored", f"no value; checksums: {', '.join(sums)}{_checksums_agree(view)}"


def _judged_text(judged: Judgement) -> str:
    return f"{judged.phase}, {judged.unit}: {judged.verdict}, excess {figure(judged.excess)}"


def _checksum_text(view: TensorView, lane: str) -> str:
    checksum = view.checksums[lane]
    return "none" if checksum is None else f"{checksum:016x}"


def _checksums_agree(view: TensorView) -> str:
    sums = list(view.checksums.values())
    if len(sums) < 2 or None in sums:
        return ""
    return ": the same bits" if len(set(sums)) == 1 else ": not the same bits"


def _lanes_table(view: TensorView, width: int) -> Group:
    columns = [word("lane"), *map(number, ("min", "max", "mean", "rms", "NaN", "Inf", "subnormal", "zero"))]
    rows = [
        row(
            each.lane or "all lanes",
            *(f"{value:.6g}" for value in (each.minimum, each.maximum, each.mean, each.rms)),
            *(f"{count:,}" for count in (each.num_nan, each.num_inf, each.num_subnormal, each.num_zero)),
            style=BAD if each.num_nan or each.num_inf else "",
        )
        for each in view.figures
    ]
    shapes = list(dict.fromkeys(f"{each.dtype} {shape_text(each.shape)}" for each in view.figures))
    return table(f"Each lane by itself, {' and '.join(shapes)}", columns, rows, width)


def _pair_facts(pair: PairStatistics, lanes: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield f"{lanes[1]} - {lanes[0]}", _unequal_text(pair)
    if pair.num_compared:
        ulps = (("max", pair.max), ("mean", pair.mean), ("rms", pair.rms), ("p50", pair.p50), ("p99", pair.p99))
        yield "ULP apart", ", ".join(f"{name} {figure(value)}" for name, value in (*ulps, ("bias", pair.bias)))
        zeros = f" (of the {pair.size - pair.num_zero_reference:,} where {lanes[0]} is not 0)"
        yield (
            "relative error",
            f"norm-wise {figure(pair.normwise_relative_error)}; by element max {figure(pair.max_relative_error)}, "
            f"mean {figure(pair.mean_relative_error)}{zeros if pair.num_zero_reference else ''}",
        )
    else:
        yield "relative error", f"norm-wise {figure(pair.normwise_relative_error)}"
    yield "difference", f"at most {figure(pair.max_absolute_difference)}"
    classes = [f"{CLASS_WORDS[name]} {count:,}" for name, count in vars(pair.classes).items() if count]
    if classes:
        yield "classes", ", ".join(classes)


def _unequal_text(pair: PairStatistics) -> str:
    if not pair.num_unequal and not pair.num_zero_sign:
        return f"all of {counted(pair.size, 'element')} equal"
    zeros = f", and {pair.num_zero_sign:,} in the sign of zero" if pair.num_zero_sign else ""
    return f"{pair.num_unequal:,} of {counted(pair.size, 'element')} differ ({100 * pair.share_unequal:.3g}%){zeros}"


# -- the histogram ---------------------------------------------------------------------------------


def _histogram(pair: PairStatistics, width: int) -> Iterator[RenderableType]:
    bins = bins_of(pair)
    if not bins:
        return
    largest, room = max(bin.share for bin in bins), min(LONGEST_BAR, width - 34)
    rows = [
        row(
            bin.distance,
            f"{bin.count:,}",
            f"{100 * bin.share:.2g}%" if bin.count else "",
            bar_of(bin.share / largest, room),
        )
        for bin in bins
    ]
    columns = (word("ULP apart"), number("elements"), number("share"), word(""))
    yield Text()
    yield table("Histogram of the ULP distance, in powers of two", columns, rows, width)


def bar_of(share: float, room: int) -> str:
    """A bar in eighths of a character; what is not nothing is seen."""
    eighths = max(round(share * room * 8), 1 if share else 0)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


# -- elements --------------------------------------------------------------------------------------


def _elements_table(view: TensorView, width: int) -> Group:
    """On one line each if that fits, and else with the bits below the values."""
    is_compared = view.pair is not None
    lanes = view.lanes if is_compared else (view.figures[0].lane or "value",)
    what = "worst" if is_compared else "largest"
    title = f"The {what} element" if len(view.elements) == 1 else f"The {len(view.elements)} {what} elements"
    columns = [word("index"), *map(number, lanes), *([number("ULP")] if is_compared else [])]
    cells = [
        [_index_text(each), *(value.text for value in each.values), *([_ulp_text(each)] if is_compared else [])]
        for each in view.elements
    ]
    bits = [[f"0x{value.bits}" for value in each.values] for each in view.elements]
    wide_columns = [*columns, *(number(f"{lane}\nbits") for lane in lanes)]
    wide_rows = [row(*upper, *lower) for upper, lower in zip(cells, bits, strict=True)]
    if width_of(wide_columns, wide_rows) <= width:
        return table(title, wide_columns, wide_rows, width)
    rows: list[TextRow] = []
    for upper, lower in zip(cells, bits, strict=True):
        rows += [row(*upper), row("", *lower, *([""] if is_compared else []), style=FAINT)]
    return table(title, columns, rows, width)


def _index_text(element: Element) -> str:
    return "[" + ", ".join(map(str, element.index)) + "]"


def _ulp_text(element: Element) -> str:
    return "-" if element.ulp is None else f"{element.ulp:,}"


# -- what to do next -------------------------------------------------------------------------------


def _next(path: str, views: Sequence[TensorView]) -> Iterator[Sequence[str]]:
    view = max(views, key=lambda each: each.pair.num_unequal if each.pair else 0, default=None)
    if view is None:
        return
    if view.entry.layer and view.judged:
        yield "show", path, f"units/{view.entry.layer}@{view.step}"
    if view.entry.is_of_steps:
        yield "diff", path, "--steps", str(view.step)
    if view.figures:
        yield "export", path, view.address, "--to", "tensor.npz"
