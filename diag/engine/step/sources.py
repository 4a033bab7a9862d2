"""Which line of a person's own made each op of a traced step.

| op | its line |
|---|---|
| made from a line of the person's own while the step was traced | that, the innermost |
| of a layer that Keras runs by itself (Functional, Sequential) | where the layer was called, or else made |
| of the backward pass | that of the forward op it is the gradient of, or else of its layer |
| of Keras's own loss or optimizer | none |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from diag.common.source_lines import SourceLine, is_their_own, source_line
from diag.engine.graphs.graph import Graph, Node
from diag.engine.graphs.locations import BACKWARD, OPTIMIZER

GRADIENT_SCOPE = "gradient_tape/"
"""TensorFlow runs the gradient of an op in its scope, within this one (eager/backprop.py)."""
_Lines = Mapping[str, SourceLine]


def lines_of_step(
    graphs: Sequence[tuple[Graph, Any]], layer_lines: Mapping[str, SourceLine], begins_at: tuple[str, str]
) -> dict[int, SourceLine]:
    """The line of each op, by index, as far as one is known.

    graphs: of the step and of each function, with the FuncGraph that it was made of, None where that is gone.
    layer_lines: of layers, by label.  begins_at: file and function of the frame within which the step was traced.
    """
    found: dict[int, SourceLine] = {}
    for graph, traced in graphs:
        own = {} if traced is None else _own_lines(traced.get_operations(), begins_at)
        forward = [
            node for node in graph if node.location.phase != BACKWARD and not node.name.startswith(GRADIENT_SCOPE)
        ]
        line_of = {node.name: line for node in forward if (line := _of_forward(node, own, layer_lines))}
        gradients = _Gradients(forward, line_of)
        for node in graph:
            index, line = node.location.index, line_of.get(node.name)
            if node.location.phase == BACKWARD:
                line = gradients.line_of(node) or layer_lines.get(node.location.layer or "") or own.get(node.name)
            if index is not None and line is not None:
                found[index] = line
    return found


def _own_lines(operations: Iterable[Any], begins_at: tuple[str, str]) -> dict[str, SourceLine]:
    """By name; TensorFlow keeps no traceback of what it makes itself of other ops."""
    found = {each.name: each.traceback.get_user_frames() for each in operations if each.traceback is not None}
    lines = {name: _innermost(frames, begins_at) for name, frames in found.items()}
    return {name: line for name, line in lines.items() if line is not None}


def _innermost(frames: Sequence[Any], begins_at: tuple[str, str]) -> SourceLine | None:
    for frame in reversed(frames):
        if (frame.filename, frame.name) == begins_at:
            return None
        if is_their_own(frame.filename):
            return source_line(frame.filename, frame.lineno, frame.name)
    return None


def _of_forward(node: Node, own: _Lines, layer_lines: _Lines) -> SourceLine | None:
    """An update belongs to a variable's layer, and yet that layer's line did not make it."""
    location = node.location
    return own.get(node.name) or (None if location.phase == OPTIMIZER else layer_lines.get(location.layer or ""))


class _Gradients:
    """The forward ops that gradients are of, by the names of scopes."""

    def __init__(self, forward: Sequence[Node], line_of: _Lines) -> None:
        self.line_of_forward = line_of
        self.in_scope: dict[str, list[Node]] = {}
        for node in forward:
            self.in_scope.setdefault(node.name.rpartition("/")[0], []).append(node)

    def line_of(self, node: Node) -> SourceLine | None:
        """An op has the scope's name, or the only one in it whose gradient this is; or all in it have one line."""
        if not node.name.startswith(GRADIENT_SCOPE):
            return None
        scope = node.name[len(GRADIENT_SCOPE) :].rpartition("/")[0]
        if scope in self.line_of_forward:
            return self.line_of_forward[scope]
        inside = self.in_scope.get(scope, [])
        named = [each for each in inside if node.op.startswith(each.op)]  # ReluGrad is of Relu
        lines = {self.line_of_forward.get(each.name) for each in named or inside}
        return lines.pop() if len(lines) == 1 else None
