"""From a Keras model and a batch to a Program."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from diag.common.modes import PREDICT, STEP, TRAIN
from diag.common.source_lines import SourceLine
from diag.common.user_code import line_of_keras, line_of_their_own
from diag.common.wording import type_and_message
from diag.engine.graphs.graph import OPAQUE, Graph, Port, graph_of
from diag.engine.graphs.locations import LOSS_LAYER, PREDICT_LAYER
from diag.engine.step.arrays import CompositeArray
from diag.engine.step.batch import dense_leaves
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
    whole_tracebacks,
)
from diag.engine.step.keras_steps import CALLS, STEPS
from diag.engine.step.layer_lines import line_of_layer
from diag.engine.step.locating import Locator
from diag.engine.step.program import Program, RawVariable, VariableSpec
from diag.engine.step.scope_marks import MarkedNames, marks_beside_names
from diag.engine.step.sources import lines_of_step
from diag.engine.step.texts import without_made_texts
from diag.engine.step.variables import describe_variables, names_of_optimizers
from diag.engine.step.watching import with_watched_tensors
from diag.errors import UserError

if TYPE_CHECKING:
    from diag.engine.step.batch import Batch


MOST_TRACES = 100
FRAME = (__file__, "step")
"""File and function within which a step is traced: what stands around it has made none of its ops."""
BatchKey = tuple[tuple[tuple[int, ...], str], ...]  # shape and dtype of each array of a batch


def flat_batch(batch: Batch) -> list[np.ndarray]:
    """The arrays of a batch in the order of the program's inputs."""
    given = [leaf for leaf in tf.nest.flatten(batch.data) if leaf is not None]
    return [np.asarray(array) for leaf in given for _, array in dense_leaves(leaf, "")]


def key_of(arrays: Sequence[np.ndarray]) -> BatchKey:
    """What batches of one traced step have in common: texts may be of any length."""
    return tuple((array.shape, tf.dtypes.as_dtype(array.dtype).name) for array in arrays)


def packed(structure: Any, flat: Sequence[Any]) -> Any:
    """A structure with other leaves, in the order of `flat_batch`; a part that is None stays None."""
    values = iter(flat)
    return tf.nest.map_structure(lambda leaf: None if leaf is None else _packed_leaf(leaf, values), structure)


def _packed_leaf(leaf: Any, values: Iterator[Any]) -> Any:
    if isinstance(leaf, CompositeArray):
        return leaf.tensor([next(values) for _ in leaf.components])
    return next(values)


def trace(
    model: keras.Model,
    batch: Batch,
    is_xla: bool = False,
    shapes: Mapping[Port, Sequence[int]] | None = None,
    mode: str = TRAIN,
) -> Program:
    """Trace one step of a built model on this batch's shapes; to train it has to have loss and optimizer.

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
        return STEPS[mode](model, packed(batch.data, arguments))

    with (
        marks_beside_names(shapes) as marked_names,
        marked_layers(layers),
        watched_training(training),
        keras_own_loops(model),
        whole_tracebacks(),
        tf.device(None),
    ):
        outer = _graph_of(step, flat, mode)
    return _Tracing(model, layers, training, outer, marked_names, mode).program(len(flat))


class Programs:
    """The step of a model for each batch, traced once for batches of one shape and dtype; is_xla, mode: as `trace`."""

    def __init__(self, model: keras.Model, is_xla: bool = False, mode: str = TRAIN) -> None:
        self.model, self.is_xla, self.mode = model, is_xla, mode
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
                f"batches of {MOST_TRACES} different shapes were given, and the next has another one; a step "
                f"is traced for each, at most {MOST_TRACES}: pad batches to a few lengths, or give fewer --steps"
            )
        return trace(self.model, batch, self.is_xla, shapes, self.mode)

    def __call__(self, batch: Batch) -> Program:
        key = key_of(flat_batch(batch))
        if key not in self._known:
            self._known[key] = self.traced(batch)
        return self._known[key]


def _graph_of(step: Any, flat: list[tf.TensorSpec], mode: str) -> Any:
    """The traced graph of a step.

    Raises:
      UserError: the model has names that TensorFlow takes in no graph, so that Keras does not compile it either, or a
        line of the person's own fails, or of Keras.
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
        theirs, in_keras = line_of_their_own(error), line_of_keras(error)
        if theirs or in_keras:
            where = theirs or f"{in_keras} of Keras"
            raise UserError(
                f"The {STEP[mode]} fails at {where}: {type_and_message(error)}; `{CALLS[mode]}` would as well"
            ) from error
        raise


