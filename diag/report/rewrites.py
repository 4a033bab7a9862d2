"""What TensorFlow made of traced ops, in words and for report.json."""

from __future__ import annotations

from typing import Any

from diag.verdict.rewrites import Part, Rewrite, Rewrites

ABSENT = {
    "folded": "constant, computed once before the first step",
    "unused": "never executed, since nothing needs the result",
    "left-out": "simplified away",
}

COUNTED = {
    "kernel": "by another library's kernel", "shared": "computed once for several", "layout": "changes of layout",
    "cast": "casts put in", "dtype": "in another dtype", "moved": "on another device", "folded": "constants folded",
    "unused": "never executed", "left-out": "simplified away",
}  # fmt: skip


def sentence(change: Rewrite) -> str:
    """`Conv2D+BiasAdd+Relu fused into _FusedConv2D`."""
    ops = "+".join(part.op for part in change.parts)
    detail = f" ({change.detail})" if change.detail else ""
    texts = {
        "fused": f"{ops} fused into {change.op}{detail}",
        "regrouped": f"{ops} rewritten as {change.op}",
        "kernel": f"{ops} runs as {change.op}",
        "replaced": f"{ops} replaced by {change.op}",
        "shared": f"{ops} computed once",
        "layout": f"{change.op} put in at {ops}: a change of layout{detail}",
        "cast": f"Cast put in at {ops}{detail}",
        "dtype": f"{ops} computes in another dtype{detail}",
        "moved": f"{ops} runs on another device{detail}",
    }
    if change.kind == "layout" and change.detail:
        texts["layout"] = f"{ops} changes its layout{detail}"
    return texts[change.kind]


def near(found: Rewrites) -> list[str]:
    """What became of the ops of a few layers, a sentence each, and the whole step in figures."""
    lines = [f"{', '.join(change.layers) or 'no layer'}: {sentence(change)}" for change in found.changes]
    for reason, parts in found.absent.items():
        ops = ", ".join(f"{part.op} of {part.variable or part.layer or 'no layer'} ({part.phase})" for part in parts)
        lines.append(f"{ops}: {ABSENT[reason]}")
    if not lines and not found.note:
        lines.append("nothing: it is executed as it was traced, as far as TensorFlow tells")
    if found.counts:
        said = (f"{number} {COUNTED.get(kind, kind)}" for kind, number in found.counts.items() if number)
        lines.append(f"in the whole step: {', '.join(said)}")
    return [*lines, *([f"note: {found.note}"] if found.note else [])]


def near_report(found: Rewrites) -> dict[str, Any]:
    """The same for report.json."""
    return {
        "place": found.place,
        "layers": list(found.layers),
        "changes": [change_report(change) for change in found.changes],
        "absent": {reason: [part_report(part) for part in parts] for reason, parts in found.absent.items()},
        "counts": dict(found.counts),
        "note": found.note,
    }


def change_report(change: Rewrite) -> dict[str, Any]:
    parts = [part_report(part) for part in change.parts]
    return {"kind": change.kind, "op": change.op, "node": change.node, "detail": change.detail, "parts": parts}


def part_report(part: Part) -> dict[str, Any]:
    return {"op": part.op, "name": part.name, "layer": part.layer, "phase": part.phase, "op_index": part.index}
