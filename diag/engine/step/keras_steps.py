"""What Keras does with one batch: `train_step` and `predict_step`, a model's own or Keras's."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from diag.common.modes import PREDICT, TRAIN
from diag.engine.graphs.locations import LOSS_SCOPE, STEP_SCOPE
from diag.engine.step.scope_marks import marked

CALLS = {TRAIN: "fit", PREDICT: "predict"}
STEP_METHODS = {TRAIN: "train_step", PREDICT: "predict_step"}


def has_own_step(model: keras.Model, mode: str = TRAIN) -> bool:
    """Whether the model's class trains by a `train_step` of its own, or predicts by a `predict_step`."""
    return getattr(type(model), STEP_METHODS[mode]) is not getattr(keras.Model, STEP_METHODS[mode])


def prediction_step(model: keras.Model, data: Any) -> Any:
    """What `predict` compiles: the model's `predict_step`, Keras's or its own, on the data that Keras gives it."""
    with marked(STEP_SCOPE):
        return _own_step(model, PREDICT)(data)


def training_step(model: keras.Model, data: Any) -> Any:
    """One training step on the data that Keras gives it: the model's own, else Keras's but for the metrics."""
    if has_own_step(model):
        with marked(STEP_SCOPE):
            return _own_step(model, TRAIN)(data)
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


def _own_step(model: keras.Model, mode: str) -> Any:
    """The model's `train_step` or `predict_step`; what a `tf.function` was made of, since its ops are to be seen."""
    step = getattr(model, STEP_METHODS[mode])
    python_function = getattr(step, "python_function", None)
    return step if python_function is None else tf.autograph.to_graph(python_function)


STEPS = {TRAIN: training_step, PREDICT: prediction_step}
