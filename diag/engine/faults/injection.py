"""Planting a fault in a compiled graph: after each op, a call to the fault's function.

The op stays and its readers read the fault's output instead, so the graph around it is the one
that was traced, gradient ops included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.faults.simulation import Simulation
from diag.engine.graphs.editing import Body, edit, make_node, rewired
from diag.engine.graphs.graph import ASSIGN_OPS, OPAQUE, READ_OPS, Graph, Node, parse_input
from diag.engine.graphs.pinning import is_pinned
from diag.engine.graphs.python_calls import python_call
from diag.engine.graphs.tf_runtime import readable_attributes

FAULT_SUFFIX = "/lockstep_fault"


class Injection:
    """Inserts calls to one simulation into graphs; keeps the Python functions alive."""

    def __init__(self, simulation: Simulation, graph: Graph, functions: dict[str, Graph], execution: str) -> None:
        self.simulation = simulation
        self.graph = graph
        self.functions = functions
        self.execution = execution
        self._alive: list[object] = []

    def apply(self, graph_def: Any) -> Any:
        return edit(graph_def, self._change)

    def _change(self, body: Body, function_name: str | None) -> Body:
        known = self.graph if function_name is None else self.functions.get(function_name)
        if known is None:
            return body
        replaced: dict[str, str] = {}
        added: list[Any] = []
        shaped: list[Any] = []
        for proto in list(body.nodes):
            node = known.by_name.get(proto.name)
            if node is None or node.op != proto.op or node.location.index is None:
                continue
            if is_pinned(proto) or not self.simulation.touches(node.op):
                continue
            if node.op in ASSIGN_OPS:
                self._replace_assign(body, proto, node, known, added)
            elif node.dtypes and not any(dtype in OPAQUE for dtype in node.dtypes):
                added.append(self._fault_after(proto, node, known))
                shaped += self._shaped(node, added[-1].name)
                replaced.update(
                    (f"{node.name}:{i}", f"{each.name}:0") for i, each in enumerate(shaped[-len(node.dtypes) :])
                )
        own = {node.name for node in added}
        body = rewired(body, replaced, keep=lambda name: name in own)
        # A fault reads its own op's outputs untouched, but its op's inputs as the faults before left them.
        for fault in added:
            inputs = [self._upstream(text, fault.name, replaced) for text in fault.input]
            del fault.input[:]
            fault.input.extend(inputs)
        body.nodes.extend([*added, *shaped, *self._kept_apart(body, added)])
        return body

    @staticmethod
    def _shaped(node: Node, fault: str) -> list[Any]:
        """A fault's outputs with the shapes of the op's, which a call to Python does not know.

        oneDNN's layout pass ends the process where a convolution reads a tensor of unknown rank (processors with AMX).
        """
        made = []
        for index, (dtype, shape) in enumerate(zip(node.dtypes, node.shapes, strict=True)):
            made.append(make_node(f"{fault}/shape{index}", "EnsureShape", [f"{fault}:{index}"], T=dtype))
            made[-1].attr["shape"].shape.CopyFrom(shape.as_proto())
        return made

    @staticmethod
    def _kept_apart(body: Body, added: list[Any]) -> list[Any]:
        """BiasAddGrad reads a copy of its own, where it could be merged across calls to the fault.

        oneDNN's layout pass merges it with the Conv2DBackpropFilter that reads the same gradient (Linux,
        x86).  Calls to Python run one after the other; one that stands between the two, joined to both
        by order alone, would then wait for itself.
        """
        copies = []
        for node in body.nodes if added else ():
            if node.op == "BiasAddGrad":
                dtype = tf.dtypes.as_dtype(node.attr["T"].type)
                copies.append(make_node(f"{node.name}/lockstep_copy", "Snapshot", [node.input[0]], T=dtype))
                node.input[0] = f"{copies[-1].name}:0"
        return copies

    @staticmethod
    def _upstream(text: str, fault: str, replaced: dict[str, str]) -> str:
        source, index = parse_input(text)
        if index is None or f"{source}{FAULT_SUFFIX}" == fault:
            return text
        return replaced.get(f"{source}:{index}", text)

    def _fault_after(self, proto: Any, node: Node, known: Graph) -> Any:
        data = [text for text in proto.input if not text.startswith("^")]
        visible = [(t, known.dtype(p)) for t, p in zip(data, node.inputs, strict=True) if known.dtype(p) not in OPAQUE]
        outputs = [(f"{node.name}:{i}", dtype) for i, dtype in enumerate(node.dtypes)]
        if node.op in READ_OPS:
            visible = outputs  # as eagerly: the input of a read is the variable's value
        return self._call(node, node.name + FAULT_SUFFIX, visible, outputs, list(node.dtypes))

    def _replace_assign(self, body: Body, proto: Any, node: Node, known: Graph, added: list[Any]) -> None:
        """Read before, assign, read after, ask the fault, assign what it says.

        The last assignment takes the op's name, so that what had to wait for the op waits for it.
        """
        data = [text for text in proto.input if not text.startswith("^")]
        control = [text for text in proto.input if text.startswith("^")]
        handle, value = data[0], data[1]
        dtype = tf.dtypes.as_dtype(proto.attr["dtype"].type)
        name = node.name
        before, done, after, fault = (f"{name}/lockstep_{part}" for part in ("before", "op", "after", "fault"))
        assign = type(proto)()
        assign.CopyFrom(proto)
        assign.name = done
        del assign.input[:]
        assign.input.extend([handle, value, *control, f"^{before}"])
        last = make_node(name, "AssignVariableOp", [handle, f"{fault}:0"], dtype=dtype)
        body.nodes[body.nodes.index(proto)] = last
        body.nodes.extend(
            [
                make_node(before, "ReadVariableOp", [handle, *control], dtype=dtype),
                assign,
                make_node(after, "ReadVariableOp", [handle, f"^{done}"], dtype=dtype),
                self._call(node, fault, [(f"{before}:0", dtype), (value, dtype)], [(f"{after}:0", dtype)], [dtype]),
            ]
        )

    def _call(
        self, node: Node, name: str, inputs: list[tuple[str, Any]], outputs: list[tuple[str, Any]], results: list[Any]
    ) -> Any:
        """A node that calls the fault with inputs and outputs; each is (input text, dtype)."""
        attrs, num_inputs = readable_attributes(node.proto), len(inputs)

        def apply(*arrays) -> list[np.ndarray]:
            return self.simulation.apply(
                node.op, node.location, attrs, arrays[:num_inputs], arrays[num_inputs:], self.execution
            )

        call, kept = python_call(name, apply, [*inputs, *outputs], results)
        self._alive.append(kept)
        return call
