"""What `verify` checks, once the door has let a trace in: that everything on file is what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from diag.common.wording import counted, one_line, ranges_of
from diag.errors import UserError
from traces.checksums import bytes_checksum, rows_checksum, tensor_checksum
from traces.hdf5.blobs import BlobReader
from traces.hdf5.chunks import Unsound
from traces.hdf5.skeleton import ROOT
from traces.hdf5.table import TableReader
from traces.inspector.reading import InspectedTrace
from traces.schema import TensorSpec

VERDICTS = ("identical", "rounding", "divergence")
REPORT_SCHEMA = "lockstep-report/"
NOT_CHECKSUMMED = "not checksummed: by a version before checksums of them"


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


def checks_of(trace: InspectedTrace, with_tensors: bool = True) -> Iterator[Check]:
    """Every check, as it is done; together they read the whole file once, or without its tensors a small part of it."""
    yield _documents(trace)
    yield _or_unreadable("programs", "programs", partial(_programs, trace))
    yield _or_unreadable("steps", "steps", partial(_steps, trace))
    for name, table in trace.table_readers.items():
        yield _or_unreadable(f"table {name}", f"{name}/complete", partial(_rows, name, table))
    for name, table in trace.table_readers.items():
        if with_tensors and table.layout.tensors:
            yield _or_unreadable(f"tensors of {name}", name, partial(_tensors, name, table))
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
    """What was written once, at the start; the door has read it."""
    actual, written = trace.document_checksums()
    problems = [
        f"{_document_name(name)}: checksum {checksum}, and it was written with {written.get(name, 'none')}"
        for name, checksum in actual.items()
        if written and written.get(name) != checksum
    ]
    held = "held against their checksums" if written else NOT_CHECKSUMMED
    summary = f"{trace.schema}, by version {trace.version}; {len(actual) - 1} documents read, {held}"
    return Check("documents", summary, len(actual), tuple(problems))


def _document_name(name: str) -> str:
    return "attributes of the file" if name == ROOT else name


def _programs(trace: InspectedTrace) -> Check:
    """The training steps as bytes."""
    return _blobs("programs", trace.blob_readers["programs"])


def _blobs(name: str, blobs: BlobReader) -> Check:
    """Documents one after the other, each held against its checksum."""
    num_bytes, num_unsummed, problems = 0, 0, []
    for number in range(len(blobs)):
        content, written = blobs[number], blobs.checksum(number)
        num_bytes += len(content)
        num_unsummed += written is None
        actual = bytes_checksum(content)
        if written is not None and written != actual:
            problems.append(f"{name} {number}: checksum {actual:016x}, and it was written with {written:016x}")
    summary = f"{counted(len(blobs), name.removesuffix('s'))}, {num_bytes:,} bytes"
    if len(blobs):
        summary += f", {NOT_CHECKSUMMED if num_unsummed else 'held against checksums'}"
    return Check(name, summary, len(blobs), tuple(problems))


def _steps(trace: InspectedTrace) -> Check:
    steps, planned = trace.whole_steps, trace.layout.steps
    without_batch = [step for step in steps if step not in trace.batch_steps]
    of = "" if planned is None else f" of {planned:,} planned"
    summary = f"{len(steps):,} whole{of}" + (f": {ranges_of(steps)}" if steps else "")
    if without_batch:
        summary += f"; without their batch: {ranges_of(without_batch)}"
    return Check("steps", summary, len(steps))


def _rows(name: str, table: TableReader) -> Check:
    """All columns, as long as the table says it is, and the marks of its tensors; held against their checksums."""
    num_rows, problems = table.num_rows, []
    for column in table.layout.columns:
        try:
            table.column(column.name)
        except Exception as error:  # whatever it is, it is what a damaged file looks like
            problems.append(_problem(f"{name}/{column.name}", error))
    number = len(table.layout.columns)
    summary = f"{counted(number, 'column')} of {counted(num_rows, 'row')}"
    if not problems and num_rows:
        is_checksummed, wrong = _appends_that_differ(table, num_rows)
        summary += f", {'held against checksums' if is_checksummed else NOT_CHECKSUMMED}"
        problems += [f"{name} rows {rows}: not as they were written, by their checksum" for rows in wrong]
    return Check(f"table {name}", summary, number * num_rows, tuple(problems))


def _appends_that_differ(table: TableReader, num_rows: int) -> tuple[bool, list[str]]:
    """Whether there are checksums, and the rows of each append that has another."""
    appends = table.appends()
    if appends is None:
        return False, []
    columns, start, wrong = table.stored_columns(num_rows), 0, []
    for stop, written in appends:
        if not start < stop <= num_rows:
            break
        if rows_checksum([*(values[start:stop] for values in columns), *table.marks(start, stop)]) != written:
            wrong.append(_range_text(start, stop))
        start = stop
    if start < num_rows:
        wrong.append(_range_text(start, num_rows))
    return True, wrong


def _range_text(start: int, stop: int) -> str:
    return str(start) if stop == start + 1 else f"{start}-{stop - 1}"


def _tensors(name: str, table: TableReader) -> Check:
    """Every value read back, and held against its checksum."""
    num_values, num_bytes, num_sums, problems = 0, 0, 0, []
    num_rows = table.num_rows
    table.check_marks(num_rows)  # a count that is not so would be gone through row by row
    for row in range(num_rows):
        for spec in table.layout.tensors:
            try:
                checksum, shape = table.checksum(row, spec.key), table.shape(row, spec.key)
                num_sums += checksum is not None and shape is None
                if shape is None:
                    continue
                num_values += 1
                problem, size = _value_problem(table, row, spec, checksum)
                num_bytes += size
            except Unsound as error:
                problem = str(error)
            except Exception as error:  # whatever it is, it is what a damaged file looks like
                problem = f"{type(error).__name__}: {one_line(error)}"
            if problem:
                path = "/".join(filter(None, [spec.kind, spec.name, spec.lane]))
                problems.append(f"{name} row {row}, {path}: {problem}")
    summary = f"{num_values:,} values read back, {num_bytes:,} bytes, and held against their checksums"
    if num_sums:
        summary += f"; {num_sums:,} more are checksums alone"
    return Check(f"tensors of {name}", summary, num_values + num_sums, tuple(problems))


def _value_problem(table: TableReader, row: int, spec: TensorSpec, checksum: int | None) -> tuple[str, int]:
    """What is wrong with one value, and its size."""
    value = table.tensor(row, spec.key)
    assert value is not None  # it has a shape
    if checksum is None:
        return "a value without a checksum", value.nbytes
    actual = tensor_checksum(value)
    problem = "" if actual == checksum else f"checksum {actual:016x}, and it was written with {checksum:016x}"
    return problem, value.nbytes


def _report(trace: InspectedTrace) -> Check:
    report, checked = trace.report(), _blobs("reports", trace.blob_readers["reports"])
    if report is None:
        return Check("report", "none yet: the run goes on, or was stopped before it", 0)
    schema, verdict = str(report.get("schema", "")), report.get("verdict")
    problems = [] if schema.startswith(REPORT_SCHEMA) else [f"report: schema {schema!r}, expected {REPORT_SCHEMA}N"]
    problems += [] if verdict in VERDICTS else [f"report: verdict {verdict!r}, expected one of {', '.join(VERDICTS)}"]
    return Check("report", f"{schema}, {verdict}; {checked.summary}", 1, (*problems, *checked.problems))


def _problem(what: str, error: Exception) -> str:
    if isinstance(error, (Unsound, UserError)):
        return f"{what}: {error}"
    return f"{what}: cannot be read ({type(error).__name__}: {one_line(error)})"
