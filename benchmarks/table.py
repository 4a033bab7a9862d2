"""The rows as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.timing import Row

STYLES = {"met": "green", "not met": "red", "unsure": "yellow", "": ""}
HOW = "measured: from the shortest rounds; cpu: from processor time, which others lengthen least"


def show(rows: Sequence[Row], note: str) -> None:
    table = Table("what", caption=f"{note}\n{HOW}", caption_justify="left", show_lines=True)
    for heading in ("measured", "median", "cpu", "target", "met"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        limit = ">=" if row.unit == "x faster" else "<="
        table.add_row(
            f"{row.what}\n[dim]{row.detail}[/]",
            f"{row.measured:.3g} {row.unit[0]}",
            f"{row.by_median:.3g}",
            "" if row.by_cpu is None else f"{row.by_cpu:.3g}",
            "" if row.target is None else f"{limit} {row.target:g}",
            f"[{STYLES[row.met]}]{row.met}[/]" if row.met else "",
        )
    Console().print(table)


def page(measured: Sequence[Mapping[str, Any]]) -> str:
    """docs/BENCHMARKS.md, of what `--json` prints, a section each."""
    return "\n".join([HEAD, *(line for told in measured for line in _section(told))])


HEAD = """# Benchmarks

`make bench` writes this page. Each figure is a ratio to the plain training that is watched: by the clock, and by
processor time, which other processes lengthen least. Seconds leave out Python's and TensorFlow's start, on both sides;
GiB are the largest resident memory of a process. The models' tensors are not dumped (`--dump none`); checksums of
all of them are recorded, and statistics of those of checked steps. A `fit` makes its optimizer's variables, too.
"""


def _section(told: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {told['machine']}\n"
    yield f"{told['load'].capitalize()}.\n"
    yield "| what | measured | processor | at most | | figures |"
    yield "|---|---|---|---|---|---|"
    for row in told["rows"]:
        at_least = ">= " if row["unit"] == "x faster" else ""
        cpu = "" if row["by_cpu"] is None else f"{row['by_cpu']:.3g}"
        target = "" if row["target"] is None else f"{at_least}{row['target']:g}"
        yield f"| {row['what']} | {row['measured']:.3g} | {cpu} | {target} | {row['met']} | {row['detail']} |"
    yield ""
