"""A run that was killed, as its folder has it: what it was, how far it is on file, and what it had computed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from diag.common.source_lines import SourceLine
from diag.engine.recordings.checkpoint import CheckpointHeader, read_header
from diag.engine.runs.settings import RunPlan
from diag.engine.step.serialization import NotStorable
from diag.engine.step.tracing import flat_batch
from diag.errors import UserError
from traces.checksums import NO_CHECKSUM, tensor_checksum
from traces.encoding import Array
from traces.hdf5.copying import EarlierRows
from traces.reader import TraceReader
from traces.schema import StepRecord

LANES = ("reference", "candidate")


def batch_arrays(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a batch by the names they have in a trace, in the order of the program's inputs."""
    return {f"batch_{index}": np.asarray(array) for index, array in enumerate(arrays)}


class EarlierRun:
    """What a run that goes on is held against, and begins with.  Use it as a context manager.

    checkpoint: None where the run has to go on from its start.

    Raises:
      UserError: the trace cannot be read, or the checkpoint is not of it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "trace.h5"
        self.checkpoint: CheckpointHeader | None = read_header(folder)
        self._reader = TraceReader(self.path)
        self._differing: dict[int, int] = {}  # by step, how many values have other bits
        have = self._reader.num_rows()
        if self.checkpoint is not None and any(have.get(n, -1) < rows for n, rows in self.checkpoint.rows.items()):
            raise UserError(
                f"{folder}: the trace has fewer rows than were written when its resume.npz was; expected the two files "
                "of one run, as it left them; put them back, or remove resume.npz to do all steps again"
            )
        steps = self._reader.steps
        self.next_step = self.checkpoint.next_step if self.checkpoint is not None else min(steps, default=0)
        self.again = [step for step in steps if step >= self.next_step]

    @property
    def seconds(self) -> float:
        """That the run took up to the checkpoint."""
        return 0.0 if self.checkpoint is None else self.checkpoint.seconds

    @property
    def sentence(self) -> str:
        """Where it goes on, for a person."""
        again = f", {len(self.again)} computed again" if self.again else ""
        where = f"step {self.next_step}" if self.checkpoint is not None else f"step {self.next_step}, its first"
        return f"{where}{again}"

    @property
    def rows(self) -> EarlierRows:
        """Those that stay: of the steps before the checkpoint."""
        nothing = dict.fromkeys(self._reader.num_rows(), 0)
        return self._reader.first_rows(nothing if self.checkpoint is None else self.checkpoint.rows)

    @cached_property
    def programs(self) -> list[bytes]:
        """The traced steps that stay."""
        return self._reader.programs[: self.rows.num_rows["programs"]]

    @cached_property
    def lines(self) -> dict[SourceLine, int]:
        """The lines that made ops, of the rows that stay, by their numbers."""
        rows = self.rows.num_rows["sources"]
        return {line: number for number, line in self._reader.source_lines().items() if number < rows}

    @cached_property
    def batches(self) -> dict[tuple[int, ...], int]:
        """Index of each batch that stays, by the checksums of its arrays."""
        num_batches = self.rows.num_rows["batches"]
        checksums = self._reader.checksums_of_batches()
        return {tuple(each.tolist()): index for index, each in checksums.items() if index < num_batches}

    @cached_property
    def _again(self) -> dict[int, Array]:
        """Of the steps that are computed again, the checksums of all values, and the bits of the losses."""
        losses = np.stack([self._reader.losses[lane].view(np.uint64) for lane in LANES], axis=1)
        loss_of, checksums = dict(zip(self._reader.steps, losses, strict=True)), self._reader.checksums_of_steps()
        return {step: np.concatenate([checksums[step], loss_of[step]]) for step in self.again}

    def refuse_others(self, plan: RunPlan, stored: bytes | NotStorable, batches: Any) -> None:
        """Check that what is to go on is the run that was killed, and remember what it had computed since.

        Raises:
          UserError: it computes elsewhere or otherwise, or trains another model, or on other data.
        """
        self._refuse_other_places(plan.environments)
        kept = self._reader.programs
        if isinstance(stored, NotStorable) or not kept:
            reason = self._reader.settings.get("no_program", "the run was ended before it kept one")
            raise UserError(
                f"{self.path} holds no training step to hold the model against: {reason}; run it again in a new folder"
            )
        if kept[0] != stored:
            raise UserError(
                f"{self.path} was recorded of another training step than the model gives now; put the model back as "
                "it was, or run it in a new folder"
            )
        self._refuse_other_weights(plan)
        self._refuse_other_batches(batches)
        assert self._again is not None  # read while the trace is open

    def _refuse_other_places(self, environments: Mapping[str, Mapping[str, Any]]) -> None:
        for lane in LANES:
            then, now = self._reader.environment(lane), environments[lane]
            for name in sorted(then.keys() | now.keys()):
                if then.get(name) != now.get(name):
                    raise UserError(
                        f"{self.path} was recorded with {name} {then.get(name, 'not set')} at the {lane}, and here it "
                        f"is {now.get(name, 'not set')}; go on where it was recorded, or run it in a new folder"
                    )

    def _refuse_other_weights(self, plan: RunPlan) -> None:
        first = plan.settings.first_step
        if first not in self._reader.snapshots:
            return
        then = self._reader.snapshot_checksums(first, "reference")
        now = zip(plan.program.variables, plan.program.initial_state(), strict=True)
        changed = [spec.name for spec, value in now if then.get(spec.name) != tensor_checksum(np.asarray(value))]
        if changed:
            raise UserError(
                f"{self.path} began with other values of {changed[0]} than the model has now, and of {len(changed)} "
                "variables in all; put the model and its weights back as they were, or run it in a new folder"
            )

    def _refuse_other_batches(self, batches: Any) -> None:
        stored = self._reader.checksums_of_batches()
        for step, index in self._reader.batch_indices.items():
            now = [tensor_checksum(array) for array in flat_batch(batches[step])]
            if now != stored[index].tolist():
                raise UserError(
                    f"{self.path} was recorded with another batch in step {step} than the data give now; put the data "
                    "back as they were, or run it in a new folder"
                )

    def compare(self, record: StepRecord) -> None:
        """A step that was computed again, held against what it had been."""
        if record.step not in self._again:
            return
        values = [record.tensors.get(spec.key) for spec in self._reader.layout.tensors]
        checksums = [NO_CHECKSUM if value is None else tensor_checksum(np.asarray(value)) for value in values]
        losses = np.array([record.losses[lane] for lane in LANES]).view(np.uint64)
        now = np.concatenate([np.array(checksums, np.uint64), losses])
        num_differing = int(np.count_nonzero(self._again.pop(record.step) != now))
        if num_differing:
            self._differing[record.step] = num_differing

    @property
    def notes(self) -> list[str]:
        """What to say of steps that did not come out the same."""
        if not self._differing:
            return []
        first = min(self._differing)
        return [
            f"the run was killed and went on at step {self.next_step}: of {len(self.again)} steps computed again, "
            f"{len(self._differing)} have other bits than before, the first step {first} in "
            f"{self._differing[first]} values; the run is not reproducible on this place, so it does not end as it "
            "would have without the kill"
        ]

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> EarlierRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
