"""The report of a graph: layer by layer, in words, what TensorFlow made of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from diag.common.jsonable import json_safe
from diag.report.rewrites import ABSENT, change_report, part_report, sentence

if TYPE_CHECKING:
    from diag.verdict.rewrites import OptimizedStep, Part, Rewrite, RewriteDifference

SCHEMA = "lockstep-graph/1"


def by_layer(changes: Iterable[Rewrite]) -> dict[str, dict[str, int]]:
    """Layer -> sentence, with its phase -> how often, in the order of the step."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for change in changes:
        layer = ", ".join(change.layers) or "(no layer)"
        found[layer][f"{sentence(change)}, {change.parts[0].phase}"] += 1
    return {layer: dict(counts) for layer, counts in found.items()}


def render(step: OptimizedStep, console: Console) -> None:
    if not step.is_known:
        console.print(f"{step.place}: {step.note}")
        return
    title = f"The step at {step.place}: {step.num_traced} ops traced, {step.num_executed} nodes executed"
    console.print(title, style="bold")
    for layer, lines in by_layer(step.changes).items():
        for line, times in lines.items():
            often = f" ({times} times)" if times > 1 else ""
            console.print(f"  {layer}: {line}{often}", soft_wrap=True)
    for reason, parts in step.absent.items():
        if parts:
            console.print(f"  {len(parts)} ops {ABSENT[reason]}: {_counted(parts)}")
    if step.note:
        console.print(f"note: {step.note}")


def render_watched(difference: RewriteDifference, unsafe: Mapping[str, str], console: Console) -> None:
    """What the watched tensors change, and which are not watched, for what that might change."""
    lost, gained = difference.fusions_lost, difference.fusions_gained
    if not lost and not gained:
        console.print("Watching its tensors breaks no fusion here.")
    for change in lost:
        layers = ", ".join(change.layers)
        console.print(f"  broken by watching: {layers}: {sentence(change)}")
    for change in gained:
        layers = ", ".join(change.layers)
        console.print(f"  only when watched: {layers}: {sentence(change)}")
    for name, reason in unsafe.items():
        console.print(f"  not watched, since that might break a fusion: {name}: {reason}", soft_wrap=True)


def report(step: OptimizedStep, difference: RewriteDifference | None, unsafe: Mapping[str, str]) -> dict[str, Any]:
    contents = {
        "schema": SCHEMA,
        "place": step.place,
        "known": step.is_known,
        "note": step.note,
        "ops_traced": step.num_traced,
        "nodes_executed": step.num_executed,
        "changes": [change_report(change) for change in step.changes],
        "absent": {reason: [part_report(part) for part in parts] for reason, parts in step.absent.items()},
        "taps": None if difference is None else {
            "lost": [change_report(change) for change in difference.lost],
            "gained": [change_report(change) for change in difference.gained],
            "unsafe": dict(unsafe),
        },
    }  # fmt: skip
    safe: dict[str, Any] = json_safe(contents)
    return safe


def _counted(parts: Iterable[Part]) -> str:
    counts = Counter(part.op for part in parts)
    return ", ".join(f"{times} {op}" if times > 1 else op for op, times in counts.most_common(8))
