"""From a Keras model and a batch to a Program."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from diag.engine.graphs.graph import Graph, Node, Port, graph_of
from diag.engine.graphs.locations import (
    BACKWARD,
    FORWARD,
    LOSS_LAYER,
    LOSS_SCOPE,
    OPTIMIZER,
    OPTIMIZER_LAYER,
    OPTIMIZER_SCOPE,
    Location,
    mark_of,
)
from diag.engine.step.keras_calls import (
    LayerCalls,
    body_graph,
    graph_of_function,
    keras_own_loops,
    marked_layers,
    marked_updates,
    symbolic_ports,
)
from diag.engine.step.program import Program, RawVariable, VariableSpec
from diag.engine.step.scope_marks import MarkedNames, marks_beside_names
from diag.engine.step.watching import with_watched_tensors
from diag.errors import UserError

if TYPE_CHECKING:
    from diag.engine.step.batch import Batch


def training_step(model: keras.Model, batch: Any, traced: dict[str, Any]) -> tf.Tensor:
    """Forward, loss, gradients and update of one batch; symbolic results go into `traced`."""
    inputs, targets, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    optimizer, weights = model.optimizer, model.trainable_variables
    with tf.GradientTape() as tape:
        predictions = model(inputs, training=True)
        with tf.name_scope(LOSS_SCOPE):
            loss = model.compute_loss(inputs, targets, predictions, sample_weight, training=True)
            scaled = optimizer.scale_loss(loss)
    gradients = tape.gradient(scaled, [weight.value for weight in weights])
    traced["gradients"] = gradients
    pairs = [(g, w) for g, w in zip(gradients, weights, strict=True) if g is not None]
    with tf.name_scope(OPTIMIZER_SCOPE):
        optimizer.apply_gradients(pairs)
    return loss


def flat_batch(batch: Batch) -> list[np.ndarray]:
    """The arrays of a batch in the order of the program's inputs."""
    return [np.asarray(value) for value in tf.nest.flatten(batch.data) if value is not None]


def packed(structure: Any, flat: Sequence[Any]) -> Any:
    """A structure with other leaves, in the order of `flat_batch`; a part that is None stays None."""
    values = iter(flat)
    leaves = [None if leaf is None else next(values) for leaf in tf.nest.flatten(structure)]
    return tf.nest.pack_sequence_as(structure, leaves)


def trace(model: keras.Model, batch: Batch) -> Program:
    """Trace one training step of a built model with loss and optimizer on this batch's shapes.

    `batch` gives numpy arrays in any nesting.  Nothing is executed and no state changes.
    """
    model.optimizer.build(model.trainable_variables)
    calls = LayerCalls(model)
    flat = [tf.TensorSpec(value.shape, value.dtype) for value in flat_batch(batch)]
    traced: dict[str, Any] = {}

    @tf.function(autograph=False)  # as far as `fit` goes: Keras 3 does not convert a layer's call
    def step(*arguments: tf.Tensor) -> tf.Tensor:
        return training_step(model, packed(batch.data, arguments), traced)

    with (
        marks_beside_names() as marked_names,
        marked_layers(calls),
        marked_updates(model.optimizer, model.trainable_variables),
        keras_own_loops(model),
        tf.device(None),
    ):
        outer = _graph_of(step, flat)
    return _Tracing(model, calls, outer, marked_names, traced["gradients"]).program(len(flat))


def _graph_of(step: Any, flat: list[tf.TensorSpec]) -> Any:
    """The traced graph of a step.

    Raises:
      UserError: the model has names that TensorFlow takes in no graph, so that `fit` does not compile it either.
    """
    try:
        return step.get_concrete_function(*flat).graph
    except ValueError as error:
        if found := re.search(r"'.*' is not a valid (root )?scope name", str(error), re.DOTALL):
            raise UserError(
                f"The model cannot be compiled: {found[0]} in TensorFlow; expected names of layers made of letters, "
                "digits and _ . > -; give the layer another name."
            ) from error
        raise


