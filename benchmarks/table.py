"""The rows as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.timing import Row

STYLES = {"met": "green", "not met": "red", "unsure": "yellow", "": ""}


def show(rows: Sequence[Row], note: str) -> None:
    table = Table("what", "measured", "median", "target", "", "from", caption=note)
    for row in rows:
        most = "at least" if row.unit == "x faster" else "at most"
        table.add_row(
            row.what,
            f"{row.measured:.3g} {row.unit}",
            f"{row.by_median:.3g}",
            "" if row.target is None else f"{most} {row.target:g}",
            f"[{STYLES[row.met]}]{row.met}[/]" if row.met else "",
            row.detail,
        )
    Console().print(table)
