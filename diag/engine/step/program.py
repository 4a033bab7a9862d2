"""One step, traced once: the program that every lane executes.

A training step is a `tf.GradientTape` loop's body: forward, loss, gradients, optimizer; a prediction step is what
`predict` computes.  It is traced with the shapes of a batch, and from then on it is data: the telescope compiles it
whole or unit by unit, the microscope executes it op by op, the truth lane executes it in float64.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from diag.common.modes import PREDICT, TRAIN
from diag.common.source_lines import SourceLine
from diag.engine.graphs.editing import body_of_graph, graph_of_body, make_node, rewired
from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import Graph, Node, Port
from diag.engine.graphs.tf_runtime import to_numpy
from diag.numerics.op_classes import is_random


@dataclass(frozen=True)
class VariableSpec:
    """One variable of the training state.

    `kind` is weight (trained), state (of a layer, not trained: moving averages, random seeds),
    the name of an optimizer slot (momentum, velocity, ...) or optimizer (iterations and the
    like).  `of` is the weight that a slot belongs to.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    layer: str | None
    of: str | None = None


@dataclass(frozen=True)
class WatchedTensors:
    """What is watched of a compiled step, and what is not, with the reason.

    Random draws are watched whatever reads them: both lanes must be given the same ones.
    """

    ports: tuple[Port, ...]
    refused: Mapping[Port, str]


@dataclass(frozen=True)
class Program:
    """One traced step as data: its graph, and what is known of its nodes and variables.

    `graph.inputs` are the flat batch followed by the captures; `captures` maps a placeholder to
    the index of its variable, `constants` to a tensor captured by value.  `results` are what every run of the step
    fetches: its loss; in prediction all that `predict` gives, and there are no gradients then.  `lines`
    are those of the person's own that made ops, by index, as far as they are known; out of bytes come none.
    """

    graph: Graph
    functions: dict[str, Graph]
    graph_def: Any
    batch_inputs: tuple[str, ...]
    captures: dict[str, int]
    constants: dict[str, Any]
    variables: tuple[VariableSpec, ...]
    keras_variables: tuple[Any, ...]
    layers: tuple[str, ...]
    results: tuple[Port, ...]
    layer_outputs: dict[str, tuple[Port, ...]]
    gradients: dict[str, Port]
    without_gradient: tuple[str, ...]
    mode: str = TRAIN
    watched: WatchedTensors = WatchedTensors((), {})
    lines: Mapping[int, SourceLine] = field(default_factory=dict)

    @property
    def loss(self) -> Port | None:
        """None where nothing is trained."""
        return self.results[0] if self.mode == TRAIN else None

    @property
    def predictions(self) -> tuple[Port, ...]:
        """Empty where a model is trained."""
        return self.results if self.mode == PREDICT else ()

    def figure(self, values: Mapping[Port, Any]) -> float:
        """The number that stands for a step (`diag.common.modes.FIGURE`), from the values of its results."""
        arrays = [to_numpy(values[port]) for port in self.results]
        return float(arrays[0]) if self.mode == TRAIN else mean_of(arrays)

    @property
    def ops(self) -> list[Node]:
        """The op units of the step, loop bodies included, by index."""
        graphs = [self.graph, *self.functions.values()]
        nodes = [node for graph in graphs for node in graph if node.location.index is not None]
        return sorted(nodes, key=lambda node: node.location.index or 0)

    def step(self, fetches: Sequence[Port], shared: Sequence[Port] = ()) -> Executable:
        """The whole step, to be built for a place; every variable is updated in place.

        `shared` ports are not computed but fed, after the batch: a lane takes them from another.
        """
        fed = {str(port): f"lockstep_shared/{index}" for index, port in enumerate(shared)}
        graph, graph_def = self.graph, self.graph_def
        if shared:
            body = rewired(body_of_graph(graph_def), {k: f"{v}:0" for k, v in fed.items()}, keep=lambda _: False)
            body.nodes.extend(make_node(fed[str(p)], "Placeholder", [], dtype=graph.dtype(p)) for p in shared)
            graph_def = graph_of_body(body, graph_def.library.function, graph_def.versions)
            graph = graph.reading({port: Port(fed[str(port)], 0) for port in shared})
        feeds = (*self.batch_inputs, *fed.values())
        return Executable(graph, self.functions, graph_def, feeds, self.captures, self.constants, tuple(fetches))

    @cached_property
    def batch_signature(self) -> list[tuple[tuple[int, ...], str]]:
        """Shape and dtype of each array of the batch that this was traced for."""
        ports = [Port(name, 0) for name in self.batch_inputs]
        return [(tuple(self.graph.shape(port).as_list()), self.graph.dtype(port).name) for port in ports]

    @cached_property
    def random_ports(self) -> tuple[Port, ...]:
        """What the step's random ops draw, outside loops."""
        return tuple(Port(node.name, 0) for node in self.graph if is_random(node.op))

    @cached_property
    def losses(self) -> tuple[Port, ...]:
        """All that is differentiated by weights, `loss` first: what `layer_outputs` names besides layers."""
        if self.loss is None:
            return ()
        others = (port for name, ports in self.layer_outputs.items() if name not in self.layers for port in ports)
        return tuple(dict.fromkeys((self.loss, *others)))

    @cached_property
    def weight_of(self) -> dict[Port, str]:
        """The variable that a gradient is of, by the gradient's port."""
        return {port: name for name, port in reversed(self.gradients.items())}

    @cached_property
    def layers_of(self) -> dict[Port, list[str]]:
        """The layers that hand on a port, the first called first."""
        found: dict[Port, list[str]] = defaultdict(list)
        for layer, ports in self.layer_outputs.items():
            for port in dict.fromkeys(ports):
                found[port].append(layer)
        return dict(found)

    def initial_state(self) -> list[tf.Tensor]:
        return [tf.identity(variable.value) for variable in self.keras_variables]


def mean_of(arrays: Sequence[np.ndarray]) -> float:
    """Of all elements of some arrays together, summed in float64; NaN of none."""
    count = sum(array.size for array in arrays)
    with np.errstate(invalid="ignore", over="ignore"):
        return sum(float(np.sum(array, dtype=np.float64)) for array in arrays) / count if count else float("nan")


@dataclass(frozen=True)
class RawVariable:
    """A tf.Variable that no Keras object lists, as Keras would show it."""

    path: str
    value: tf.Variable

    @property
    def dtype(self) -> str:
        return self.value.dtype.name  # type: ignore[no-any-return]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape.as_list())
