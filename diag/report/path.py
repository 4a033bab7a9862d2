"""The path from the first divergence to the loss, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from diag.common.modes import TRAIN
from diag.common.wording import counted, figure, shortened
from diag.report.layout import table_of
from diag.report.words import name_of, over_bound, ulp_text
from diag.verdict.findings import Observation, Verdict
from diag.verdict.result import RunResult

MAX_PATH_ROWS = 25
NUM_LARGEST = 4  # rows of the path kept for their size, by error and by difference
NUM_AFTER_FOR_ONE_BEFORE = 4  # where it leads tells more than where it did not come from


def path_of(result: RunResult, width: int) -> Iterator[RenderableType]:
    """A section of the report; nothing where the lanes do not differ."""
    path = result.path
    if not any(o.differs or is_beyond(o) for o in path):
        return
    first = index_of_first(result)
    diverges = result.first_fault is not None
    end = "loss" if result.mode == TRAIN else "predictions"
    title = f"from the first divergence to the {end}" if diverges else "how far the two places are apart"
    table = table_of(
        f"Step {path[0].where.step}, {title}",
        ("", "layer", "phase"),
        ("own error\nover bound", "difference,\nrelative", "difference,\nat most"),
    )
    kept = rows_to_keep(path, first)
    previous = -1
    for index in kept:
        _add_gap(table, index - previous - 1)
        _add_path_row(table, path[index], ">" if diverges and index == first else "", width - 60)
        previous = index
    _add_gap(table, len(path) - 1 - previous)
    yield table
    yield from _path_legend(path, diverges, len(path) - len(kept))


def rows_to_keep(path: Sequence[Observation], first: int) -> list[int]:
    """Which rows to show of a long path: the loss, the largest, and those around the first divergence."""
    rows = range(len(path))
    loss = max((i for i in rows if path[i].where.phase == "forward"), default=len(path) - 1)
    by_error = sorted(rows, key=lambda i: (not is_beyond(path[i]), -path[i].excess))[:NUM_LARGEST]
    by_difference = sorted(rows, key=lambda i: -normwise(path[i]))[:NUM_LARGEST]
    nearest = sorted(rows, key=lambda i: i - first if i >= first else NUM_AFTER_FOR_ONE_BEFORE * (first - i))
    wanted = dict.fromkeys([first, loss, *by_error, *by_difference, *nearest])
    return sorted(list(wanted)[:MAX_PATH_ROWS]) if path else []


def is_beyond(observation: Observation) -> bool:
    return observation.verdict is Verdict.DIVERGENCE or observation.excess > 1


def normwise(observation: Observation) -> float:
    error = observation.propagated.normwise_relative_error if observation.propagated else 0.0
    return math.inf if math.isnan(error) and observation.differs else 0.0 if math.isnan(error) else error


def index_of_first(result: RunResult) -> int:
    """The row of the first fault; for an op, of the layer around it; or else of what differs first."""
    path, first = result.path, result.first_fault
    tests: list[Callable[[Observation], bool]] = [lambda o: o.differs]
    if first is not None:
        location = first.where
        tests = [
            lambda o: o.where.location == location.location and is_beyond(o),
            lambda o: (
                is_beyond(o) and o.where.phase == location.phase and location.layer in (o.where.layer or "").split("+")
            ),
            lambda o: o.where.location == location.location,
            lambda o: (o.where.layer, o.where.phase) == (location.layer, location.phase),
            lambda o: o.verdict is Verdict.DIVERGENCE,
            *tests,
        ]
    return next((i for test in tests for i, o in enumerate(path) if test(o)), 0)


def _add_gap(table: Table, num_rows: int) -> None:
    if num_rows:
        table.add_row("", f"... {counted(num_rows, 'row')}", "...", style="dim")


def _add_path_row(table: Table, observation: Observation, mark: str, room: int) -> None:
    where, seen = observation.where, observation.propagated
    beyond = is_beyond(observation)
    table.add_row(
        mark + ("!" if beyond else ""),
        shortened(name_of(where), room),
        where.phase,
        _local_error(observation),
        figure(seen.normwise_relative_error) if seen else "-",
        ulp_text(seen.max) if seen and not math.isnan(seen.max) else "-",
        style="bold red" if beyond else "",
    )


def _local_error(observation: Observation) -> str:
    if observation.bound is not None:
        return over_bound(observation.bound.excess)
    return "same bits" if observation.verdict is Verdict.IDENTICAL else "not judged"


def _path_legend(path: Sequence[Observation], diverges: bool, num_left_out: int) -> Iterator[Text]:
    legend = ["> first divergence"] if diverges else []
    if any(is_beyond(o) for o in path):
        legend.append("! more than rounding explains")
    if num_left_out:
        legend.append(f"{counted(num_left_out, 'row')} left out")
    if legend:
        yield Text("   ".join(legend), style="dim")
