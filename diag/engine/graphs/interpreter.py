"""Executing a graph op by op, loops and branches included.

The walker knows the order and the wiring; what a value is, and what computing one op means, is
the handler's affair: one lane's tensors, or those of several lanes side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from diag.engine.graphs.graph import FUNCTION_OPS, IF_OPS, WHILE_OPS, Graph, Node, Port

Value = TypeVar("Value")


class Handler(Protocol[Value]):
    def constant(self, node: Node) -> Value: ...

    def compute(self, node: Node, inputs: Sequence[Value]) -> list[Value]: ...

    def truth(self, value: Value) -> bool: ...


class Interpreter(Generic[Value]):
    """Executes graphs in their own order through a handler."""

    def __init__(self, functions: Mapping[str, Graph], handler: Handler[Value]) -> None:
        self.functions = functions
        self.handler = handler

    def run(self, graph: Graph, feeds: Mapping[str, Value], wanted: Iterable[Port]) -> dict[Port, Value]:
        """Execute every node; `feeds` are the values of placeholders.

        A value is dropped after its last reader, so memory holds what the step itself needs.
        """
        wanted = list(wanted)
        readers = Counter(port for node in graph for port in node.inputs)
        readers.update(wanted)
        values: dict[Port, Value] = {}
        for node in graph:
            outputs = self._outputs(node, values, feeds)
            for index, value in enumerate(outputs):
                if readers[Port(node.name, index)]:
                    values[Port(node.name, index)] = value
            for port in node.inputs:
                readers[port] -= 1
                if not readers[port]:
                    values.pop(port, None)
        return {port: values[port] for port in wanted}

    def _outputs(self, node: Node, values: dict[Port, Value], feeds: Mapping[str, Value]) -> list[Value]:
        if node.op == "Placeholder":
            return [feeds[node.name]]
        if node.op == "Const":
            return [self.handler.constant(node)]
        if node.op == "NoOp":
            return []
        inputs = [values[port] for port in node.inputs]
        if node.op in WHILE_OPS:
            return self._loop(node, inputs)
        if node.op in IF_OPS:
            branch = "then_branch" if self.handler.truth(inputs[0]) else "else_branch"
            return self._call(node.proto.attr[branch].func.name, inputs[1:])
        if node.op in FUNCTION_OPS:
            return self._call(node.proto.attr["f"].func.name, inputs)
        return self.handler.compute(node, inputs)

    def _call(self, name: str, inputs: Sequence[Value]) -> list[Value]:
        body = self.functions[name]
        found = self.run(body, dict(zip(body.inputs, inputs, strict=True)), body.outputs)
        return [found[port] for port in body.outputs]

    def _loop(self, node: Node, inputs: list[Value]) -> list[Value]:
        condition, body = node.proto.attr["cond"].func.name, node.proto.attr["body"].func.name
        values = inputs
        while self.handler.truth(self._call(condition, values)[0]):
            values = self._call(body, values)
        return values
