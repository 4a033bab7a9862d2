"""The report of a replay: what came out with the recorded bits, and what did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from diag.report.json_report import json_safe
from diag.report.terminal import counted, figure, name_of
from diag.verdict.findings import Observation, Verdict

if TYPE_CHECKING:
    from diag.engine.replaying import Replay, Tensor

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
    return {
        "recorded_place": replay.recorded_place,
        "place": replay.place,
        "from_snapshot": replay.start,
        "state_reproduced": replay.state_reproduced,
        "loss": {"recorded": replay.loss[0], "replayed": replay.loss[1]},
        "tensors": len(replay.tensors),
        "same": replay.count(type(replay.tensors[0].outcome).SAME) if replay.tensors else 0,
        "other": [_tensor(tensor) for tensor in replay.tensors if tensor.outcome.value != "same"],
        "notes": list(replay.notes),
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": tensor.kind,
        "name": tensor.name,
        "shape": tensor.shape,
        "dtype": tensor.dtype,
        "outcome": tensor.outcome.value,
    }
    for key, statistics in (("from_recorded", tensor.statistics), ("from_itself", tensor.own)):
        if statistics is not None:
            found[key] = {
                "num_unequal": statistics.num_unequal,
                "max_ulp": statistics.max,
                "normwise_relative_error": statistics.normwise_relative_error,
            }
    return found


def render(trace: str, replays: Sequence[Replay], changed: Mapping[str, Any], console: Console) -> None:
    """Print one paragraph a lane, and a table of what does not reproduce."""
    for replay in replays:
        console.print(f"[bold]{_sentence(replay)}[/bold]", highlight=False)
        console.print(_where_from(trace, replay), highlight=False, markup=False)
        others = [tensor for tensor in replay.tensors if tensor.outcome.value != "same"]
        if others:
            console.print(_table(others))
            if len(others) > MAX_LISTED:
                console.print(f"... and {len(others) - MAX_LISTED} more (--json lists them all)", markup=False)
        for note in replay.notes:
            console.print(f"note: {note}", highlight=False, markup=False)
        console.print()
    if changed:
        console.print("Not as it was when the trace was recorded:")
        for name, (then, now) in changed.items():
            console.print(f"  {name}: {_brief(then)}, now {_brief(now)}", highlight=False, markup=False)


def _sentence(replay: Replay) -> str:
    total, same = len(replay.tensors), sum(tensor.outcome.value == "same" for tensor in replay.tensors)
    what = f"Step {replay.step}, {replay.lane} at {replay.place}"
    if not total:
        return f"{what}: the trace holds no checksum to compare with."
    if same == total:
        return f"{what}: reproduced bit for bit, all {counted(total, 'tensor')}."
    unstable = sum(tensor.outcome.value == "unstable" for tensor in replay.tensors)
    first = next(tensor for tensor in replay.tensors if tensor.outcome.value != "same")
    rest = f"{counted(total - same, 'tensor')} of {total:,} with other bits, first {first.kind} of {first.name}"
    if unstable:
        return f"{what}: {rest}; {unstable} of them differ between two runs here: this place is not deterministic."
    return f"{what}: {rest}; two runs here agree with each other."


def _where_from(trace: str, replay: Replay) -> str:
    kinds = Counter(tensor.kind for tensor in replay.tensors)
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    start = f"from the state stored before step {replay.start}"
    if replay.state_reproduced is not None:
        ended = "with the recorded bits" if replay.state_reproduced else "with other bits than recorded"
        start += f"; the steps to {replay.step} ended {ended}"
    recorded, now = replay.loss
    return f"  {start}; recorded at {replay.recorded_place}; loss {recorded:.9g}, now {now:.9g}; {counts}"


def _table(others: Sequence[Tensor]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("tensor", overflow="fold")
    for title in ("shape", "unequal", "max ULP", "norm-wise", "two runs here"):
        table.add_column(title, justify="right")
    for tensor in others[:MAX_LISTED]:
        statistics = tensor.statistics
        figures = ("not kept", "", "")
        if statistics is not None:
            share = statistics.num_unequal / max(1, statistics.size)
            figures = (f"{share:.1%}", figure(statistics.max), figure(statistics.normwise_relative_error))
        own = "the same" if tensor.own is None else f"max ULP {figure(tensor.own.max)}"
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        table.add_row(f"{tensor.kind} {tensor.name}", shape, *figures, own)
    return table


def render_observations(title: str, observations: Sequence[Observation], console: Console) -> None:
    """An op's or a layer's outputs, judged against float64 truth."""
    console.print(f"[bold]{title}[/bold]", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("output", overflow="fold")
    for heading in ("shape", "error over bound", "max ULP", "CPU's max ULP", "verdict"):
        table.add_column(heading, justify="right")
    for each in observations:
        here, there = each.local, each.reference_local
        table.add_row(
            name_of(each.where),
            "x".join(map(str, each.shape)) or "scalar",
            figure(each.excess),
            "-" if here is None else figure(here.max),
            "-" if there is None else figure(there.max),
            each.verdict.value,
        )
    console.print(table)


def observations_report(trace: str, step: int, observations: Sequence[Observation], place: str) -> dict[str, Any]:
    """The same as JSON."""
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
    return text or "unset"