class _Tracing:
    """The trace of a step, and what its marks tell of it."""

    def __init__(
        self, model: keras.Model, calls: LayerCalls, outer: Any, marked_names: MarkedNames, gradients: list[Any]
    ) -> None:
        self.model, self.calls, self.outer, self.marked_names = model, calls, outer, marked_names
        self.labels = calls.labels()
        found, specs = describe_variables(model, calls, self.labels)
        self.variables = [*found, *self._other_variables({id(v.value.handle) for v in found})]
        others = self.variables[len(found) :]
        self.specs = (*specs, *(VariableSpec(v.path, "state", v.dtype, v.shape, None) for v in others))
        self.gradients = gradients

    def _other_variables(self, known: set[int]) -> list[RawVariable]:
        """Variables the step uses that are neither the model's nor the optimizer's (a loss's running mean)."""
        raw = {id(variable.handle): variable for variable in self.outer.variables}
        handles = [id(value) for value, _ in self.outer.captures if value.dtype == tf.resource]
        found = [raw[handle] for handle in dict.fromkeys(handles) if handle in raw and handle not in known]
        short = ["/".join(v.name.split(":")[0].split("/")[-2:]) for v in found]
        names = [f"other/{index}/{name}" for index, name in enumerate(short)]
        return [RawVariable(name, variable) for name, variable in zip(names, found, strict=True)]

    def program(self, num_flat: int) -> Program:
        names = [spec.name for spec in self.specs]
        position = {id(variable): index for index, variable in enumerate(self.variables)}
        updates = [names[position[id(v)]] for v in self.model.trainable_variables]
        graph_def = self.outer.as_graph_def()
        bodies = {f.signature.name: body_graph(f, self.outer) for f in graph_def.library.function}
        attribution = _Attribution(
            labels=self.labels,
            updates=updates,
            layer_of={spec.name: spec.layer for spec in self.specs},
            marked_names={name: self.marked_names.get(graph_of_function(name, self.outer), {}) for name in bodies},
        )
        graph, functions = attribution.apply(graph_of(self.outer), self.marked_names.get(self.outer, {}), bodies)
        by_handle = {id(v.value.handle): index for index, v in enumerate(self.variables)}
        captures, constants = {}, {}
        for value, placeholder in self.outer.captures:
            if value.dtype == tf.resource and id(value) in by_handle:
                captures[placeholder.op.name] = by_handle[id(value)]
            else:
                constants[placeholder.op.name] = value

        def ports(tensors: list[Any]) -> tuple[Port, ...]:
            return tuple(dict.fromkeys(symbolic_ports(tensors, self.outer)))

        outputs: dict[str, list[Any]] = {}
        for index, tensors in self.calls.outputs:
            outputs.setdefault(self.labels[index], []).extend(tensors)
        named = dict(zip(updates, self.gradients, strict=True))
        return with_watched_tensors(
            Program(
                graph=graph,
                functions=functions,
                graph_def=graph_def,
                batch_inputs=graph.inputs[:num_flat],
                captures=captures,
                constants=constants,
                variables=self.specs,
                keras_variables=tuple(self.variables),
                layers=tuple(self.labels),
                loss=_through_identity(graph, graph.outputs[0]),
                layer_outputs={label: made for label, found in outputs.items() if (made := ports(found))},
                gradients={name: ports([getattr(g, "values", g)])[0] for name, g in named.items() if g is not None},
                without_gradient=tuple(name for name, g in named.items() if g is None),
            )
        )


def _through_identity(graph: Graph, port: Port) -> Port:
    """The value a function returns, before the Identity that every return adds."""
    node = graph.by_name[port.node]
    return node.inputs[0] if node.op == "Identity" else port


def describe_variables(
    model: keras.Model, calls: LayerCalls, labels: list[str]
) -> tuple[list[Any], tuple[VariableSpec, ...]]:
    """All variables of the training state, with unique names such as `conv2d_1/kernel`."""
    owners: dict[int, str] = {}
    for unit, label in sorted(zip(calls.units, labels, strict=True), key=lambda pair: -len(pair[0].variables)):
        owners.update((id(variable), label) for variable in unit.variables)
    optimizer = model.optimizer
    trainable = {id(variable) for variable in model.trainable_variables}
    variables = list({id(v): v for v in [*model.variables, *optimizer.variables]}.values())
    slots = {id(v): None for v in optimizer.variables}
    taken: Counter[str] = Counter()
    specs: list[VariableSpec] = []
    weight_names: dict[str, str] = {}
    for variable in variables:
        layer, of = owners.get(id(variable)), None
        name, kind = _short_name(variable.path, model.name, layer), "state"
        if id(variable) in trainable:
            kind = "weight"
            weight_names[variable.path.replace("/", "_")] = name
        elif id(variable) in slots:
            kind, of = _slot_of(variable.path.split("/")[-1], weight_names)
            name = f"{OPTIMIZER_LAYER}/{of}/{kind}" if of else f"{OPTIMIZER_LAYER}/{name}"
        taken[name] += 1
        if taken[name] > 1:
            name = f"{name}_{taken[name] - 1}"
        specs.append(VariableSpec(name, kind, variable.dtype, tuple(variable.shape), layer, of))
    return variables, tuple(specs)


