"""Batches of texts as the step is given them: with what the layers that work on texts make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diag.engine.step.batch import Batch
from diag.engine.step.program import Program
from diag.engine.step.texts import TextPart, text_part
from diag.engine.step.tracing import BatchKey, Programs, flat_batch, key_of


def without_texts(programs: Programs, batches: Any) -> tuple[Callable[[Batch], Program], Any, tuple[str, ...]]:
    """Programs and batches without what works on texts, and what to say of it; themselves where nothing does."""
    given = GivenTexts(programs, batches)
    part = given.part_of(batches[0])
    if part is None:
        return programs, batches, ()
    note = (
        f"{', '.join(part.layers) or 'the step'}: works on texts or looks them up, which is done once, on the CPU, "
        "and what comes of it given to both places; the rest of the step is judged"
    )
    return given.program, given, (note,)


class GivenTexts:
    """`batches[k]` without texts, and by `program` the step from there on."""

    def __init__(self, programs: Programs, batches: Any) -> None:
        self.programs, self.batches = programs, batches
        self._parts: dict[int, TextPart | None] = {}  # of each whole program, which `programs` keeps
        self._rests: dict[BatchKey, Program] = {}

    def __getitem__(self, step: int) -> Batch:
        batch = self.batches[step]
        part = self.part_of(batch)
        if part is None:
            return batch  # type: ignore[no-any-return]
        arrays = part.given(flat_batch(batch))
        if key_of(arrays) not in self._rests:
            if shapes := part.shapes_if_unknown(arrays):
                part = text_part(self.programs.traced(batch, shapes))
            assert part is not None
            self._rests[key_of(arrays)] = part.rest
        return Batch(inputs=arrays, targets=())

    def all_programs(self, steps: int) -> tuple[Program, ...]:
        """The step for every batch of the first steps, each once; none where the first is for all of them."""
        part = self.part_of(self.batches[0])
        if part is None or part.has_shapes:
            return ()
        found = {id(each): each for each in (self.program(self[step]) for step in range(steps))}
        return tuple(found.values())

    def part_of(self, batch: Batch) -> TextPart | None:
        """What of the step of a batch works on texts."""
        program = self.programs(batch)
        if id(program) not in self._parts:
            self._parts[id(program)] = text_part(program)
        return self._parts[id(program)]

    def program(self, batch: Batch) -> Program:
        """The step for a batch that this gave."""
        known = self._rests.get(key_of(flat_batch(batch)))
        return self.programs(batch) if known is None else known
