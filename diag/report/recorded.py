"""What a trace says that its run found: the report that is in it as a `RunResult`.  No TensorFlow here.

A report names outputs and does not hold them judged, so the path and the worst units stay empty: they are in the
tables of the trace, which `Report.ops`, `Report.excess` and `Report.show` read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from diag.errors import UserError
from diag.verdict.findings import Divergence
from diag.verdict.result import Judged, LaneInfo, RunResult
from traces.reader import TraceReader


def recorded_result(path: Path) -> RunResult:
    """What the run that wrote a trace found.

    Raises:
        UserError: it cannot be read, or its run has written no report.
    """
    with TraceReader(path) as trace:
        report, losses, steps = trace.report(), trace.losses, trace.steps
    if report is None:
        raise UserError(
            f"{path}: its run goes on, or was killed before it wrote a report; python -m traces ls {path} shows what "
            "it has"
        )
    divergences = tuple(Divergence.from_dict(each) for each in report["divergences"])
    return RunResult(
        verdict=report["verdict"],
        first_divergence=divergences[0] if divergences else None,
        divergences=divergences,
        first_bit_difference=None,
        first_nonfinite=None,
        amplifiers=(),
        steps=report["steps"],
        lanes=tuple(_lane(name, lane) for name, lane in report["lanes"].items()),
        losses={lane: values.tolist() for lane, values in losses.items()},
        path=(),
        microscope=(),
        worst=(),
        judged=_judged(report["lanes"]["candidate"]["judged"]),
        first_step=steps[0] if steps else 0,
        files={"trace": str(path)},
    )


def _lane(name: str, lane: Mapping[str, Any]) -> LaneInfo:
    environment = {key: value for key, value in lane.items() if key not in ("loss", "judged", "simulated")}
    return LaneInfo(name, lane["place"], lane["simulated"], environment)


def _judged(found: Mapping[str, Any]) -> Judged:
    """Lists of JSON as the tuples that they were."""
    names = {field.name for field in fields(Judged)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in found.items() if name in names
    }
    return Judged(**values)
