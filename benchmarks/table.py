"""The rows as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence

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
