"""The report of a replay: what came out with the recorded bits, and what did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from diag.common.jsonable import json_safe
from diag.common.modes import FIGURE, figure_key
from diag.common.text import as_text
from diag.common.wording import counted, figure, percent, shortened
from diag.report.words import name_of
from diag.verdict.findings import Observation, Verdict

if TYPE_CHECKING:
    from diag.verdict.replay import Replay, Tensor

SCHEMA = "lockstep-replay/1"
MAX_LISTED = 20
EXACT, OTHER_BITS = "exact", "other-bits"


def report(trace: str, replays: Sequence[Replay], changed: Mapping[str, Any]) -> dict[str, Any]:
    """The replay as JSON takes it, schema lockstep-replay/1."""
    exact = all(replay.is_exact for replay in replays)
    contents = {
        "schema": SCHEMA,
        "trace": trace,
        "step": replays[0].step,
        "verdict": EXACT if exact else OTHER_BITS,
        "environment": changed,
        "lanes": {replay.lane: _lane(replay) for replay in replays},
    }
    safe: dict[str, Any] = json_safe(contents)
    return safe


def _lane(replay: Replay) -> dict[str, Any]:
    counts = Counter(tensor.outcome.value for tensor in replay.tensors)
    return {
        "recorded_place": replay.recorded_place,
        "place": replay.place,
        "from_snapshot": replay.start,
        "state_reproduced": replay.state_reproduced,
        figure_key(replay.mode): {"recorded": replay.loss[0], "replayed": replay.loss[1]},
        "tensors": len(replay.tensors),
        "same": counts["same"],
        "given": [tensor.name for tensor in replay.tensors if tensor.outcome.value == "given"],
        "other": [_tensor(tensor) for tensor in replay.others],
        "notes": list(replay.notes),
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    result: dict[str, Any] = {
        "kind": tensor.kind,
        "name": tensor.name,
        "shape": tensor.shape,
        "dtype": tensor.dtype,
        "outcome": tensor.outcome.value,
    }
    for key, statistics in (("from_recorded", tensor.statistics), ("from_itself", tensor.own)):
        if statistics is not None:
            result[key] = {
                "num_unequal": statistics.num_unequal,
                "max_ulp": statistics.max,
                "normwise_relative_error": statistics.normwise_relative_error,
            }
    return result


def render(replays: Sequence[Replay], changed: Mapping[str, Any], console: Console) -> None:
    """Print one paragraph a lane, and a table of what does not reproduce."""
    for replay in replays:
        console.print(as_text(_sentence(replay)), style=f"bold {'green' if replay.is_exact else 'red'}")
        console.print(facts(_facts_of(replay)))
        with_values = [tensor for tensor in replay.others if tensor.statistics is not None or tensor.own is not None]
        if with_values:
            console.print(_table(with_values[:MAX_LISTED], console.width))
        if unlisted := _left_out(replay.others, with_values):
            kinds = ", ".join(f"{kind} {number}" for kind, number in Counter(t.kind for t in unlisted).items())
            console.print(f"{len(unlisted):,} not listed, of which --json has what is known: {kinds}")
        if replay.notes:
            console.print(facts([("note", note) for note in replay.notes]))
        console.print()
    if changed:
        console.print("Not as it was when the trace was recorded:")
        console.print(facts([(name, f"{_brief(then)}, now {_brief(now)}") for name, (then, now) in changed.items()]))


def facts(pairs: Sequence[tuple[str, str]]) -> Table:
    """Names and what there is to say of each, as wide as the console."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in pairs:
        grid.add_row(f"  {as_text(name)}", Text(as_text(text)))
    return grid


def _sentence(replay: Replay) -> str:
    total, others = len(replay.tensors), replay.others
    what = f"Step {replay.step}, {replay.lane} at {replay.place}"
    if not total:
        return f"{what}: the trace holds no checksum to compare with."
    if replay.is_exact:
        return f"{what}: reproduced bit for bit, all {counted(total, 'tensor')}."
    if not others:
        return (
            f"{what}: the {FIGURE[replay.mode]} has other bits, though all {counted(total, 'tensor')} are as recorded."
        )
    unstable = sum(tensor.own is not None for tensor in others)
    rest = f"{len(others):,} of {counted(total, 'tensor')} with other bits, first {others[0].kind} of {others[0].name}"
    if unstable:
        return (
            f"{what}: {rest}; {unstable:,} of them differ between two runs here, from one state: the place is not "
            "deterministic, or keeps something between runs."
        )
    return f"{what}: {rest}; two runs here agree with each other."


