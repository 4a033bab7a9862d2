"""The JSON Schema of report.json, generated from its records, and the same as a check.

`python -m tests.report.schema` writes docs/lockstep-report-1.schema.json again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "lockstep-report-1.schema.json"


@cache
def generated() -> str:
    from pydantic import TypeAdapter

    from diag.report.contract import ReportDocument

    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(draft | TypeAdapter(ReportDocument).json_schema(), indent=2) + "\n"


@cache
def _check() -> Callable[[object], object]:
    """Stricter than the schema that is published: what the records do not name is refused, but of lanes."""
    from pydantic import TypeAdapter

    from diag.report import contract

    generated()  # before: it leaves later versions room for more keys
    for kind in vars(contract).values():
        if getattr(kind, "__module__", "") == contract.__name__:
            kind.__pydantic_config__ = {"extra": "allow" if kind is contract.LaneRecord else "forbid", "strict": True}
    return TypeAdapter(contract.ReportDocument).validate_python


def refuse_other_reports(report: object) -> None:
    """Raises a ValueError, pydantic's, for what is no report."""
    _check()(report)


def checking(make: Callable[..., Any]) -> Callable[..., Any]:
    """`json_report.report`, held against the contract each time."""

    def report(*arguments: Any) -> Any:
        made = make(*arguments)
        refuse_other_reports(made)
        return made

    return report


if __name__ == "__main__":
    SCHEMA_FILE.write_text(generated())
