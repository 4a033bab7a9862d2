"""Whether two traced steps compute the same, but for the values of their variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import tensorflow as tf

from diag.common.wording import one_line, shortened
from diag.engine.graphs.graph import OPAQUE, Graph, Node
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.step.program import Program

MOST_CHARACTERS = 60  # of a value in a sentence


@dataclass(frozen=True)
class StepDifference:
    """The first nodes that are not alike, None where a step has ended; what: their difference, in words."""

    first: Node | None
    second: Node | None
    what: str


def first_difference(a: Program, b: Program) -> StepDifference | None:
    """Node by node in the order of creation; what things are called plays no part."""
    return next(_differences(a, b, a.graph, b.graph), None) or next(_of_constants(a, b), None)


def paired_variables(a: Program, b: Program) -> dict[int, int]:
    """For each variable that step `a` reads its counterpart in `b`, by index; of steps that compute the same."""
    inputs = zip(a.graph.inputs, b.graph.inputs, strict=True)
    return {a.captures[x]: b.captures[y] for x, y in inputs if x in a.captures and y in b.captures}


def in_few_words(value: object) -> str:
    """One that is told in a sentence beside another."""
    return shortened(one_line(value), MOST_CHARACTERS)


def _differences(a: Program, b: Program, first: Graph, second: Graph) -> Iterator[StepDifference]:
    positions = [{node.name: i for i, node in enumerate(graph)} for graph in (first, second)]
    for x, y in zip_longest(first, second):
        if x is None or y is None:
            yield StepDifference(x, y, "the other has no more ops")
            return
        if x.op != y.op:
            yield StepDifference(x, y, f"{x.op} and {y.op}")
        elif what := _unlike(x, y, positions):
            yield StepDifference(x, y, what)
        for of_x, of_y in zip(x.function_names(), y.function_names(), strict=True):
            if of_x in a.functions and of_y in b.functions:
                yield from _differences(a, b, a.functions[of_x], b.functions[of_y])


def _unlike(x: Node, y: Node, positions: list[dict[str, int]]) -> str:
    """What two nodes of one op type do otherwise; "" where nothing."""
    if (x.dtypes, x.shapes) != (y.dtypes, y.shapes):
        return f"{x.op} gives {_outputs(x)} and {_outputs(y)}"
    read = [[(at[port.node], port.index) for port in node.inputs] for node, at in zip((x, y), positions, strict=True)]
    if read[0] != read[1]:
        return f"{x.op} reads other tensors"
    attributes = [_attributes(node) for node in (x, y)]
    for name in sorted(attributes[0].keys() | attributes[1].keys()):
        values = [each.get(name) for each in attributes]
        if values[0] != values[1]:
            return f"{name} of {x.op} is {_value(x, name)} and {_value(y, name)}"
    return ""


def _attributes(node: Node) -> Mapping[str, bytes]:
    """As bytes, but for names: of functions, of arguments (those with an underscore are TensorFlow's notes)."""
    attributes = {} if node.proto is None else node.proto.attr
    return {
        name: value.SerializeToString(deterministic=True)
        for name, value in attributes.items()
        if not (name.startswith("_") or value.func.name or value.list.func or name in ("shared_name", "container"))
    }


def _value(node: Node, name: str) -> str:
    attribute = node.proto.attr[name]
    value = tf.make_ndarray(attribute.tensor) if attribute.HasField("tensor") else attribute
    return in_few_words(value) or "not given"


def _outputs(node: Node) -> str:
    return ", ".join(f"{t.name} {shape}" for t, shape in zip(node.dtypes, node.shapes, strict=True)) or "nothing"


def _of_constants(a: Program, b: Program) -> Iterator[StepDifference]:
    """Tensors that are captured by value, as of a Normalization that was adapted."""
    for x, y in zip(a.graph.inputs, b.graph.inputs, strict=True):
        p, q = a.constants.get(x), b.constants.get(y)
        if p is None or q is None or p.dtype in OPAQUE:
            continue
        if not np.array_equal(to_numpy(p), to_numpy(q), equal_nan=p.dtype.is_floating):
            yield StepDifference(_reader(a, x), _reader(b, y), "a constant that it reads has other values")


def _reader(program: Program, name: str) -> Node:
    """The first node that reads what is captured under a name."""
    readers = (node for node in program.graph if any(port.node == name for port in node.inputs))
    return next(readers, program.graph.by_name[name])
