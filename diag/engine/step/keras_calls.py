"""The one adapter to what Keras and TensorFlow do not make public about tracing a step.

Private names used: `keras.layers.Layer.__call__` (replaced while a step is traced, to mark the
layer being called), `keras.Optimizer.update_step` (to mark the variable being updated),
`tensorflow.python.framework.function_def_to_graph` (to look into the bodies of loops) and
`tf.Graph._get_function` (to find the graphs these were made of).
tests/engine/test_canary.py fails when one of them changes its meaning.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework import function_def_to_graph

from diag.engine.graphs.graph import Graph, graph_of, port_of
from diag.engine.graphs.locations import layer_scope, update_scope
from diag.engine.step.scope_marks import marked


def body_graph(function_def: Any, outer: tf.Graph) -> Graph:
    """A function of a graph's library as a graph of its own."""
    with outer.as_default():  # of a copy, since TensorFlow fills in what it looks for and does not find
        return graph_of(function_def_to_graph.function_def_to_graph(copy.deepcopy(function_def)))


def graph_of_function(name: str, outer: Any) -> Any:
    """The graph that a function of a traced graph's library was made of."""
    return outer._get_function(name).graph


class LayerCalls:
    """What was called while a step was traced.

    A *unit* is the outermost layer that is no container: a model, or a layer of the user's own
    that holds other layers, is a container and is looked into; an RNN, a Bidirectional or an
    attention layer of Keras is one unit with all it holds.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.units: list[keras.layers.Layer] = []
        self.paths: list[tuple[str, ...]] = []
        self.outputs: list[tuple[int, list[Any]]] = []
        self._stack: list[keras.layers.Layer] = []

    def unit_of_stack(self) -> keras.layers.Layer:
        return next((layer for layer in self._stack if not is_container(layer)), self._stack[-1])

    def index_of(self, unit: keras.layers.Layer) -> int:
        for index, known in enumerate(self.units):
            if known is unit:
                return index
        self.units.append(unit)
        position = next(i for i, layer in enumerate(self._stack) if layer is unit)
        self.paths.append(tuple(layer.name for layer in self._stack[1 : position + 1]))
        return len(self.units) - 1

    @contextlib.contextmanager
    def entered(self, layer: keras.layers.Layer) -> Iterator[bool]:
        """Enter a layer; gives True where the layer is the unit itself."""
        self._stack.append(layer)
        try:
            unit = self.unit_of_stack()
            with marked(layer_scope(self.index_of(unit))):
                yield unit is layer
        finally:
            self._stack.pop()

    def labels(self) -> list[str]:
        """A name for each unit: the layer's own where that is unique, else its path."""
        names = [unit.name for unit in self.units]
        labels: list[str] = []
        for name, path in zip(names, self.paths, strict=True):
            label = name if names.count(name) == 1 else "/".join(path) or name
            while label in labels:
                label += "'"
            labels.append(label)
        return labels

    def record_output(self, layer: keras.layers.Layer, outputs: Any) -> None:
        self.outputs.append((self.index_of(layer), tf.nest.flatten(outputs)))


def is_container(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, keras.Model):
        return True
    if isinstance(layer, keras.layers.RNN) or type(layer).__module__.startswith("keras."):
        return False
    return len(list(layer._flatten_layers(include_self=False))) > 0


@contextlib.contextmanager
def marked_layers(calls: LayerCalls) -> Iterator[None]:
    """Every layer call inside is recorded in `calls` and runs under its unit's marker."""
    original = keras.layers.Layer.__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with calls.entered(self) as is_unit:
            outputs = original(self, *args, **kwargs)
            if is_unit:
                calls.record_output(self, outputs)
            return outputs

    keras.layers.Layer.__call__ = call
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = original


@contextlib.contextmanager
def marked_updates(optimizer: keras.Optimizer, variables: list[Any]) -> Iterator[None]:
    """Every variable's update inside runs under a marker with its index in `variables`."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    original: Callable[..., Any] = inner.update_step
    index_of = {id(variable.value): index for index, variable in enumerate(variables)}
    index_of.update({id(variable): index for index, variable in enumerate(variables)})

    def update_step(gradient: Any, variable: Any, learning_rate: Any) -> Any:
        index = index_of.get(id(variable))
        with marked(update_scope(index)) if index is not None else contextlib.nullcontext():
            return original(gradient, variable, learning_rate)

    inner.update_step = update_step
    try:
        yield
    finally:
        del inner.update_step


@contextlib.contextmanager
def keras_own_loops(model: keras.Model) -> Iterator[list[str]]:
    """Recurrent layers take Keras's own loop inside, not cuDNN's fused kernel; gives their names.

    Where TensorFlow sees a GPU, Keras would put a cuDNN op into the step, which no CPU can execute.
    """
    layers = [layer for layer in model._flatten_layers() if getattr(layer, "use_cudnn", False) == "auto"]
    for layer in layers:
        layer.use_cudnn = False
    try:
        yield [layer.name for layer in layers]
    finally:
        for layer in layers:
            layer.use_cudnn = "auto"


def symbolic_ports(tensors: list[Any], graph: tf.Graph) -> list[Any]:
    """Ports of those tensors that live in `graph` (a loop's body is a graph of its own)."""
    return [port_of(tensor) for tensor in tensors if tf.is_symbolic_tensor(tensor) and tensor.graph is graph]
