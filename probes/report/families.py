"""What a family has to say in a few lines; failures and notes are listed by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from diag.common.wording import counted, figure
from probes.frame.device_report import FAIL, NOTE, PASS, UNSUPPORTED, Measurement

FINGERPRINT = "fingerprint"
DTYPES = ("float32", "float16", "bfloat16")
SHORT = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
HEADLINES = ("arithmetic", "")
ROUNDED_ONCE = 0.505  # ULP, as a grid shows it; half an ULP is what one rounding may be off
NEAR_THE_BOUND = 0.2
Part = str | RenderableType


def headline(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The first thing to know of each op and dtype."""
    whole = [measurement for measurement in measurements if measurement.case in HEADLINES]
    if whole:
        return whole
    return list({(measurement.op, measurement.dtype): measurement for measurement in reversed(measurements)}.values())[
        ::-1
    ]


def summary(family: str, measurements: Sequence[Measurement], width: int) -> list[Part]:
    shown = [measurement for measurement in measurements if measurement.status != UNSUPPORTED]
    if not shown:
        return ["nothing of it can be computed here"]
    return _SUMMARIES.get(family, _plain)(shown, width)


def _plain(measurements: Sequence[Measurement], width: int) -> list[Part]:
    passed = sum(measurement.status == PASS for measurement in measurements)
    return [f"{passed:,} of {counted(_judged(measurements), 'reading')} pass"]


def _judged(measurements: Sequence[Measurement]) -> int:
    return sum(measurement.status in (PASS, FAIL) for measurement in measurements)


def _exact(measurements: Sequence[Measurement], width: int) -> list[Part]:
    cases = [_cases(measurement) for measurement in measurements]
    right, tried = sum(each[0] for each in cases), sum(each[1] for each in cases)
    ops = len({measurement.op for measurement in measurements})
    elements = sum(int(measurement.figures.get("elements") or 0) for measurement in measurements)
    of_elements = f", {elements:,} elements" if elements else ""
    return [f"{right:,} of {counted(tried, 'case')} of {counted(ops, 'op')} exact{of_elements}"]


def _cases(measurement: Measurement) -> tuple[int, int]:
    """How many cases of a measurement were right, and how many were tried."""
    tried = int(measurement.figures.get("cases") or 1) - int(measurement.figures.get("unsupported_cases") or 0)
    wrong = int(measurement.figures.get("wrong_cases") or (measurement.status == FAIL))
    return tried - wrong, tried


def _accuracy(measurements: Sequence[Measurement], width: int) -> list[Part]:
    passed = sum(measurement.status == PASS for measurement in measurements)
    said = f"{passed:,} of {counted(len(measurements), 'reading')} within the published allowance"
    return [said, *_grid(measurements, "held_ulp", ROUNDED_ONCE, "within half an ULP, as if rounded once", width)]


def _composites(measurements: Sequence[Measurement], width: int) -> list[Part]:
    passed = sum(measurement.status == PASS for measurement in measurements)
    said = f"{passed:,} of {counted(_judged(measurements), 'reading')} within rounding"
    return [said, *_grid(measurements, "excess", NEAR_THE_BOUND, "below a fifth of what rounding explains", width)]


def _grid(measurements: Sequence[Measurement], name: str, least: float, below: str, width: int) -> list[Part]:
    """The largest of a figure for each op and dtype, several ops beside each other; ! failed, * noted.

    Ops with no figure beyond `least`, and no mark, are only counted: they are `below`.
    """
    cells: dict[str, dict[str, tuple[float, str]]] = {}
    for measurement in measurements:
        value = measurement.figures.get(name)
        if isinstance(value, (int, float)) and measurement.dtype in DTYPES:
            row = cells.setdefault(measurement.op.removeprefix("keras."), {})
            known = row.get(measurement.dtype, (-1.0, ""))
            mark = {FAIL: "!", NOTE: "*"}.get(measurement.status, "")
            row[measurement.dtype] = (max(known[0], float(value)), "!" if "!" in (mark, known[1]) else mark or known[1])
    shown = {op: row for op, row in cells.items() if any(value > least or mark for value, mark in row.values())}
    rest = [f"[dim]and {counted(len(cells) - len(shown), 'op')} {below}[/dim]"] if len(shown) < len(cells) else []
    return [*_beside_each_other(shown, width), *rest]


def _beside_each_other(cells: Mapping[str, Mapping[str, tuple[float, str]]], width: int) -> list[Part]:
    if not cells:
        return []
    dtypes = [dtype for dtype in DTYPES if any(dtype in row for row in cells.values())]
    rows = [[op, *(_cell(row.get(dtype)) for dtype in dtypes)] for op, row in cells.items()]
    of_cells = [max(len(Text.from_markup(row[1 + i])) for row in rows) for i in range(len(dtypes))]
    one = max(map(len, cells)) + 2 + sum(max(size, 4) + 2 for size in of_cells)
    across = max(1, min(3, width // one))
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for _ in range(across):
        made.add_column("", no_wrap=True)
        for dtype in dtypes:
            made.add_column(SHORT[dtype], justify="right", no_wrap=True)
    height = -(-len(rows) // across)
    for index in range(height):
        made.add_row(*(text for column in range(across) for text in _at(rows, column * height + index)))
    return [made]


def _at(rows: Sequence[list[str]], index: int) -> list[str]:
    return rows[index] if index < len(rows) else []


def _cell(found: tuple[float, str] | None) -> str:
    if found is None:
        return ""
    value, mark = found
    style = "red" if mark == "!" else "yellow" if mark else ""
    text = f"{value:.2f}" if value < 9.995 else figure(value)
    return f"[{style}]{text}{mark}[/{style}]" if style else text


def _optimizers(measurements: Sequence[Measurement], width: int) -> list[Part]:
    judged = sum(int(measurement.figures.get("num_judged") or 0) for measurement in measurements)
    passed = sum(measurement.status == PASS for measurement in measurements)
    return [f"{passed:,} of {counted(_judged(measurements), 'setup')} within rounding, {judged:,} elements judged"]


def _random(measurements: Sequence[Measurement], width: int) -> list[Part]:
    draws = [measurement for measurement in measurements if "same_stream" not in measurement.figures]
    streams = [measurement for measurement in measurements if measurement.figures.get("same_stream") is not None]
    sound, same = sum(r.status == PASS for r in draws), sum(r.status == PASS for r in streams)
    return [
        f"{sound:,} of {counted(len(draws), 'source')} advance and are distributed as they should be",
        f"{same:,} of {len(streams):,} are bit for bit the streams of CPU:0/eager",
    ]


_SUMMARIES: dict[str, Callable[[Sequence[Measurement], int], list[Part]]] = {
    "exact": _exact,
    "accuracy": _accuracy,
    "composites": _composites,
    "optimizers": _optimizers,
    "random": _random,
}
