"""What a lane's model says of samples that it is not trained on: a forward pass, compiled as `evaluate` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import graph_of, port_of
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import Lane
from diag.engine.step.batch import Batch
from diag.engine.step.keras_calls import body_graph, keras_own_loops
from diag.engine.step.program import Program
from diag.engine.step.tracing import BatchKey, flat_batch, key_of, packed


class Evaluation:
    """Loss and accuracy of a lane's model on samples, (loss, accuracy); NaN for an accuracy that there is none of."""

    def __init__(self, model: keras.Model, program: Program, lane: Lane) -> None:
        self._model, self._program, self._lane = model, program, lane
        self._built: dict[BatchKey, Callable[..., list[Any]]] = {}

    def of(self, samples: Batch, batch_size: int) -> tuple[float, float]:
        """Means over all samples, read in order."""
        total, losses, rights = samples.num_samples, 0.0, 0.0
        for start in range(0, total, batch_size):
            rows = np.arange(start, min(start + batch_size, total))
            loss, right = self._of_batch(samples.mapped(partial(_rows, rows)))
            losses += loss * len(rows)
            rights += right * len(rows)
        return losses / total, rights / total

    def _of_batch(self, batch: Batch) -> tuple[float, float]:
        flat = flat_batch(batch)
        key = key_of(flat)
        if key not in self._built:
            self._built[key] = self._lane.build(self._executable(batch, flat))
        loss, *outputs = self._built[key](*self._lane.place_feeds([tf.constant(array) for array in flat]))
        targets = [np.asarray(array) for array in tf.nest.flatten(batch.targets) if array is not None]
        return float(loss), accuracy([to_numpy(output) for output in outputs], targets)

    def _executable(self, batch: Batch, flat: Sequence[np.ndarray]) -> Executable:
        """Loss and outputs without dropout, traced for this batch's shapes, on the variables of the training step."""

        @tf.function(autograph=False)
        def forward(*arrays: tf.Tensor) -> list[Any]:
            inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(packed(batch.data, arrays))
            outputs = self._model(inputs, training=False)
            loss = self._model.compute_loss(inputs, targets, outputs, weights, training=False)
            return [loss, *tf.nest.flatten(outputs)]

        with tf.device(None), keras_own_loops(self._model):
            outer = forward.get_concrete_function(*(tf.TensorSpec(a.shape, a.dtype) for a in flat)).graph
        graph, graph_def = graph_of(outer), outer.as_graph_def()
        indices = {id(variable.value.handle): i for i, variable in enumerate(self._program.keras_variables)}
        captured = {placeholder.op.name: value for value, placeholder in outer.captures}
        captures = {name: indices[id(value)] for name, value in captured.items() if id(value) in indices}
        return Executable(
            graph,
            {function.signature.name: body_graph(function, outer) for function in graph_def.library.function},
            graph_def,
            graph.inputs[: len(flat)],
            captures,
            {name: value for name, value in captured.items() if name not in captures},
            tuple(port_of(tensor) for tensor in outer.outputs),
        )


def accuracy(outputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> float:
    """Share of samples whose class is the predicted one; NaN where there is not one output of classes.

    Labels, (n,) or (n, 1), and one-hot targets, (n, classes), are held against the largest of (n, classes); targets 0
    and 1 of one unit against 1/2, which is a probability's middle.
    """
    if len(outputs) != 1 or len(targets) != 1 or outputs[0].ndim != 2:
        return float("nan")
    scores, target = outputs[0].astype(np.float64), targets[0]
    if scores.shape[1] == 1:
        is_binary = np.isin(target, (0, 1)).all()
        return float(np.mean((scores[:, 0] > 0.5) == (target.reshape(-1) > 0.5))) if is_binary else float("nan")
    if target.shape == scores.shape:
        is_one_hot = np.isin(target, (0, 1)).all()
        return float(np.mean(scores.argmax(1) == target.argmax(1))) if is_one_hot else float("nan")
    is_labels = target.size == len(scores) and bool(np.all(target == np.floor(target)))
    return float(np.mean(scores.argmax(1) == target.reshape(-1))) if is_labels else float("nan")


def _rows(rows: np.ndarray, array: Any) -> np.ndarray:
    return np.asarray(array[rows])
