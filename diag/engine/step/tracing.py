"""From a Keras model and a batch to a Program."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from diag.common.source_lines import SourceLine
from diag.common.user_code import line_of_their_own
from diag.common.wording import type_and_message
from diag.engine.graphs.graph import Graph, Port, graph_of
from diag.engine.graphs.locations import LOSS_LAYER, LOSS_SCOPE, OPTIMIZER, STEP_SCOPE
from diag.engine.step.function_calls import with_calls_of_today
from diag.engine.step.keras_calls import (
    GradientCall,
    LayerCalls,
    TrainingCalls,
    body_graph,
    graph_of_function,
    keras_own_loops,
    marked_layers,
    symbolic_ports,
    watched_training,
)
from diag.engine.step.layer_lines import line_of_layer
from diag.engine.step.node_locations import NodeLocations
from diag.engine.step.program import Program, RawVariable, VariableSpec
from diag.engine.step.scope_marks import MarkedNames, marked, marks_beside_names
from diag.engine.step.sources import lines_of_step
from diag.engine.step.watching import with_watched_tensors
from diag.errors import UserError

if TYPE_CHECKING:
    from diag.engine.step.batch import Batch


MOST_TRACES = 100
BatchKey = tuple[tuple[tuple[int, ...], str], ...]  # shape and dtype of each array of a batch


def has_own_step(model: keras.Model) -> bool:
    """Whether the model's class trains by a `train_step` of its own."""
    return type(model).train_step is not keras.Model.train_step