def _short_name(path: str, model_name: str, layer: str | None) -> str:
    parts = path.split("/")
    if len(parts) > 1 and parts[0] == model_name:
        parts = parts[1:]
    if layer is not None and layer.split("/")[-1] not in parts[:-1]:
        return f"{layer}/{parts[-1]}"
    return "/".join(parts)


def _slot_of(last: str, weights: dict[str, str]) -> tuple[str, str | None]:
    """Keras names a slot `<path of its weight, / as _>_<slot>`; the longest match is the weight."""
    matches = [path for path in weights if last.startswith(path + "_")]
    if not matches:
        return OPTIMIZER, None
    path = max(matches, key=len)
    return last[len(path) + 1 :], weights[path]


class _Attribution:
    """Gives every node its site and every op its index."""

    def __init__(
        self,
        labels: list[str],
        updates: list[str],
        layer_of: dict[str, str | None],
        marked_names: Mapping[str, Mapping[str, str]],  # of each function
    ) -> None:
        self.labels, self.updates, self.layer_of, self.marked_names = labels, updates, layer_of, marked_names
        self.next_index = 0

    def location(self, name: str, inherited: Location | None) -> Location | None:
        mark = mark_of(name)
        if mark is None:
            return inherited
        if mark.kind == "update":
            variable = self.updates[mark.index]
            return Location(OPTIMIZER, self.layer_of[variable], variable)
        if mark.kind == "optimizer":
            outer = inherited.variable if inherited else None
            return inherited if outer else Location(OPTIMIZER, OPTIMIZER_LAYER)
        inside_backward = inherited is not None and inherited.phase == BACKWARD
        phase = BACKWARD if mark.backward or inside_backward else FORWARD
        if inside_backward and inherited is not None:
            return replace(inherited, index=None)
        return Location(phase, LOSS_LAYER if mark.kind == LOSS_LAYER else self.labels[mark.index])

    def apply(
        self, graph: Graph, marked_names: Mapping[str, str], functions: dict[str, Graph]
    ) -> tuple[Graph, dict[str, Graph]]:
        located: dict[str, Graph] = {}
        result = self._graph(graph, marked_names, functions, located, None)
        return result, {name: located.get(name, body) for name, body in functions.items()}

    def _graph(
        self,
        graph: Graph,
        marked_names: Mapping[str, str],
        functions: dict[str, Graph],
        located: dict[str, Graph],
        caller: Location | None,
    ) -> Graph:
        locations: dict[str, Location] = {}
        started = False
        returned = {port.node for port in graph.outputs}
        for node in graph:
            name = marked_names.get(node.name, node.name)
            location = self.location(name, caller)
            started = started or (location is not None and location.phase != FORWARD)
            if location is None:
                location = self._from_data(node, locations, started)
            plumbing = node.is_silent or (node.name in returned and node.op == "Identity" and mark_of(name) is None)
            if not plumbing:
                location = replace(location, index=self.next_index)
                self.next_index += 1
            locations[node.name] = location
            for called in node.function_names():
                if called not in located and called in functions:
                    located[called] = functions[called]  # a function that calls itself is entered once
                    located[called] = self._graph(
                        functions[called], self.marked_names[called], functions, located, replace(location, index=None)
                    )
        return graph.with_locations(locations)

    def _from_data(self, node: Node, locations: dict[str, Location], backward: bool) -> Location:
        """A node with no marker (the tape's AddN, say) joins the unit that made its last input."""
        for port in reversed(node.inputs):
            known = locations.get(port.node)
            if known is not None and known.layer is not None:
                return replace(
                    known, index=None, phase=BACKWARD if backward and known.phase == FORWARD else known.phase
                )
        return Location(
            BACKWARD if backward else FORWARD, LOSS_LAYER if backward else (self.labels[0] if self.labels else None)
        )
