"""The part of a step that works on texts, cut off: what it makes of a batch is computed once, on the CPU, and given.

Texts and lookup tables stay on the CPU, XLA compiles neither, and no trace can keep a table.  Nothing of it is rounded
arithmetic that two devices could do differently; layers that hold some of it are taken as a whole, as far as they need
the batch alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import tensorflow as tf

from diag.engine.graphs.graph import ASSIGN_OPS, Graph, Node, Port
from diag.engine.graphs.reachability import ancestors, called_functions, live_nodes
from diag.engine.graphs.runtime_functions import Argument, Definition, RuntimeFunction
from diag.engine.graphs.subgraph import subgraph
from diag.engine.graphs.tf_runtime import register_function, to_numpy
from diag.engine.step.program import Program
from diag.engine.step.watching import with_watched_tensors
from diag.errors import UserError
from diag.numerics.op_classes import is_random

_SOURCES = ("Const", "Placeholder")


@dataclass(frozen=True)
class TextPart:
    """What of a step works on texts.

    nodes: their names.  ports: what the rest of the step reads of it.  layers: whose nodes they are.
    """

    whole: Program
    nodes: frozenset[str]
    ports: tuple[Port, ...]
    layers: tuple[str, ...]

    def given(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the rest is given: the arrays of the batch that are no texts, then what the texts came to."""
        feeds = [tf.constant(value) for value in batch]
        kept = [value for value, feed in zip(batch, feeds, strict=True) if feed.dtype != tf.string]
        return [*kept, *map(to_numpy, self._function([*feeds, *self.whole.constants.values()]))]

    @cached_property
    def _function(self) -> RuntimeFunction:
        program, graph = self.whole, self.whole.graph
        names = [*program.batch_inputs, *program.constants]
        arguments = [Argument(name, graph.dtype(Port(name, 0))) for name in names]
        needed = ancestors(graph, self.nodes)
        nodes = [node for node in graph if node.name in needed]
        called = called_functions(nodes, program.functions)
        for function in program.graph_def.library.function:
            if function.signature.name in called:
                register_function(function)
        protos = [node.proto for node in nodes]
        return RuntimeFunction(Definition(protos, arguments, list(map(str, self.ports)), "/device:CPU:0", False))

    @property
    def has_shapes(self) -> bool:
        """Whether the trace knows the shapes of what the rest is given."""
        return all(self.whole.graph.shape(port).is_fully_defined() for port in self.ports)

    def shapes_if_unknown(self, given: Sequence[np.ndarray]) -> dict[Port, tuple[int, ...]]:
        """The shapes of what the rest is given, where the trace does not know all of them."""
        if self.has_shapes:
            return {}
        values = given[len(given) - len(self.ports) :]
        return {port: value.shape for port, value in zip(self.ports, values, strict=True)}

    @cached_property
    def rest(self) -> Program:
        """The step without it."""
        program, graph = self.whole, self.whole.graph
        names = {port: f"lockstep_text/{index}" for index, port in enumerate(self.ports)}
        nodes = self._left()
        cut, graph_def = subgraph(nodes, names, graph, program.functions, program.graph_def)
        batch = [name for name in program.batch_inputs if graph.dtype(Port(name, 0)) != tf.string]
        inputs = (*batch, *names.values())
        captured = [n.name for n in nodes if n.name in graph.inputs and n.name not in program.batch_inputs]
        cut = Graph(cut.nodes, (*inputs, *captured), graph.outputs)
        kept = {node.name for node in cut}
        results = tuple(port for port in program.results if port.node in kept)
        if not results:
            raise UserError(
                f"{', '.join(self.layers)}: all that the step gives is made of texts, with nothing to judge"
            )
        return with_watched_tensors(
            replace(
                program,
                graph=cut,
                functions={name: program.functions[name] for name in called_functions(nodes, program.functions)},
                graph_def=graph_def,
                batch_inputs=inputs,
                results=results,
                constants={name: value for name, value in program.constants.items() if name in kept},
                layer_outputs={
                    layer: ports
                    for layer, ports in program.layer_outputs.items()
                    if all(port.node in kept for port in ports)
                },
            )
        )

    def _left(self) -> list[Node]:
        """The nodes of the rest; of what it does not read, no constants and texts."""
        program, graph = self.whole, self.whole.graph
        nodes = [node for node in graph if node.name not in self.nodes]
        read = {port.node for node in nodes for port in node.inputs} | {port.node for port in graph.outputs}
        dropped = {*program.constants, *(node.name for node in graph if node.op == "Const")}
        dropped.update(name for name in program.batch_inputs if graph.dtype(Port(name, 0)) == tf.string)
        return [node for node in nodes if node.name in read or node.name not in dropped]