def training_step(model: keras.Model, data: Any) -> Any:
    """One training step on the data that Keras gives it: the model's own, else Keras's but for the metrics."""
    if has_own_step(model):
        with marked(STEP_SCOPE):
            return _own_step(model)(data)
    inputs, targets, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape:
        predictions = model(inputs, training=True)
        with tf.name_scope(LOSS_SCOPE):
            loss = model.compute_loss(inputs, targets, predictions, sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
    weights = model.trainable_variables
    gradients = tape.gradient(scaled, [weight.value for weight in weights])
    if not model.optimizer.built:
        model.optimizer.build(weights)
    model.optimizer.apply_gradients([(g, w) for g, w in zip(gradients, weights, strict=True) if g is not None])
    return loss


def _own_step(model: keras.Model) -> Any:
    """The model's `train_step`; what a `tf.function` was made of, since its ops are to be seen."""
    python_function = getattr(model.train_step, "python_function", None)
    return model.train_step if python_function is None else tf.autograph.to_graph(python_function)


def flat_batch(batch: Batch) -> list[np.ndarray]:
    """The arrays of a batch in the order of the program's inputs."""
    return [np.asarray(value) for value in tf.nest.flatten(batch.data) if value is not None]


def key_of(arrays: Sequence[np.ndarray]) -> BatchKey:
    """What batches of one traced step have in common: texts may be of any length."""
    return tuple((array.shape, tf.dtypes.as_dtype(array.dtype).name) for array in arrays)


def packed(structure: Any, flat: Sequence[Any]) -> Any:
    """A structure with other leaves, in the order of `flat_batch`; a part that is None stays None."""
    values = iter(flat)
    leaves = [None if leaf is None else next(values) for leaf in tf.nest.flatten(structure)]
    return tf.nest.pack_sequence_as(structure, leaves)


def trace(
    model: keras.Model, batch: Batch, is_xla: bool = False, shapes: Mapping[Port, Sequence[int]] | None = None
) -> Program:
    """Trace one training step of a built model with loss and optimizer on this batch's shapes.

    `batch` gives numpy arrays in any nesting.  Nothing is executed and no state changes; variables that layers and
    optimizers make at their first call are made.  is_xla: as `jit_compile=True` traces, for XLA to compile:
    shapes inside of loops are then not counted while the loop runs.
    shapes: of some outputs of nodes, where these are known otherwise.
    """
    layers, training = LayerCalls(model), TrainingCalls()
    flat = [tf.TensorSpec(value.shape, value.dtype) for value in flat_batch(batch)]

    @tf.function(
        autograph=False, jit_compile=is_xla or None
    )  # as far as `fit` goes: Keras 3 does not convert a layer's call
    def step(*arguments: tf.Tensor) -> Any:
        layers.forget()  # TensorFlow traces again what made variables the first time
        training.forget()
        return training_step(model, packed(batch.data, arguments))

    with (
        marks_beside_names(shapes) as marked_names,
        marked_layers(layers),
        watched_training(training),
        keras_own_loops(model),
        tf.device(None),
    ):
        outer = _graph_of(step, flat)
    return _Tracing(model, layers, training, outer, marked_names).program(len(flat))


class Programs:
    """The step of a model for each batch, traced once for batches of the same shapes and dtypes; is_xla: as `trace`."""

    def __init__(self, model: keras.Model, is_xla: bool = False) -> None:
        self.model, self.is_xla = model, is_xla
        self._num_traced = 0
        self._known: dict[BatchKey, Program] = {}

    def traced(self, batch: Batch, shapes: Mapping[Port, Sequence[int]] | None = None) -> Program:
        """The step of a batch, traced anew; shapes: as `trace`.

        Raises:
          UserError: it was for as many batches of other shapes before as it is done for.
        """
        self._num_traced += 1
        if self._num_traced > MOST_TRACES:
            raise UserError(
                f"batches of {MOST_TRACES} different shapes were trained on, and the next has another one; a step "
                f"is traced for each, at most {MOST_TRACES}: pad batches to a few lengths, or give fewer --steps"
            )
        return trace(self.model, batch, self.is_xla, shapes)

    def __call__(self, batch: Batch) -> Program:
        key = key_of(flat_batch(batch))
        if key not in self._known:
            self._known[key] = self.traced(batch)
        return self._known[key]


def _graph_of(step: Any, flat: list[tf.TensorSpec]) -> Any:
    """The traced graph of a step.

    Raises:
      UserError: the model has names that TensorFlow takes in no graph, so that `fit` does not compile it either, or a
        line of the person's own fails.
    """
    try:
        return step.get_concrete_function(*flat).graph
    except UserError:
        raise
    except Exception as error:
        if found := re.search(r"'.*' is not a valid (root )?scope name", str(error), re.DOTALL):
            raise UserError(
                f"The model cannot be compiled: {found[0]} in TensorFlow; expected names of layers made of letters, "
                "digits and _ . > -; give the layer another name."
            ) from error
        if line := line_of_their_own(error):
            raise UserError(
                f"The training step fails at {line}: {type_and_message(error)}; `fit` would as well"
            ) from error
        raise


class _Tracing:
    """The trace of a step, and what its marks tell of it."""

    def __init__(
        self, model: keras.Model, layers: LayerCalls, training: TrainingCalls, outer: Any, marked_names: MarkedNames
    ) -> None:
        self.model, self.layers, self.training = model, layers, training
        self.outer, self.marked_names = outer, marked_names
        self.labels = layers.labels()
        self.optimizers = _names_of_optimizers(model, training.optimizers)
        found, specs = describe_variables(
            model, layers, self.labels, dict(zip(self.optimizers, training.optimizers, strict=True))
        )
        others = self._other_variables({id(_raw(v).handle) for v in found})
        self.variables = [*found, *others]
        self.specs = (*specs, *self._described(others))
        self.name_of = {id(_raw(v).handle): spec.name for v, spec in zip(self.variables, self.specs, strict=True)}

    def _other_variables(self, known: set[int]) -> list[RawVariable]:
        """Variables the step uses that are neither the model's nor an optimizer's: of metrics, a loss's own."""
        raw = {id(variable.handle): variable for variable in self.outer.variables}
        handles = [id(value) for value, _ in self.outer.captures if value.dtype == tf.resource]
        found = [raw[handle] for handle in dict.fromkeys(handles) if handle in raw and handle not in known]
        metrics = {id(v.value): f"metrics/{m.name}/{v.name}" for m in self.model.metrics for v in m.variables}
        short = ["/".join(v.name.split(":")[0].split("/")[-2:]) for v in found]
        names = [metrics.get(id(v), f"other/{i}/{name}") for i, (v, name) in enumerate(zip(found, short, strict=True))]
        return [RawVariable(name, variable) for name, variable in zip(names, found, strict=True)]

    def _described(self, others: list[RawVariable]) -> list[VariableSpec]:
        """A variable that is trained is a weight whoever holds it."""
        trained = {id(variable) for variable in self.training.updated}
        kinds = ["weight" if id(v.value) in trained else "state" for v in others]
        return [VariableSpec(v.path, kind, v.dtype, v.shape, None) for v, kind in zip(others, kinds, strict=True)]

    def program(self, num_flat: int) -> Program:
        graph_def = self.outer.as_graph_def()
        traced = with_calls_of_today(graph_def, graph_of(self.outer))
        bodies = {f.signature.name: body_graph(f, self.outer) for f in graph_def.library.function}
        locations = NodeLocations(
            labels=self.labels,
            optimizers=self.optimizers,
            updates=[self.name_of.get(id(variable.handle), variable.name) for variable in self.training.updated],
            layer_of={spec.name: spec.layer for spec in self.specs},
            marked_names={name: self.marked_names.get(graph_of_function(name, self.outer), {}) for name in bodies},
        )
        graph, functions = locations.apply(traced, self.marked_names.get(self.outer, {}), bodies)
        by_handle = {id(_raw(v).handle): index for index, v in enumerate(self.variables)}
        captures, constants = {}, {}
        for value, placeholder in self.outer.captures:
            if value.dtype == tf.resource and id(value) in by_handle:
                captures[placeholder.op.name] = by_handle[id(value)]
            else:
                constants[placeholder.op.name] = value
        gradients = self._gradients()
        losses = self._losses()
        outputs: dict[str, list[Any]] = {}
        for index, tensors in self.layers.outputs:
            outputs.setdefault(self.labels[index], []).extend(tensors)
        weights = [spec.name for spec in self.specs if spec.kind == "weight"]
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
                loss=next(iter(losses.values())),
                layer_outputs={
                    **{label: made for label, found in outputs.items() if (made := self._ports(found))},
                    **{name: (port,) for name, port in list(losses.items())[1:]},
                },
                gradients=gradients,
                without_gradient=tuple(name for name in weights if name not in gradients),
                lines=self._lines(graph, functions),
            )
        )

    def _lines(self, graph: Graph, functions: Mapping[str, Graph]) -> dict[int, SourceLine]:
        """Of each op, by index, the line of the person's own that made it."""
        of_layers = {
            label: line
            for label, unit in zip(self.labels, self.layers.units, strict=True)
            if (line := line_of_layer(unit)) is not None
        }
        of_functions = [(body, graph_of_function(name, self.outer)) for name, body in functions.items()]
        return lines_of_step([(graph, self.outer), *of_functions], of_layers, (__file__, training_step.__name__))

    def _ports(self, tensors: list[Any]) -> tuple[Port, ...]:
        return tuple(dict.fromkeys(symbolic_ports(tensors, self.outer)))

    def _gradients(self) -> dict[str, Port]:
        """The gradient of each weight, the last where there are several, in the order of the variables."""
        found: dict[str, Port] = {}
        for call in self.training.gradients:
            for variable, gradient in zip(call.variables, call.gradients, strict=True):
                ports = self._ports([getattr(gradient, "values", gradient)])
                if variable is not None and ports:
                    found[self.name_of[id(variable.handle)]] = ports[0]
        return {spec.name: found[spec.name] for spec in self.specs if spec.name in found}

    def _losses(self) -> dict[str, Port]:
        """What weights are trained to make smaller: `loss` or, by the optimizer that does it, `d_optimizer/loss`.

        Raises:
          UserError: the step takes no gradient of a number.
        """
        found: dict[str, Port] = {}
        for call in self.training.gradients:
            if all(variable is None for variable in call.variables):
                continue
            scalars = [target for target in call.targets if target.shape.rank == 0]
            for port in self._ports(scalars):
                if port not in found.values():
                    name = self._name_of_loss(call)
                    found[name if name not in found else f"{name}_{len(found)}"] = port
        if not found:
            raise UserError(
                f"The training step of {self.model.name} takes no gradient of a scalar loss by trainable weights; "
                "expected some, taken with tf.GradientTape outside of any tf.function that the step calls"
            )
        return found

    def _name_of_loss(self, call: GradientCall) -> str:
        given = {id(variable) for variable in call.variables if variable is not None}
        of = self.training.of_optimizer
        by = [
            of[index] for index, variable in enumerate(self.training.updated) if id(variable) in given and index in of
        ]
        return f"{self.optimizers[by[0]]}/{LOSS_LAYER}" if by and len(self.optimizers) > 1 else LOSS_LAYER


