"""What `ls` prints: the header, the steps in ranges, and the layers with their tensors as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.text import Text

from diag.common.terminal import facts_table
from diag.common.text import as_text
from diag.common.wording import counted, figure, ranges_of
from traces.inspector.catalogue import SNAPSHOTS
from traces.inspector.header import facts_of
from traces.inspector.judgements import DIVERGENCE, Judgement, worst_of
from traces.inspector.listing import LayerRow, Listing, StepRow, TensorRow
from traces.views.terminal import BAD, FAINT, TITLE, TextRow, name, next_commands, number, row, table, word

MAX_LINES = 60
"""A tree of more lines than this is cut to one line a layer, and to the worst layers."""
MAX_LAYERS = 20
MAX_STEP_LINES = 12
MAX_OTHERS = 10
MAX_RANGES = 4
NO_LAYER = "(of no layer)"


def render(listing: Listing, everything: bool, width: int) -> Iterator[RenderableType]:
    yield facts_table([*facts_of(listing.header), *_kept_facts(listing.steps)])
    yield Text()
    if listing.steps:
        yield _steps_table(listing.steps, everything, width)
    elif not listing.header.steps:
        yield Text("No step is whole yet.", style=BAD)
    if everything:
        for step in listing.steps:
            yield Text()
            yield _tree_table(f"Step {step.step}", listing.layers, step.step, width)
    elif len(listing.layers) + listing.num_tensors > MAX_LINES:
        yield from _worst_layers(listing.layers, listing.num_tensors, width)
    elif listing.layers:
        yield Text()
        yield _tree_table(_title(listing.layers, listing.num_tensors), listing.layers, None, width)
    yield from _others(listing.others, everything)
    yield from next_commands(_next(listing))


# -- steps -----------------------------------------------------------------------------------------


def _steps_table(steps: Sequence[StepRow], everything: bool, width: int) -> Group:
    """Neighbouring steps that diverge, or do not, on one line, the worst line first; or each step on its own."""
    groups = [[step] for step in steps] if everything else [list(alike) for _, alike in groupby(steps, _likeness)]
    if not everything:
        groups.sort(key=lambda group: _rank(_worst(group)), reverse=True)
    shown = groups if everything else groups[:MAX_STEP_LINES]
    rows = [_step_line(group) for group in shown]
    if len(groups) > len(shown):
        rows.append(row(f"... {len(groups) - len(shown)} more", *[""] * 5, style=FAINT))
    title = f"{counted(len(steps), 'step')}{'' if everything or len(groups) == 1 else ', worst first'}"
    columns = [word("steps"), number("worst\nexcess"), number("\nat"), number("\njudged"), number("diver-\ngences")]
    return table(title, [*columns, name("\nwhere it is worst")], rows, width)


def _step_line(group: Sequence[StepRow]) -> TextRow:
    worst, num_divergences = _worst(group), sum(step.num_divergences for step in group)
    return row(
        ranges_of(step.step for step in group),
        *_worst_cells(worst),
        _judged_text(group),
        f"{num_divergences:,}",
        worst.subject if worst else "",
        style=BAD if num_divergences else "",
    )


def _likeness(step: StepRow) -> tuple[bool, bool]:
    return step.num_divergences > 0, step.worst is None


def _worst(group: Sequence[StepRow | LayerRow]) -> Judgement | None:
    return worst_of(each.worst for each in group if each.worst)


def _judged_text(group: Sequence[StepRow]) -> str:
    judged, unjudged = sum(step.num_judged for step in group), sum(step.num_unjudged for step in group)
    return f"{judged:,} of {judged + unjudged:,}" if unjudged else f"{judged:,}"


def _kept_facts(steps: Sequence[StepRow]) -> Iterator[tuple[str, str]]:
    """Of which steps how many tensors are kept in full; of the others the checksums are."""
    by_number: dict[int, list[int]] = {}
    for step in steps:
        by_number.setdefault(step.num_tensors_kept, []).append(step.step)
    if not steps or not steps[0].num_tensors:
        return
    texts = []
    for num_kept, of in sorted(by_number.items(), reverse=True):
        total = steps[0].num_tensors
        number_of = f"all {total:,}" if num_kept == total else f"{num_kept:,} of {total:,}" if num_kept else "no"
        texts.append(f"{number_of} tensors in step{'s' if len(of) > 1 else ''} {ranges_of(of, MAX_RANGES)}")
    yield "values", "; ".join(texts)


# -- layers and tensors ----------------------------------------------------------------------------


def _tree_table(title: str, layers: Sequence[LayerRow], step: int | None, width: int) -> Group:
    """Of one step, or of the worst of all."""
    columns = [name("layer and tensors"), word("\nshape"), word("\ndtype"), number("worst\nexcess")]
    columns += [word("value\nkept")] if step is not None else [number("\nat"), word("values\nkept")]
    rows = [line for layer in layers for line in _layer_lines(layer, step)]
    return table(title, columns, rows, width)


def _layer_lines(layer: LayerRow, step: int | None) -> Iterator[TextRow]:
    def judged_cells(of: LayerRow | TensorRow) -> tuple[tuple[str, ...], str]:
        judged = of.worst if step is None else of.worst_at.get(step)
        cells = _worst_cells(judged)
        return (cells if step is None else cells[:1]), _style(judged)

    cells, style = judged_cells(layer)
    yield row(layer.name or NO_LAYER, "", "", *cells, "", style=style or TITLE)
    for tensor in layer.tensors:
        cells, style = judged_cells(tensor)
        if step is None:
            kept = ranges_of(tensor.steps_kept, MAX_RANGES) or "none"
        else:
            kept = "yes" if step in tensor.steps_kept else "no"
        yield row(f"  {tensor.entry.path}", tensor.entry.shape, tensor.entry.dtype, *cells, kept, style=style)


def _worst_layers(layers: Sequence[LayerRow], num_tensors: int, width: int) -> Iterator[RenderableType]:
    """A line each; of many layers only the worst, and those first."""
    worst_first = sorted(layers, key=lambda layer: _rank(layer.worst), reverse=True)
    shown, hidden = (worst_first[:MAX_LAYERS], worst_first[MAX_LAYERS:]) if len(layers) > MAX_LINES else (layers, [])
    rows = [
        row(
            layer.name or NO_LAYER,
            f"{len(layer.tensors):,}",
            *_worst_cells(layer.worst),
            layer.worst.subject_within(layer.name) if layer.worst else "",
            style=_style(layer.worst),
        )
        for layer in shown
    ]
    title = _title(layers, num_tensors) + (", worst first" if hidden else "")
    columns = (name("layer"), number("tensors"), number("worst\nexcess"), number("\nat"), name("\nwhere it is worst"))
    yield Text()
    yield table(title, columns, rows, width)
    if hidden:
        largest = hidden[0].worst
        bounded = f", none of an excess above {figure(largest.excess)}" if largest and largest.is_judged else ""
        yield Text(f"... and {counted(len(hidden), 'more layer')}{bounded} (--all)", style=FAINT)


def _title(layers: Sequence[LayerRow], num_tensors: int) -> str:
    return f"{counted(len(layers), 'layer')}, {counted(num_tensors, 'tensor')}"


def _worst_cells(judged: Judgement | None) -> tuple[str, str]:
    return (figure(judged.excess), str(judged.step)) if judged else ("-", "-")


def _style(judged: Judgement | None) -> str:
    return BAD if judged and judged.verdict == DIVERGENCE else ""


def _rank(judged: Judgement | None) -> tuple[bool, float]:
    return judged.rank if judged else (False, -2.0)


# -- snapshots, batches, what to do next -----------------------------------------------------------


def _others(tensors: Sequence[TensorRow], everything: bool) -> Iterator[RenderableType]:
    lines: list[tuple[str, str]] = []
    for kind, of_kind in groupby(tensors, lambda tensor: tensor.entry.kind):
        group = list(of_kind)
        steps = group[0].steps_kept
        number_of = counted(len(group), "variable" if kind == SNAPSHOTS else "component")
        when = f"{'before' if kind == SNAPSHOTS else 'of'} step{'' if len(steps) == 1 else 's'}"
        lines.append(
            (kind, f"{number_of}, {when} {ranges_of(steps, MAX_STEP_LINES)}" if steps else f"{number_of}, none stored")
        )
        if everything or len(group) <= MAX_OTHERS:
            lines += [("", f"{each.entry.path}  {each.entry.shape} {each.entry.dtype}") for each in group]
    if lines:
        yield Text()
        yield facts_table((as_text(name), as_text(text)) for name, text in lines)


def _next(listing: Listing) -> Iterator[Sequence[str]]:
    path = listing.header.path
    rows = [layer.worst for layer in listing.layers if layer.worst]
    tensors = [each for layer in listing.layers for each in layer.tensors if each.worst and each.steps_kept]
    worst, worst_op = worst_of(rows), worst_of(each for each in rows if each.op_index >= 0)
    worst_tensor = max(tensors, key=lambda each: _rank(each.worst), default=None)
    if worst and listing.num_tensors + len(listing.layers) > MAX_LINES:
        yield "ls", path, worst.layer or "*"
    if worst_tensor and worst_tensor.worst and worst_tensor.worst.step in worst_tensor.steps_kept:
        yield "show", path, f"{worst_tensor.entry.path}@{worst_tensor.worst.step}"
    if worst_op:
        yield "show", path, "--op", str(worst_op.op_index), "--step", str(worst_op.step)
    yield "diff", path
