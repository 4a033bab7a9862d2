"""A trace as the engine takes it: the traced step, its batches, and the states and values of its lanes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from diag.common.modes import STEP
from diag.common.text import as_text
from diag.common.wording import shortened
from diag.engine.graphs.graph import Port
from diag.engine.graphs.tf_errors import reason_of
from diag.engine.step.batch import Batch
from diag.engine.step.named_tensors import DRAWS, Name, variable_names, watched_tensors
from diag.engine.step.program import Program
from diag.engine.step.serialization import load, not_allowed_in, with_state
from diag.engine.step.stored_step import Damaged, NotAllowed
from diag.engine.training.setup import Trained
from diag.errors import UserError
from diag.machine.places import Place, parse_place
from diag.options import FOLLOW
from traces.checksums import tensor_checksum
from traces.reader import TraceReader


class RecordedRun:
    """What a trace says of the run that made it.  Use it as a context manager.

    is_trusted: its training step may do more than compute.

    Raises:
      UserError: no trace, or one with no training step in it, or with one that does more than compute; when something
        is asked for that it does not hold.
    """

    def __init__(self, path: Path, is_trusted: bool = False) -> None:
        self.path = path
        self.reader = TraceReader(path)
        blobs = self.reader.programs
        if not blobs:
            raise UserError(f"{path} holds no training step: {self._why_no_program()}")
        try:
            self._specs = [self._with_lines(load(blob, is_trusted), number) for number, blob in enumerate(blobs)]
        except Damaged as error:
            raise self._damage("training step", str(error)) from error
        except NotAllowed as error:
            raise UserError(
                f"{path} holds a training step that may do more than compute: {error}; nothing of it was loaded; only "
                "if you trust whoever made the trace: --trust runs it, with all that you may do on this machine"
            ) from error
        self._refuse_other_variables()
        if is_trusted:
            self._say_what_is_trusted()

    def _with_lines(self, program: Program, number: int) -> Program:
        """With the lines that made its ops, which are no part of its bytes."""
        ops = self.reader.described_ops(number)
        return replace(program, lines={index: op.line for index, op in ops.items() if op.line is not None})

    def _say_what_is_trusted(self) -> None:
        """What would not be run without the flag, on stderr before any of it is run."""
        found = dict.fromkeys(filter(None, map(not_allowed_in, self._specs)))
        for more in found:
            print(f"note: --trust runs what {self.path} has beyond computing: {as_text(more)}", file=sys.stderr)

    def _refuse_other_variables(self) -> None:
        stored = {(spec.name, spec.shape, spec.dtype) for spec in self.reader.layout.variables}
        for program in self._specs:
            for variable in program.variables:
                if (variable.name, tuple(variable.shape), variable.dtype) not in stored:
                    raise self._damage("training step", f"no state of its variable {as_text(variable.name)} is stored")

    def _why_no_program(self) -> str:
        """In words, with the file that the model came from."""
        reason = self.reader.settings.get("no_program", "the run that wrote it was ended before it kept one")
        model = _value_of("--model", self.reader.command)
        return f"{reason}; " + (
            f"it takes the model itself, {model}: run diag.lockstep on it again" if model else "record the run again"
        )

    def _damage(self, what: str, how: str = "") -> UserError:
        said = f" ({shortened(how, 300)})" if how else ""
        return UserError(
            f"Cannot read the trace {self.path}: the {what} in it is damaged{said}; expected the bytes that were "
            "written; copy it again from where it was made, or record the run again."
        )

    @property
    def seed(self) -> int:
        return int(self._known(self.reader.seeds, "seed", "seeds"))

    @property
    def mode(self) -> str:
        """What its step does: train or predict."""
        return self._specs[0].mode

    @property
    def follow(self) -> str:
        follow = str(self._known(self.reader.settings, "follow", "settings"))
        if follow not in FOLLOW:
            raise UserError(f"{self.path} says that its run followed {as_text(follow)}; expected {', '.join(FOLLOW)}")
        return follow

    def place(self, lane: str) -> Place:
        """Where a lane ran; of a reference that was itself recorded elsewhere, where its stand-in did."""
        environment = self.reader.environment(lane)
        place = environment.get("stand_in") or self._known(environment, "place", f"environment of the {lane}")
        return replace(parse_place(str(place)), is_recorded=True)

    def _known(self, document: Mapping[str, Any], key: str, where: str) -> Any:
        """What a document says under a key."""
        if key not in document:
            raise UserError(f"{self.path} does not say the {key} of its run in its {where}; record the run again")
        return document[key]

    def place_to_run(self, lane: str) -> Place:
        """Where a lane ran, for running it there again.

        Raises:
          UserError: a Python file simulated it; a person has to name it.
        """
        place = self.place(lane)
        if place.names_file:
            raise UserError(
                f"the {lane} was recorded at {place}, made by a Python file, and no file is run because a trace names "
                f"it; if it is yours, name it yourself: --place {shlex.quote(str(place))} "
                f"(with --lane {lane} of diag.replay); or name another --place"
            )
        return place

    def program(self, step: int) -> Program:
        """The traced step for the shapes of a step's batch."""
        return self.program_for(self[step])

    def program_for(self, batch: Batch) -> Program:
        shapes = [(tuple(x.shape), x.dtype.name) for x in batch.inputs]
        for program in self._specs:
            if program.batch_signature == shapes:
                return program
        raise UserError(f"{self.path} holds no training step for a batch of {shapes}; record the run again")

    def __getitem__(self, step: int) -> Batch:
        """The batch a step was given, its arrays in the order of the program's inputs."""
        try:
            arrays = self.reader.batch(step)
        except KeyError:
            have = summary(self.steps_with_batches())
            raise self.no_batch(f"of step {step}; it holds those of {have}") from None
        if _checksums(arrays) != self.reader.batch_checksums(step):
            raise self._damage(f"batch of step {step}")
        return Batch(inputs=list(arrays.values()), targets=())

    def no_batch(self, of: str) -> UserError:
        """What is said where a batch is asked for that the trace has not."""
        if self.reader.is_anonymous:
            return UserError(
                f"{self.path} was packed with --anonymous and holds no batch, so none of its steps can be run; ask who "
                "made it to pack it without"
            )
        return UserError(f"{self.path} holds no batch {of}")

    def steps_with_batches(self) -> list[int]:
        return self.reader.steps_with_batches

    @property
    def first_step(self) -> int:
        """The first step whose state was stored.

        Raises:
          UserError: the run was ended before its first step was whole.
        """
        if not self.reader.steps or not self.reader.snapshots:
            raise UserError(f"{self.path} holds no whole step; the run that wrote it was ended before its first")
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
        if _checksums(found) != self.reader.snapshot_checksums(step, lane):
            raise self._damage(f"state of the {lane} before step {step}")
        return [found[spec.name] for spec in self._specs[0].variables]

    def is_state(self, step: int, lane: str, state: Sequence[np.ndarray]) -> bool:
        """Whether a state has the bits of a lane's before a step: of the snapshot, or of what the step before left."""
        known = self.state(step, lane)
        if known is not None:
            return all(tensor_checksum(a) == tensor_checksum(b) for a, b in zip(known, state, strict=True))
        if step - 1 not in self.reader.steps or self.follow not in ("free", lane):
            return False
        names = variable_names(self._specs[0])
        recorded = [self.reader.checksum(step - 1, lane, *name) for name in names]
        return recorded == [tensor_checksum(value) for value in state]

    def snapshot_before(self, step: int) -> int:
        """The last step not after this one of which the state was stored."""
        return max(number for number in self.reader.snapshots if number <= step)

    def draws(self, step: int, program: Program) -> dict[Port, np.ndarray]:
        """The random numbers that were kept because no state determines them, of the reference."""
        draws = {name: port for name, port in watched_tensors(program).items() if name[0] == DRAWS}
        return self._kept_at(draws, step, "reference")

    def tensor(self, step: int, lane: str, name: Name) -> np.ndarray | None:
        """A tensor of a step, None where it was not kept."""
        if (lane, *name) not in self.reader.kept_in(step):
            return None
        result = self.reader.tensor(step, lane, *name)
        if tensor_checksum(result) != self.reader.checksum(step, lane, *name):
            raise self._damage(f"{' '.join(name)} of step {step}")
        return result

    def _kept_at(self, ports: Mapping[Name, Port], step: int, lane: str) -> dict[Port, np.ndarray]:
        found = {port: self.tensor(step, lane, name) for name, port in ports.items()}
        return {port: value for port, value in found.items() if value is not None}

    def values(self, step: int, lane: str, program: Program) -> dict[Port, np.ndarray]:
        """The loss and the tensors of a step that were kept in full, by where the program computes them."""
        found = self._kept_at(watched_tensors(program), step, lane)
        if program.loss is None:
            return found
        loss = self.reader.losses[lane][self.reader.steps.index(step)]
        return {**found, program.loss: loss.astype(program.graph.dtype(program.loss).as_numpy_dtype)}

    def state_after(self, step: int, lane: str) -> list[np.ndarray | None]:
        """A lane's variables after a step, None where the trace does not say."""
        names, whole = variable_names(self._specs[0]), self.state(step + 1, lane)
        if whole is not None and self.follow in ("free", lane):
            return list(whole)
        return [self.tensor(step, lane, name) for name in names]

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
            model_description=f"the {STEP[self.mode]} recorded in {self.path.name}",
            data_description=f"the batches recorded in {self.path.name}",
            notes=(),
            longest=tuple(self._specs),
        )

    def close(self) -> None:
        self.reader.close()

    def __enter__(self) -> RecordedRun:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        if isinstance(error, (tf.errors.OpError, MemoryError)):
            raise UserError(
                f"The training step in {self.path} cannot be run here: {reason_of(error)}; expected a step that runs, "
                "and room for it"
            ) from error


def _checksums(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    return {name: tensor_checksum(array) for name, array in arrays.items()}


def _value_of(flag: str, command: Sequence[str]) -> str | None:
    """What a command line says after a flag, in either of the ways to write it."""
    for given, following in zip(command, [*command[1:], ""], strict=True):
        if given == flag:
            return following
        if given.startswith(f"{flag}="):
            return given.removeprefix(f"{flag}=")
    return None


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
