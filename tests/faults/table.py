"""Scores in words and in rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.faults.baselines import METHODS
from tests.faults.scoring import Score

_RIGHTS: dict[str, Callable[[Score], bool]] = {
    "step and op": lambda s: s.place_is_right, "cause": lambda s: s.cause_is_right, "blame": lambda s: s.blame_is_right,
    "all": lambda s: s.is_right,
}  # fmt: skip


def line(found: Score) -> str:
    marks = "".join(
        mark if right else "-"
        for mark, right in (("P", found.place_is_right), ("C", found.cause_is_right), ("B", found.blame_is_right))
    )
    marks += " " + "".join(name[0] if found.right_of(name) else "-" for name in METHODS if found.others)
    said = found.verdict
    if found.first is not None:
        f = found.first
        where = f"op {f['op_index']} {f['op_type']}" if f["unit"] == "op" else f"{f['unit']} {f['variable'] or ''}"
        said = f"step {f['step']} {f['phase']} {where} of {f['layer']}: {f['cause']} / {f['blame']}"
    struck = "" if found.place_is_right else f"   [struck: {found.struck[-1] if found.struck else 'nothing'}]"
    return f"{marks} {found.seconds:5.1f} s  {found.planting.name:52} {said}{struck}"


def table(scores: Sequence[Score]) -> str:
    """A row a fault: of its plantings, how many are right in what, and in how many others name step and layer."""
    faults = dict.fromkeys(s.planting.fault for s in scores if not s.planting.is_control)
    controls = dict.fromkeys(s.planting.fault for s in scores if s.planting.is_control)
    columns = {**_RIGHTS, **{name: (lambda s, name=name: s.right_of(name)) for name in METHODS}}
    rows = [["fault", "planted", *columns]]
    for fault in faults:
        of_it = [s for s in scores if s.planting.fault == fault and not s.planting.is_control]
        rows.append([fault, str(len(of_it)), *(str(sum(map(is_right, of_it))) for is_right in columns.values())])
    everything = [s for s in scores if not s.planting.is_control]
    if everything:
        totals = (str(sum(map(is_right, everything))) for is_right in columns.values())
        rows.append(["all faults", str(len(everything)), *totals])
    for control in controls:
        of_it = [s for s in scores if s.planting.fault == control and s.planting.is_control]
        rights = [sum(s.place_is_right for s in of_it), *(sum(s.right_of(name) for s in of_it) for name in METHODS)]
        rows.append([f"control: {control}", str(len(of_it)), *(["" if n else str(rights[0]) for n in range(4)]),
                     *map(str, rights[1:])])  # fmt: skip
    return _in_markdown(rows)


def _in_markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def written(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    rule = [("-" * w) if n == 0 else "-" * (w - 1) + ":" for n, w in enumerate(widths)]
    return "\n".join([written(rows[0]), f"| {' | '.join(rule)} |", *map(written, rows[1:])])


def summary(scores: Sequence[Score]) -> str:
    faults = [s for s in scores if not s.planting.is_control]
    controls = [s for s in scores if s.planting.is_control]
    rights = ", ".join(f"{name} {sum(map(is_right, faults))}" for name, is_right in _RIGHTS.items())
    return (
        f"{len(faults)} faults: {rights} three; {len(controls)} controls: "
        f"{sum(s.place_is_right for s in controls)} without a divergence"
    )
