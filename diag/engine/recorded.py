"""A trace as the engine takes it: the traced step, its batches, and the states and values of its lanes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diag.engine.batches import Batch
from diag.engine.graph import Port
from diag.engine.places import Place, parse_place
from diag.engine.program import Program
from diag.engine.series import DRAWS, Name, tapped, variable_names
from diag.engine.setup import Trained
from diag.engine.stored_program import load, with_state
from diag.errors import UserError
from traces.reader import TraceReader


class RecordedRun:
    """What a trace says of the run that made it.  Use it as a context manager.

    Raises:
      UserError: no trace, or one with no training step in it; when something is asked for that it
        does not hold.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader = TraceReader(path)
        if not self.reader.programs:
            raise UserError(f"{path} holds no training step: {self._why_no_program()}")
        self._programs: dict[tuple[Any, ...], Program] = {}
        self._specs = [load(blob) for blob in self.reader.programs]

    def _why_no_program(self) -> str:
        """In words, with the file that the model came from."""
        command = self.reader.command
        model = command[command.index("--model") + 1] if "--model" in command[:-1] else None
        reason = self.reader.settings.get("no_program", "the run that wrote it kept none")
        source = f"it needs {model}, run diag.lockstep on that again" if model else "record the run again"
        return f"{reason}; {source}"

    @property
    def seed(self) -> int:
        return int(self.reader.seeds["seed"])

    @property
    def follow(self) -> str:
        return str(self.reader.settings["follow"])

    def place(self, lane: str) -> Place:
        """Where a lane ran."""
        return parse_place(str(self.reader.environment(lane)["place"]))

    def program(self, step: int) -> Program:
        """The traced step for the shapes of a step's batch."""
        return self.program_for(self[step])

    def program_for(self, batch: Batch) -> Program:
        shapes = [(tuple(x.shape), x.dtype.name) for x in batch.inputs]
        for program in self._specs:
            if batch_signature(program) == shapes:
                return program
        raise UserError(f"{self.path} holds no training step for a batch of {shapes}; record the run again")

    def __getitem__(self, step: int) -> Batch:
        """The batch a step was given, its arrays in the order of the program's inputs."""
        try:
            arrays = self.reader.batch(step)
        except KeyError:
            have = summary(self.steps_with_batches())
            raise UserError(f"{self.path} holds no batch of step {step}; it holds those of {have}") from None
        return Batch(inputs=list(arrays.values()), targets=())

    def steps_with_batches(self) -> list[int]:
        return self.reader.steps_with_batches

    @property
    def first_step(self) -> int:
        return min(self.reader.snapshots)

    def num_steps_from(self, first: int) -> int:
        """How many steps follow each other from one on, each with its batch."""
        have, step = set(self.steps_with_batches()), first
        while step in have:
            step += 1
        return step - first

    def state(self, step: int, lane: str) -> list[np.ndarray] | None:
        """A lane's variables before a step, in the program's order; None where no snapshot holds them."""
        if step not in self.reader.snapshots:
            return None
        found = self.reader.snapshot(step, lane)
        return [found[spec.name] for spec in self._specs[0].variables]

    def snapshot_before(self, step: int) -> int:
        """The last step not after this one of which the state was stored."""
        return max(number for number in self.reader.snapshots if number <= step)

    def draws(self, step: int, program: Program) -> dict[Port, np.ndarray]:
        """The random numbers that were kept because no state determines them, of the reference."""
        found = {name: port for name, port in tapped(program).items() if name[0] == DRAWS}
        return {
            port: self.reader.tensor(step, "reference", *name)
            for name, port in found.items()
            if self.reader.holds(step, "reference", *name)
        }

    def values(self, step: int, lane: str, program: Program) -> dict[Port, np.ndarray]:
        """The loss and the tensors of a step that were kept in full, by where the program computes them."""
        found = {
            port: self.reader.tensor(step, lane, *name)
            for name, port in tapped(program).items()
            if self.reader.holds(step, lane, *name)
        }
        loss = self.reader.losses[lane][self.reader.steps.index(step)]
        return {**found, program.loss: loss.astype(program.graph.dtype(program.loss).as_numpy_dtype)}

    def state_after(self, step: int, lane: str) -> list[np.ndarray | None]:
        """A lane's variables after a step, None where the trace does not say."""
        names, whole = variable_names(self._specs[0]), self.state(step + 1, lane)
        if whole is not None and self.follow in ("free", lane):
            return list(whole)
        return [self._kept(step, lane, name) for name in names]

    def _kept(self, step: int, lane: str, name: Name) -> np.ndarray | None:
        return self.reader.tensor(step, lane, *name) if self.reader.holds(step, lane, *name) else None

    def training(self, first_step: int, lane: str) -> Trained:
        """What a run trains that starts from a lane's recorded state before a step."""
        state = self.state(first_step, lane)
        if state is None:
            have = summary(self.reader.snapshots)
            raise UserError(f"{self.path} holds no state before step {first_step}; it holds those before {have}")
        return Trained(
            model=None,
            programs=lambda batch: with_state(self.program_for(batch), state),
            batches=self,
            config=self.reader.model_config,
            model_description=f"the training step recorded in {self.path.name}",
            data_description=f"the batches recorded in {self.path.name}",
            notes=(),
        )

    def close(self) -> None:
        self.reader.close()

    def __enter__(self) -> RecordedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def batch_signature(program: Program) -> list[tuple[tuple[int, ...], str]]:
    """Shape and dtype of each array of the batch that a program was traced for."""
    ports = [Port(name, 0) for name in program.batch_inputs]
    return [(tuple(program.graph.shape(port).as_list()), program.graph.dtype(port).name) for port in ports]


def summary(numbers: Sequence[int]) -> str:
    """Numbers as a person writes them: 0-3, 7, 9-12."""
    parts: list[str] = []
    for number in sorted(numbers):
        first, _, last = parts[-1].partition("-") if parts else ("", "", "")
        if parts and int(last or first) == number - 1:
            parts[-1] = f"{first}-{number}"
        else:
            parts.append(str(number))
    return ", ".join(parts) or "no step"
