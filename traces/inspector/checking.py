"""What `verify` checks: that everything on file can be read and is what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from diag.common.wording import counted, one_line, ranges_of, shape_text
from traces.checksums import tensor_checksum
from traces.hdf5.table import TableReader
from traces.inspector.reading import InspectedTrace
from traces.schema import TensorSpec

VERDICTS = ("identical", "rounding", "divergence")
REPORT_SCHEMA = "lockstep-report/"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: how much of it there was, and what is wrong with it.

    `num_checked` counts what could have been wrong.
    """

    name: str
    summary: str
    num_checked: int
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "said": self.summary, "num_checked": self.num_checked, "problems": self.problems}


def checks_of(trace: InspectedTrace) -> Iterator[Check]:
    """Every check, as it is done; together they read the whole file once."""
    yield _documents(trace)
    yield _or_unreadable("steps", "steps", partial(_steps, trace))
    for name, table in trace.table_readers.items():
        yield _or_unreadable(f"table {name}", f"{name}/complete", partial(_columns, name, table))
    for name, table in trace.table_readers.items():
        if table.layout.tensors:
            yield _tensors(name, table)
    yield _or_unreadable("report", "report", partial(_report, trace))


def nothing_checked(checks: list[Check]) -> bool:
    """Whether no step, no row and no value was there to be right or wrong."""
    return not any(check.num_checked for check in checks if check.name != "documents")


def _or_unreadable(name: str, part: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # whatever it is, it is what a damaged file looks like
        return Check(name, "unreadable", 0, (_problem(part, error),))


def _documents(trace: InspectedTrace) -> Check:
    """What was written once, at the start."""
    readings: dict[str, Callable[[], object]] = {
        **{f"environment/{lane}": partial(trace.environment, lane) for lane in trace.layout.lanes},
        "command": lambda: trace.command,
        "seeds": lambda: trace.seeds,
        "settings": lambda: trace.settings,
        "model_config": lambda: trace.model_config,
        "programs": lambda: trace.programs,
    }
    problems = tuple(problem for name, read in readings.items() for problem in _problems_reading(name, read))
    summary = f"{trace.schema}, by version {trace.version}; {len(readings)} documents read"
    return Check("documents", summary, len(readings), problems)


def _steps(trace: InspectedTrace) -> Check:
    steps, planned = trace.whole_steps, trace.layout.steps
    without_batch = [step for step in steps if step not in trace.batch_steps]
    of = "" if planned is None else f" of {planned:,} planned"
    summary = f"{len(steps):,} whole{of}" + (f": {ranges_of(steps)}" if steps else "")
    if without_batch:
        summary += f"; without their batch: {ranges_of(without_batch)}"
    return Check("steps", summary, len(steps))


def _columns(name: str, table: TableReader) -> Check:
    """All columns as long as the table says it is; a trace's own reader would cut them to the shortest."""
    num_rows, problems = table.num_rows, []
    for column in table.layout.columns:
        try:
            length = len(table.column(column.name))
        except Exception as error:  # whatever it is, it is what a damaged file looks like
            problems.append(_problem(f"{name}/{column.name}", error))
        else:
            if length < num_rows:  # a run that goes on may have added some
                problems.append(f"{name}/{column.name}: {length:,} rows, and the table has {num_rows:,}")
    number = len(table.layout.columns)
    summary = f"{counted(number, 'column')} of {counted(num_rows, 'row')}"
    return Check(f"table {name}", summary, number * num_rows, tuple(problems))


def _tensors(name: str, table: TableReader) -> Check:
    """Every value read back, and held against its checksum."""
    num_values, num_bytes, num_sums, problems = 0, 0, 0, []
    for row in range(_num_rows(table)):
        for spec in table.layout.tensors:
            try:
                checksum, shape = table.checksum(row, spec.key), table.shape(row, spec.key)
                num_sums += checksum is not None and shape is None
                if shape is None:
                    continue
                num_values += 1
                problem, size = _value_problem(table, row, spec, shape, checksum)
                num_bytes += size
            except Exception as error:  # whatever it is, it is what a damaged file looks like
                problem = f"{type(error).__name__}: {one_line(error)}"
            if problem:
                path = "/".join(filter(None, [spec.kind, spec.name, spec.lane]))
                problems.append(f"{name} row {row}, {path}: {problem}")
    summary = f"{num_values:,} values read back, {num_bytes:,} bytes, and held against their checksums"
    if num_sums:
        summary += f"; {num_sums:,} more are checksums alone"
    return Check(f"tensors of {name}", summary, num_values + num_sums, tuple(problems))


def _value_problem(
    table: TableReader, row: int, spec: TensorSpec, shape: tuple[int, ...], checksum: int | None
) -> tuple[str, int]:
    """What is wrong with one value, and its size."""
    if not all(0 <= length <= longest for length, longest in zip(shape, spec.shape, strict=True)):
        return f"an extent of {shape_text(shape)}, and at most {shape_text(spec.shape)} is possible", 0
    value = table.tensor(row, spec.key)
    assert value is not None  # it has a shape
    if checksum is None:
        return "a value without a checksum", value.nbytes
    actual = tensor_checksum(value)
    problem = "" if actual == checksum else f"checksum {actual:016x}, and it was written with {checksum:016x}"
    return problem, value.nbytes


def _report(trace: InspectedTrace) -> Check:
    report = trace.report()
    if report is None:
        return Check("report", "none yet: the run goes on, or was stopped before it", 0)
    schema, verdict = str(report.get("schema", "")), report.get("verdict")
    problems = [] if schema.startswith(REPORT_SCHEMA) else [f"report: schema {schema!r}, expected {REPORT_SCHEMA}N"]
    problems += [] if verdict in VERDICTS else [f"report: verdict {verdict!r}, expected one of {', '.join(VERDICTS)}"]
    return Check("report", f"{schema}, {verdict}", 1, tuple(problems))


def _num_rows(table: TableReader) -> int:
    try:
        return table.num_rows
    except Exception:
        return 0  # the check of the columns says so


def _problems_reading(name: str, read: Callable[[], object]) -> Iterator[str]:
    try:
        read()
    except Exception as error:  # whatever it is, it is what a damaged file looks like
        yield _problem(name, error)


def _problem(what: str, error: Exception) -> str:
    return f"{what}: cannot be read ({type(error).__name__}: {one_line(error)})"
