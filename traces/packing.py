"""One step of a trace as a small trace of its own: what whoever is asked to look at it needs, and no more.

It holds the traced step, the tables, the last report, the state that leads to the step and its batch.  Values of other
tensors are left out, and so are checksums of steps that cannot be run from it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from diag.common.files import exported, refuse_existing, refuse_too_large
from diag.common.wording import ranges_of
from diag.errors import UserError
from traces.anonymous import Anonymizer
from traces.checksums import tensor_checksum
from traces.encoding import Array
from traces.hdf5.failures import explained_gaps
from traces.inspector.checking import checks_of
from traces.inspector.exporting import TargetFile
from traces.inspector.reading import InspectedTrace, opened
from traces.schema import PACKED, Column, RunDocuments, StepRecord, TensorKey, bytes_per_row
from traces.writer import CompactTraceWriter, TraceWriter

DRAWS = "draws"
"""The kind of random numbers, kept where no state determines them."""
TABLE_BYTES = 1_000_000
"""Of the numbers of all table rows, before compression: a file of 2 MB holds them beside a program and a report."""
MOST_INFLATED = 256 << 20
TENSOR_TABLES = ("steps", "snapshots", "batches")
PERSONAL_COLUMNS = ("file", "function", "text", "value")
"""Of tables: where lines of source come from, and what attributes say; the others hold names of the model."""


@dataclass(frozen=True)
class PackedTrace:
    """What was written.

    start: the step before which the state was.  stored: bytes of the state, the batches and all else.  left_out and
    notes: in words.
    """

    path: str
    step: int
    start: int
    is_anonymous: bool
    stored: Mapping[str, int]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def pack(trace: InspectedTrace, step: int | None, target: TargetFile, is_anonymous: bool) -> PackedTrace:
    """Write a trace of one step, by default that of the first divergence.

    Raises:
      UserError: there is no such step, what it takes is not in the trace or damaged, or the file cannot be written.
    """
    refuse_existing(target.path, target.force)
    step = _flagged_step(trace) if step is None else step
    packing = _Packing(trace, step, _start(trace, step), Anonymizer(_documents(trace)) if is_anonymous else None)
    refuse_too_large(target.path, packing.most_bytes())
    with exported(target.path, target.force, needs_name=True) as unfinished, explained_gaps(trace.path):
        packing.write(unfinished)
        stored = _stored_bytes(unfinished)
    notes = tuple(packing.notes)
    return PackedTrace(str(target.path), step, packing.start, is_anonymous, stored, tuple(packing.left_out()), notes)


def default_name(trace: Path, step: int | None, is_anonymous: bool) -> Path:
    """The file beside a trace where none is named."""
    parts = [trace.stem, "flagged" if step is None else f"step{step}", *(["anonymous"] if is_anonymous else [])]
    return trace.with_name(f"{'-'.join(parts)}.h5")


def _flagged_step(trace: InspectedTrace) -> int:
    """The step of the first divergence: of the report, or of the tables where a run was killed before it."""
    first = (trace.report() or {}).get("first_divergence")
    if first is not None and "step" in first:
        return int(first["step"])
    columns = [trace.columns(name, ("step", "verdict")) for name in ("ops", "units")]
    rows = [zip(each.get("step", ()), each.get("verdict", ()), strict=False) for each in columns]
    wrong = [int(step) for pairs in rows for step, verdict in pairs if verdict == "divergence"]
    if not wrong:
        raise UserError(f"{trace.path} has no divergence; name the step to pack with --step K, {_has(trace)}")
    return min(wrong)


def _start(trace: InspectedTrace, step: int) -> int:
    """The last step up to this one before which the state is stored."""
    if step not in trace.whole_steps:
        raise UserError(f"--step {step}: {_has(trace)}")
    before = [number for number in trace.snapshot_steps if number <= step]
    if not before:
        raise UserError(f"--step {step}: {trace.path} holds no state before it, only those before steps "
                        f"{ranges_of(trace.snapshot_steps) or 'none'}")  # fmt: skip
    return max(before)


def _has(trace: InspectedTrace) -> str:
    steps = trace.whole_steps
    return f"{trace.path} holds " + (f"the steps {ranges_of(steps)}" if steps else "no whole step")


def _documents(trace: InspectedTrace) -> list[Any]:
    lanes = [trace.environment(lane) for lane in trace.layout.lanes]
    return [trace.command, trace.settings, trace.model_config, trace.report(), *lanes]


@dataclass
class _Packing:
    trace: InspectedTrace
    step: int
    start: int
    anonymizer: Anonymizer | None

    def __post_init__(self) -> None:
        self.run = range(self.start, self.step + 1)
        self.notes: list[str] = []

    def most_bytes(self) -> int:
        """Before compression."""
        layout, num_batches = self.trace.layout, 0 if self.anonymizer else len(self.run)
        state, batch = (sum(map(bytes_per_row, specs)) for specs in (layout.variables, layout.batch))
        return state + num_batches * batch + 2 * TABLE_BYTES

    def write(self, path: Path) -> None:
        self._refuse_damaged()
        programs = [blob for number, blob in enumerate(self.trace.programs) if self._may_keep(blob, number)]
        self._tell_names()
        report = self.trace.report()
        with CompactTraceWriter(path, self.trace.layout, self._run()) as writer:
            self._write_batches(writer)
            self._write_state(writer)
            self._write_steps(writer)
            for name in self.trace.layout.tables:
                if name not in TENSOR_TABLES:
                    writer.append_rows(name, self._rows(name))
            for program in programs:
                writer.write_program(program)
            if report is not None:
                writer.write_report(self.anonymizer.document(report) if self.anonymizer else report)

    def left_out(self) -> Iterator[str]:
        """In words."""
        trace, kept = self.trace, set(self.run)
        yield "the tensors of every step"
        if others := [step for step in trace.snapshot_steps if step != self.start]:
            yield f"the states before steps {ranges_of(others)}"
        if self.anonymizer:
            yield "the values of all batches, paths, and the names of machine and user"
        elif others := sorted(set(trace.batch_steps) - kept):
            yield f"the batches of steps {ranges_of(others)}"

    # -- what is read, and held against its checksums ----------------------------------------------

    def _refuse_damaged(self) -> None:
        problems = [problem for check in checks_of(self.trace, with_tensors=False) for problem in check.problems]
        if problems:
            raise UserError(
                f"{self.trace.path} is damaged, and no damage is packed as if it were sound: {problems[0]}; "
                f"python -m traces verify {self.trace.path} lists all"
            )

    def _sound(self, arrays: Mapping[str, Array], checksums: Mapping[str, int], what: str) -> Mapping[str, Array]:
        if {name: tensor_checksum(array) for name, array in arrays.items()} != checksums:
            raise UserError(f"{self.trace.path}: the {what} is not what was written, by its checksums; record it again")
        return arrays

    def _write_batches(self, writer: TraceWriter) -> None:
        """Those of the steps from the state to the step, in the order they are taken."""
        if self.anonymizer:
            return
        if missing := [number for number in self.run if number not in self.trace.batch_steps]:
            raise UserError(f"--step {self.step}: {self.trace.path} holds no batch of steps {ranges_of(missing)}")
        for index, number in {self.trace.batch_indices[number]: number for number in self.run}.items():
            arrays, checksums = self.trace.batch(number), self.trace.batch_checksums(number)
            writer.write_batch(index, self._sound(arrays, checksums, f"batch of step {number}"))

    def _write_state(self, writer: TraceWriter) -> None:
        states = {}
        for lane in self.trace.layout.lanes:
            arrays, checksums = self.trace.snapshot(self.start, lane), self.trace.snapshot_checksums(self.start, lane)
            states[lane] = self._sound(arrays, checksums, f"state of the {lane} before step {self.start}")
        writer.write_snapshot(self.start, states)

    def _write_steps(self, writer: TraceWriter) -> None:
        """Losses and excess of every step; checksums, and random numbers, of those that can be run."""
        columns = self.trace.table_readers["steps"].columns()
        numbers = columns["step"].tolist()
        last = {number: row for row, number in enumerate(numbers)}  # a step may have been written again
        rows = range(len(numbers))
        for is_run, part in groupby(rows, lambda row: numbers[row] in self.run and last[numbers[row]] == row):
            chosen = list(part)
            if not is_run:
                writer.append_bare_steps({name: values[chosen].tolist() for name, values in columns.items()})
                continue
            for row in chosen:
                writer.append_step(self._record({name: values[row] for name, values in columns.items()}))

    def _record(self, row: Mapping[str, Any]) -> StepRecord:
        layout, number = self.trace.layout, int(row["step"])
        tensors = {} if self.anonymizer else self._draws(number)
        return StepRecord(
            step=number,
            batch=int(row["batch"]),
            losses={lane: float(row[f"loss/{lane}"]) for lane in layout.lanes},
            tensors=tensors,
            excess=dict(zip(layout.layers, row["excess"].tolist(), strict=True)) if layout.layers else {},
            checked=bool(row["checked"]),
            checksums={key: value for key, value in self.trace.checksums(number).items() if key not in tensors},
        )

    def _draws(self, step: int) -> dict[TensorKey, Array]:
        return {key: self.trace.tensor(step, *key) for key in self.trace.kept(step) if key[1] == DRAWS}

    # -- rows of tables ----------------------------------------------------------------------------

    def _rows(self, table: str) -> dict[str, Any]:
        columns = self.trace.table_readers[table].columns()
        if "step" in columns:
            kept = self._steps_with_rows
            chosen = np.array([number in kept for number in columns["step"].tolist()], bool)
            columns = {name: values[chosen] for name, values in columns.items()}
        return {column.name: self._column(column, columns[column.name]) for column in self._columns(table)}

    def _columns(self, table: str) -> tuple[Column, ...]:
        return self.trace.layout.tables[table].columns

    def _column(self, column: Column, values: Array) -> Any:
        if column.dtype != "text":
            return values
        texts = values.tolist()
        if self.anonymizer is None or column.name not in PERSONAL_COLUMNS:
            return texts
        return list(map(self.anonymizer.file if column.name == "file" else self.anonymizer.text, texts))

    @cached_property
    def _steps_with_rows(self) -> set[int]:
        """The steps whose rows are kept: this one, those that diverge, then the first ones, as far as there is room."""
        sizes: dict[int, int] = {}
        for table in ("ops", "units"):
            width = 8 * sum(column.dtype != "text" for column in self._columns(table))
            for number in self.trace.columns(table, ("step",)).get("step", np.empty(0)).tolist():
                sizes[number] = sizes.get(number, 0) + width
        wrong = {each.get("step") for each in (self.trace.report() or {}).get("divergences", ())}
        kept, room = {self.step}, TABLE_BYTES - sizes.get(self.step, 0)
        for number in sorted(sizes.keys() - kept, key=lambda each: (each not in wrong, each)):
            room -= sizes[number]
            if room < 0:
                break
            kept.add(number)
        if others := sorted(sizes.keys() - kept):
            self.notes.append(f"for want of room without the rows of ops and units of steps {ranges_of(others)}")
        return kept

    # -- documents ---------------------------------------------------------------------------------

    def _run(self) -> RunDocuments:
        trace, of = self.trace, self.anonymizer
        environments = {lane: trace.environment(lane) for lane in trace.layout.lanes}
        command, config, settings = trace.command, trace.model_config, trace.settings
        if of is not None:
            environments = {lane: of.environment(environment) for lane, environment in environments.items()}
            command, config, settings = of.command(command), of.document(config), of.document(settings)
        settings = {**settings, PACKED: {"step": self.step, "anonymous": of is not None}}
        return RunDocuments(environments, command, trace.seeds, config, settings, trace.created)

    def _may_keep(self, program: bytes, number: int) -> bool:
        """Whether nothing in a program tells of the person; a word that is also a name is told of."""
        remaining = self.anonymizer.remaining_in(_inflated(program)) if self.anonymizer else []
        if paths := [each for each in remaining if "/" in each or "\\" in each]:
            self.notes.append(f"without training step {number}, in which {len(paths)} folders of this machine stand")
            return False
        if remaining:
            self.notes.append(
                f"names in training step {number} are the model's own; {', '.join(map(repr, remaining))} is among "
                "their words, which is also a name of this machine or its user"
            )
        return True

    def _tell_names(self) -> None:
        """Of layers and variables, which stay: the program goes by them."""
        layout = self.trace.layout
        names = {*layout.layers, *(spec.name for spec in (*layout.tensors, *layout.variables))}
        if self.anonymizer and (found := [n for n in sorted(names) if self.anonymizer.remaining_in(n.encode())]):
            self.notes.append(
                f"names of layers and variables stay as they are, also {found[0]}, which holds such a name"
            )


def _inflated(program: bytes) -> bytes:
    """What an archive holds, or the bytes themselves where it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(program)) as file:
            parts = file.infolist()
            if sum(part.file_size for part in parts) > MOST_INFLATED:
                raise UserError(
                    f"a training step of more than {MOST_INFLATED >> 20} MiB is not looked through for names"
                )
            return b"\n".join([*(part.filename.encode() for part in parts), *map(file.read, parts)])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError):
        return program


def _stored_bytes(path: Path) -> dict[str, int]:
    """Bytes on file of the state, the batches and all else."""
    with opened(path) as packed:
        sizes = {"state": packed.stored_bytes("snapshots"), "batches": packed.stored_bytes("batches")}
    return {**sizes, "other": path.stat().st_size - sum(sizes.values())}
