"""The one adapter to what Keras and TensorFlow do not make public about tracing a step.

Private names used: `keras.layers.Layer.__call__` (replaced while a step is traced, to mark the
layer being called), `keras.Optimizer.apply` and `update_step` (to mark the optimizer and the variable being updated),
`tensorflow.python.framework.function_def_to_graph` (to look into the bodies of loops) and
`tf.Graph._get_function` (to find the graphs these were made of).
tests/engine/test_canary.py fails when one of them changes its meaning.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework import function_def_to_graph

from diag.engine.graphs.graph import Graph, graph_of, port_of
from diag.engine.graphs.locations import layer_scope, optimizer_scope, update_scope
from diag.engine.step.scope_marks import marked


def body_graph(function_def: Any, outer: tf.Graph) -> Graph:
    """A function of a graph's library as a graph of its own."""
    with outer.as_default():  # of a copy, since TensorFlow fills in what it looks for and does not find
        return graph_of(function_def_to_graph.function_def_to_graph(copy.deepcopy(function_def)))


def graph_of_function(name: str, outer: Any) -> Any:
    """The graph that a function of a traced graph's library was made of; None of one made before TensorFlow 2's."""
    return getattr(outer._get_function(name), "graph", None)


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
        self.forget()

    def forget(self) -> None:
        """Nothing was called yet; indices stay, since a `tf.function` that is not traced again keeps its marks."""
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
        path = [layer.name for layer in self._stack[: position + 1] if layer is not self.model]
        self.paths.append(tuple(path))
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


@dataclass(frozen=True)
class GradientCall:
    """One call of `GradientTape.gradient`: what was differentiated, by which variables, and what came of it."""

    targets: list[Any]
    variables: list[Any]  # None where it was by a tensor
    gradients: list[Any]


class TrainingCalls:
    """What of gradients and optimizers was called while a step was traced.

    updated: the variables whose update is marked, by the mark's index.  of_optimizer: by variable, the index in
    `optimizers` of the one that updates it.
    """

    def __init__(self) -> None:
        self.optimizers: list[keras.Optimizer] = []
        self.updated: list[Any] = []
        self.of_optimizer: dict[int, int] = {}
        self.forget()

    def forget(self) -> None:
        """Nothing was called yet; indices stay, as those of `LayerCalls` do."""
        self.gradients: list[GradientCall] = []
        self._unscaled: list[tuple[Any, Any]] = []
        self._current: int | None = None

    def before_scaling(self, target: Any) -> Any:
        """A loss as it was before an optimizer scaled it."""
        return next((loss for scaled, loss in self._unscaled if scaled is target), target)

    def saw_scaled(self, loss: Any, scaled: Any) -> None:
        self._unscaled.append((scaled, self.before_scaling(loss)))

    def saw_gradient(self, target: Any, sources: Any, results: Any) -> None:
        targets = [self.before_scaling(each) for each in tf.nest.flatten(target)]
        variables = [_raw(source) for source in tf.nest.flatten(sources)]
        self.gradients.append(GradientCall(targets, variables, tf.nest.flatten(results)))

    @contextlib.contextmanager
    def applying(self, optimizer: keras.Optimizer) -> Iterator[None]:
        """What one optimizer does inside is marked; one inside another is part of it."""
        if self._current is not None:
            yield
            return
        self._current = _place(optimizer, self.optimizers)
        try:
            with tf.name_scope(optimizer_scope(self._current)):
                yield
        finally:
            self._current = None

    def updating(self, variable: Any) -> contextlib.AbstractContextManager[None]:
        """The update of one variable inside is marked."""
        raw = _raw(variable)
        if raw is None:
            return contextlib.nullcontext()
        index = _place(raw, self.updated)
        if self._current is not None:
            self.of_optimizer[index] = self._current
        return marked(update_scope(index))


def _raw(variable: Any) -> Any:
    """The TensorFlow variable of a Keras one; None for what is no variable."""
    if isinstance(variable, keras.Variable):
        return variable.value
    return variable if isinstance(variable, tf.Variable) else None


def _place(wanted: Any, known: list[Any]) -> int:
    """The index of an object, which is added if it is not known."""
    for index, each in enumerate(known):
        if each is wanted:
            return index
    known.append(wanted)
    return len(known) - 1


@contextlib.contextmanager
def watched_training(calls: TrainingCalls) -> Iterator[None]:
    """Gradients that are taken and optimizers that are applied inside are recorded in `calls`, and marked."""

    def gradient(original: Any, tape: tf.GradientTape, target: Any, sources: Any, *rest: Any, **others: Any) -> Any:
        with tf.name_scope(""):  # sums of gradients are joined to what made them, wherever they are taken
            results = original(tape, target, sources, *rest, **others)
        calls.saw_gradient(target, sources, results)
        return results

    def apply(original: Any, optimizer: keras.Optimizer, *arguments: Any, **others: Any) -> Any:
        own_step = optimizer.update_step

        def update_step(gradient: Any, variable: Any, learning_rate: Any) -> Any:
            with calls.updating(variable):
                return own_step(gradient, variable, learning_rate)

        with calls.applying(optimizer):
            optimizer.update_step = update_step
            try:
                return original(optimizer, *arguments, **others)
            finally:
                del optimizer.update_step

    def scale_loss(original: Any, optimizer: keras.Optimizer, loss: Any) -> Any:
        scaled = original(optimizer, loss)
        calls.saw_scaled(loss, scaled)
        return scaled

    with contextlib.ExitStack() as stack:
        stack.enter_context(_around(tf.GradientTape, "gradient", gradient))
        for kind in (keras.optimizers.Optimizer, keras.optimizers.LossScaleOptimizer):
            stack.enter_context(_around(kind, "apply", apply))
            stack.enter_context(_around(kind, "scale_loss", scale_loss))
        yield


@contextlib.contextmanager
def _around(owner: type, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """A method is called through `function`, which is given the method first."""
    original, is_own = getattr(owner, name), name in vars(owner)

    @functools.wraps(original)
    def method(self: Any, *arguments: Any, **others: Any) -> Any:
        return function(original, self, *arguments, **others)

    setattr(owner, name, method)
    try:
        yield
    finally:
        if is_own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)


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


@contextlib.contextmanager
def whole_tracebacks() -> Iterator[None]:
    """Keras raises errors with its own frames, which tell whether it, called by this program, led to them."""
    is_filtered = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if is_filtered:
            keras.config.enable_traceback_filtering()


def symbolic_ports(tensors: list[Any], graph: tf.Graph) -> list[Any]:
    """Ports of those tensors that live in `graph` (a loop's body is a graph of its own)."""
    return [port_of(tensor) for tensor in tensors if tf.is_symbolic_tensor(tensor) and tensor.graph is graph]
