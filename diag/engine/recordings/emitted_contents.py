"""What of a person's own an emitted program holds: the batch, weights, what was computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diag.engine.graphs.graph import Node, Port
from diag.engine.step.program import Program
from diag.numerics.op_classes import ErrorClass, class_of

_SIZES_ALONE = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike", "VariableShape"})


@dataclass(frozen=True)
class Contents:
    """batch: what of the recorded batch stands in the file, by its names in the trace, as given or changed element by
    element.

    variables: those whose values do.  has_computed: whether what the step computed from them does.
    """

    batch: tuple[str, ...]
    variables: tuple[str, ...]
    has_computed: bool

    def in_words(self) -> str:
        """`data of the recorded batch (batch_0); values of dense/kernel`; "" where nothing of the person's is in it."""
        parts = []
        if self.batch:
            parts.append(f"data of the recorded batch ({', '.join(self.batch)})")
        if self.variables:
            parts.append(f"values of {', '.join(self.variables)}")
        if self.has_computed:
            parts.append("what the step computed from its batch")
        return "; ".join(parts)


def contents_of(ports: Iterable[Port], program: Program) -> Contents:
    """What a file says that holds the values of these ports."""
    finder = _Finder(program)
    for port in ports:
        finder.look_at(port)
    return finder.contents()


def inputs_of(node: Node, program: Program) -> Sequence[Port]:
    """What an op of a step reads; of one in a loop or branch all that those of its layer are given."""
    if program.graph.by_name.get(node.name) is node:
        return node.inputs
    callers = [n for n in program.graph if n.function_names() and n.location.layer == node.location.layer]
    return [port for caller in callers for port in caller.inputs]


class _Finder:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.batch: set[str] = set()
        self.variables: set[int] = set()
        self.has_computed = False

    def look_at(self, port: Port) -> None:
        """Back to the batch through whatever leaves its elements recognizable: anything but sums and products.

        A variable stands in what is read or cast from it, not in what it was added to.
        """
        waiting, seen = [(port, True)], {port}
        while waiting:
            at, is_alone = waiting.pop()
            node = self.program.graph.by_name[at.node]
            if node.name in self.program.batch_inputs:
                self.batch.add(node.name)
            elif node.name in self.program.captures:
                self.variables |= {self.program.captures[node.name]} if is_alone else set()
            elif class_of(node.op) is ErrorClass.CONTRACTION:
                self.has_computed = True
            elif node.op not in _SIZES_ALONE:
                waiting.extend((each, is_alone and len(node.inputs) == 1) for each in node.inputs if each not in seen)
                seen.update(node.inputs)

    def contents(self) -> Contents:
        return Contents(
            tuple(f"batch_{i}" for i, name in enumerate(self.program.batch_inputs) if name in self.batch),
            tuple(self.program.variables[index].name for index in sorted(self.variables)),
            self.has_computed,
        )