def without_made_texts(program: Program) -> Program:
    """The step without what makes texts of its results, such as names of classes; itself where nothing does."""
    graph = program.graph
    returned = tuple(port for port in graph.outputs if graph.dtype(port) != tf.string)
    if returned == graph.outputs:
        return program
    kept = {*live_nodes(graph, program.results), *program.batch_inputs, *program.captures}
    kept.update(port.node for port in returned)
    nodes = [node for node in graph if node.name in kept]
    cut, graph_def = subgraph(nodes, {}, graph, program.functions, program.graph_def)
    return replace(
        program,
        graph=Graph(cut.nodes, tuple(name for name in graph.inputs if name in kept), returned),
        functions={name: program.functions[name] for name in called_functions(nodes, program.functions)},
        graph_def=graph_def,
        constants={name: value for name, value in program.constants.items() if name in kept},
    )


def text_part(program: Program) -> TextPart | None:
    """What of a step works on texts, None where nothing does.

    Raises:
        UserError: some of it needs more than the batch, so that nobody can do it beforehand.
    """
    alone = _of_batch_alone(program)
    nodes = [node for node in program.graph if node.name in alone and node.op not in _SOURCES]
    tables = {name for name, value in program.constants.items() if value.dtype == tf.resource}
    texts = [node for node in nodes if _is_text(node, program.graph, tables, program.functions)]
    _refuse_mixed(program, {node.name for node in texts})
    if not texts:
        return None
    layers = tuple(dict.fromkeys(node.location.layer for node in texts if node.location.layer))
    names = frozenset({*(node.name for node in texts), *(node.name for node in nodes if node.location.layer in layers)})
    read = [port for node in program.graph if node.name not in names for port in node.inputs]
    ports = tuple(dict.fromkeys(port for port in (*read, *program.graph.outputs) if port.node in names))
    return TextPart(program, names, ports, layers)


def _refuse_mixed(program: Program, texts: Collection[str]) -> None:
    graph = program.graph
    given = {*texts, *(name for name in program.batch_inputs if graph.dtype(Port(name, 0)) == tf.string)}
    for node in graph:
        if node.name not in texts and any(p.node in given and graph.dtype(p) == tf.string for p in node.inputs):
            raise UserError(
                f"{node.location.layer or program.layers[0]} computes on texts and on weights together ({node.op}); "
                "expected texts that are looked up first, with nothing but the batch"
            )


def _of_batch_alone(program: Program) -> set[str]:
    """Nodes that compute, of the batch and of constants, what is the same each time."""
    found: set[str] = {*program.batch_inputs, *program.constants}
    for node in program.graph:
        if node.op == "Const" or (node.op != "Placeholder" and _repeats_itself(node, program)):
            before = (*(port.node for port in node.inputs), *node.control)
            if all(name in found for name in before):
                found.add(node.name)
    return found


def _repeats_itself(node: Node, program: Program) -> bool:
    bodies = [program.functions[name] for name in called_functions([node], program.functions)]
    return not any(
        is_random(each.op) or each.op in ASSIGN_OPS for each in (node, *(n for body in bodies for n in body))
    )


def _is_text(node: Node, graph: Graph, tables: Collection[str], functions: dict[str, Graph]) -> bool:
    """Whether a node gives texts, or reads some that are no constants, or a table; or what it calls does."""
    if tf.string in node.dtypes:
        return True
    for port in node.inputs:
        source = graph.by_name[port.node]
        if source.name in tables or (source.dtypes[port.index] == tf.string and source.op != "Const"):
            return True
    bodies = [functions[name] for name in called_functions([node], functions)]
    return any(tf.string in each.dtypes and each.op != "Const" for body in bodies for each in body)