def _facts_of(replay: Replay) -> list[tuple[str, str]]:
    start = f"stored before step {replay.start}"
    if replay.state_reproduced is not None:
        ended = "with the recorded bits" if replay.state_reproduced else "with OTHER bits than recorded"
        last = replay.step - 1
        run = f"step {last}" if last == replay.start else f"steps {replay.start} to {last}"
        start += f"; from it {run} ran again and ended {ended}"
    recorded, now = replay.loss
    kinds = Counter(tensor.kind for tensor in replay.tensors)
    result = [
        ("state", start),
        (FIGURE[replay.mode], f"{now:.9g}" if recorded == now else f"{recorded:.9g} recorded, {now:.9g} now"),
        ("compared", ", ".join(f"{kind} {number}" for kind, number in kinds.items())),
    ]
    if replay.recorded_place != replay.place:
        result.insert(0, ("recorded", f"at {replay.recorded_place}"))
    given = sum(tensor.outcome.value == "given" for tensor in replay.tensors)
    if given:
        result.append(("given", f"{counted(given, 'draw')} taken from the trace, not drawn again"))
    return result


def _left_out(others: Sequence[Tensor], with_values: Sequence[Tensor]) -> list[Tensor]:
    listed = {(tensor.kind, tensor.name) for tensor in with_values[:MAX_LISTED]}
    return [tensor for tensor in others if (tensor.kind, tensor.name) not in listed]


def _table(others: Sequence[Tensor], width: int) -> Table:
    headings = ("tensor", "kind", "shape", "unequal", "max ULP", "norm-wise")
    is_stable = all(tensor.own is None for tensor in others)
    rows = []
    for tensor in others:
        statistics = tensor.statistics
        figures = ("not kept", "", "")
        if statistics is not None:
            share = statistics.num_unequal / max(1, statistics.size)
            figures = (percent(share), figure(statistics.max), figure(statistics.normwise_relative_error))
        own = [] if is_stable else ["the same" if tensor.own is None else f"{figure(tensor.own.max)} ULP"]
        rows.append((as_text(tensor.name), as_text(tensor.kind), _shape(tensor.shape), *figures, *own))
    return _named_rows(headings if is_stable else (*headings, "two runs"), rows, width)


def _named_rows(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    """A table in which only the names, the first column, give way where the console is narrow."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, header_style="dim")
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=True, justify="left" if number < 2 else "right")
    columns = list(zip(*rows, strict=True))[1:]
    cells = zip(headings[1:], columns, strict=True)
    taken = sum(2 + max(map(len, [*heading.split("\n"), *column])) for heading, column in cells)
    for name, *others in rows:
        table.add_row(shortened(name, width - taken), *others)
    return table


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def render_observations(title: str, observations: Sequence[Observation], console: Console) -> None:
    """An op's or a layer's outputs, judged against float64 truth."""
    console.print(as_text(title), style="bold")
    rows = [
        (
            name_of(each.where),
            "DIVERGES" if each.verdict is Verdict.DIVERGENCE else each.verdict.value,
            _shape(each.shape),
            "-" if each.bound is None else figure(each.excess),
            "-" if each.local is None else figure(each.local.max),
            "-" if each.reference_local is None else figure(each.reference_local.max),
        )
        for each in observations
    ]
    console.print(
        _named_rows(("output", "", "shape", "error\nover bound", "max ULP", "the CPU's\nmax ULP"), rows, console.width)
    )


def observations_report(trace: str, step: int, observations: Sequence[Observation], place: str) -> dict[str, Any]:
    """What a replay of an op or a layer printed, as JSON."""
    contents = {
        "schema": SCHEMA,
        "trace": trace,
        "step": step,
        "place": place,
        "verdict": "divergence" if any(o.verdict is Verdict.DIVERGENCE for o in observations) else "rounding",
        "outputs": [
            {
                "unit": o.where.unit,
                "name": name_of(o.where),
                "phase": o.where.phase,
                "op_index": o.where.op_index,
                "output": o.where.output,
                "shape": o.shape,
                "dtype": o.dtype,
                "excess": o.excess,
                "verdict": o.verdict.value,
            }
            for o in observations
        ],
    }
    safe: dict[str, Any] = json_safe(contents)
    return safe


def _brief(value: Any) -> str:
    text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    return "unset" if value in (None, "", {}) else text