def _raw(variable: Any) -> tf.Variable:
    """The TensorFlow variable of one that shows itself as Keras's do."""
    return variable.value


def _names_of_optimizers(model: keras.Model, optimizers: list[Any]) -> list[str]:
    """Each by the attribute of the model that holds it: `optimizer`, `d_optimizer`; else by its own name."""
    held = {id(value): name for name, value in reversed(vars(model).items())}
    names: list[str] = []
    for optimizer in optimizers:
        name = held.get(id(optimizer), optimizer.name)
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def describe_variables(
    model: keras.Model, calls: LayerCalls, labels: list[str], optimizers: Mapping[str, keras.Optimizer]
) -> tuple[list[Any], tuple[VariableSpec, ...]]:
    """All variables of the training state, with unique names such as `conv2d_1/kernel`."""
    owners: dict[int, str] = {}
    for unit, label in sorted(zip(calls.units, labels, strict=True), key=lambda pair: -len(pair[0].variables)):
        owners.update((id(variable), label) for variable in unit.variables)
    trainable = {id(variable) for variable in model.trainable_variables}
    of_optimizer = {id(v): name for name, optimizer in optimizers.items() for v in optimizer.variables}
    of_optimizers = [v for optimizer in optimizers.values() for v in optimizer.variables]
    variables = list({id(v): v for v in [*model.variables, *of_optimizers]}.values())
    taken: Counter[str] = Counter()
    specs: list[VariableSpec] = []
    weight_names: dict[str, str] = {}
    for variable in variables:
        layer, of = owners.get(id(variable)), None
        name, kind = _short_name(variable.path, model.name, layer), "state"
        if id(variable) in trainable:
            kind = "weight"
            weight_names[variable.path.replace("/", "_")] = name
        elif id(variable) in of_optimizer:
            kind, of = _slot_of(variable.path.split("/")[-1], weight_names)
            held_by = of_optimizer[id(variable)]
            name = f"{held_by}/{of}/{kind}" if of else f"{held_by}/{name}"
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