class _Tracing:
    """The trace of a step, and what its marks tell of it."""

    def __init__(
        self,
        model: keras.Model,
        layers: LayerCalls,
        training: TrainingCalls,
        outer: Any,
        marked_names: MarkedNames,
        mode: str,
    ) -> None:
        self.model, self.layers, self.training, self.mode = model, layers, training, mode
        self.outer, self.marked_names = outer, marked_names
        self.labels = layers.labels()
        self.optimizers = names_of_optimizers(model, training.optimizers)
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
        locator = Locator(
            labels=self.labels,
            optimizers=self.optimizers,
            updates=[self.name_of.get(id(variable.handle), variable.name) for variable in self.training.updated],
            layer_of={spec.name: spec.layer for spec in self.specs},
            marked_names={name: self.marked_names.get(graph_of_function(name, self.outer), {}) for name in bodies},
            outside=LOSS_LAYER if self.mode == TRAIN else PREDICT_LAYER,
        )
        graph, functions = locator.apply(traced, self.marked_names.get(self.outer, {}), bodies)
        by_handle = {id(_raw(v).handle): index for index, v in enumerate(self.variables)}
        captures, constants = {}, {}
        for value, placeholder in self.outer.captures:
            if value.dtype == tf.resource and id(value) in by_handle:
                captures[placeholder.op.name] = by_handle[id(value)]
            else:
                constants[placeholder.op.name] = value
        gradients = self._gradients()
        named = self._losses() if self.mode == TRAIN else {}
        outputs: dict[str, list[Any]] = {}
        for index, tensors in self.layers.outputs:
            outputs.setdefault(self.labels[index], []).extend(tensors)
        layer_outputs = {label: made for label, found in outputs.items() if (made := self._ports(found))}
        layer_outputs |= {name: (port,) for name, port in list(named.items())[1:]}
        results = tuple(named.values())[:1]
        if self.mode == PREDICT:
            results = self._predictions()
            known = {port for ports in layer_outputs.values() for port in ports}
            if others := tuple(port for port in results if port not in known):
                layer_outputs[PREDICT_LAYER] = others
        weights = [spec.name for spec in self.specs if spec.kind == "weight"]
        program = Program(
            graph=graph,
            functions=functions,
            graph_def=graph_def,
            batch_inputs=graph.inputs[:num_flat],
            captures=captures,
            constants=constants,
            variables=self.specs,
            keras_variables=tuple(self.variables),
            layers=tuple(self.labels),
            results=results,
            layer_outputs=layer_outputs,
            gradients=gradients,
            without_gradient=tuple(name for name in weights if name not in gradients and self.mode == TRAIN),
            mode=self.mode,
            lines=self._lines(graph, functions),
        )
        return with_watched_tensors(program if self.mode == TRAIN else without_made_texts(program))

    def _lines(self, graph: Graph, functions: Mapping[str, Graph]) -> dict[int, SourceLine]:
        """Of each op, by index, the line of the person's own that made it."""
        of_layers = {
            label: line
            for label, unit in zip(self.labels, self.layers.units, strict=True)
            if (line := line_of_layer(unit)) is not None
        }
        of_functions = [(body, graph_of_function(name, self.outer)) for name, body in functions.items()]
        return lines_of_step([(graph, self.outer), *of_functions], of_layers, FRAME)

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

    def _predictions(self) -> tuple[Port, ...]:
        """What the step gives back, before the Identity that every return adds; of texts, the numbers they are made of.

        Raises:
          UserError: there are none.
        """
        tensors = [output.op.inputs[0] for output in self.outer.outputs if output.op.type == "Identity"]
        texts = [tensor for tensor in tensors if tensor.dtype == tf.string]
        for text in texts:
            made_of = [tensor for tensor in text.op.inputs if tensor.op.type != "Const"]
            texts += [tensor for tensor in made_of if tensor.dtype == tf.string]
            tensors += made_of
        found = self._ports([tensor for tensor in tensors if tensor.dtype not in (*OPAQUE, tf.string)])
        if not found:
            raise UserError(
                f"The prediction step of {self.model.name} gives no tensor of numbers; expected some that the places "
                "can be compared by"
            )
        return found

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
