"""The model under test, and the loss and optimizer it trains with.

The motivating CNN, a `.keras` file, or what a person's function returns; its own loss and
optimizer where it came compiled, else chosen from its outputs and the labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import tensorflow as tf

from diag.common.user_code import FORMS, call_function, names_function
from diag.common.wording import type_and_message
from diag.engine.step.arrays import CompositeArray, tensor_of
from diag.engine.step.keras_steps import has_own_step
from diag.engine.step.layer_lines import layers_watched
from diag.engine.training.model_files import MODEL_FLAG, read_model_file, refuse_other_forms
from diag.engine.training.signature import OutputSpec, all_layers, loss_name, pair, signature_of
from diag.errors import UserError
from diag.machine.places import POLICIES


def motivating_cnn(image_shape: tuple[int, int, int] = (150, 150, 3), num_classes: int = 2) -> keras.Model:
    """The cat-and-dog classifier that learned on the CPU and exploded on the GPU.

    Args:
        image_shape: height, width, channels. Below 46 pixels a side the four unpadded convolutions
            and poolings would leave nothing (46 -> 22 -> 10 -> 4 -> 1), so smaller images are padded
            ("same") all the way; any size of at least 1 works.
        num_classes: the width of the softmax, (batch, num_classes).
    """
    padding = "valid" if min(image_shape[:2]) >= 46 else "same"
    layers = [keras.Input(image_shape)]
    for filters in (32, 64, 128, 128):
        layers.append(keras.layers.Conv2D(filters, 3, activation="relu", padding=padding))
        layers.append(keras.layers.MaxPooling2D(2, padding=padding))
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dense(num_classes, activation="softmax"),
    ]
    return keras.Sequential(layers, name="motivating_cnn")


def load_model(
    spec: str | None,
    *,
    image_shape: tuple[int, int, int] = (150, 150, 3),
    num_classes: int = 2,
    is_trusted: bool = False,
    flag: str = MODEL_FLAG,
) -> keras.Model:
    """The model that `--model SPEC` names, its initial weights computed on the CPU.

    Args:
        spec: a `.keras` file; FILE.py:FUNCTION or package.module:FUNCTION, called with no arguments,
            compiled or not, built or not; or None for the motivating CNN of `image_shape` and `num_classes`.
        is_trusted: whatever code a `.keras` file brings may run.
        flag: what the person typed before `spec`, for messages.

    Raises:
        UserError: one line; see `call_function` for what can go wrong in a person's own file.
    """
    with tf.device("CPU:0"):
        if spec is None:
            return motivating_cnn(image_shape, num_classes)
        if names_function(spec):
            with layers_watched():
                return _model_or_error(call_function(spec, flag=flag, expected="a Keras model"), spec, flag)
        return _model_or_error(_read_keras_file(spec, is_trusted, flag), spec, flag)


def _as_keras_takes(inputs: Any) -> Any:
    """Keras takes no texts of NumPy's, and no arrays beside tensors."""
    flat = keras.tree.flatten(inputs)
    if any(isinstance(array, CompositeArray) or array.dtype.kind == "S" for array in flat):
        return keras.tree.map_structure(tensor_of, inputs)
    return inputs


def build_on(model: keras.Model, inputs: Any) -> Any:
    """The model's outputs for one batch, without dropout; builds a model that had yet to see data.

    Every variable is put back as it was, and those made during the call (an unbuilt model's) to
    the value they were made with: a stateful RNN must not remember this batch.

    Raises:
        UserError: the model cannot compute these inputs.
    """
    saved = [(variable.value, tf.identity(variable.value)) for variable in _all_variables(model)]

    def remember(next_creator: Any, **kwargs: Any) -> tf.Variable:
        variable = next_creator(**kwargs)
        saved.append((variable, tf.identity(variable)))
        return variable

    try:
        with tf.device("CPU:0"), tf.variable_creator_scope(remember):
            return model(_as_keras_takes(inputs), training=False)
    except Exception as error:
        shapes = ", ".join(f"{x.dtype} {tuple(x.shape)}" for x in keras.tree.flatten(inputs))
        raise UserError(
            f"the model {model.name} fails on the first batch of the data ({shapes}): {type_and_message(error)}"
        ) from error
    finally:
        for variable, value in saved:
            variable.assign(value)


@contextmanager
def apply_policy(name: str | None) -> Iterator[None]:
    """Makes `name` the dtype policy of the layers created meanwhile; None leaves Keras's own.

    Raises:
        UserError: not one of `diag.machine.places.POLICIES`.
    """
    if name is not None and name not in POLICIES:
        raise UserError(f"--policy {name} is no dtype policy; expected one of {', '.join(POLICIES)}")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _all_variables(model: keras.Model) -> list[Any]:
    """Every Keras variable of a model; what a stateful RNN remembers is not in `model.variables`."""
    states = [state for layer in all_layers(model) for state in keras.tree.flatten(getattr(layer, "states", ()))]
    return [*model.variables, *(state for state in states if isinstance(state, keras.Variable))]


def _read_keras_file(spec: str, is_trusted: bool, flag: str) -> Any:
    path = Path(spec)
    if path.suffix != ".keras":
        refuse_other_forms(path, flag)
        state = "" if path.exists() else ", and there is no such file"
        raise UserError(f"{flag} {spec} is neither a .keras file nor {FORMS}{state}; give one of these")
    if not path.is_file():
        raise UserError(f"{flag} {spec}: there is no such file in {Path.cwd()}; expected one saved by Keras 3")
    return read_model_file(path, is_trusted, flag)


def _model_or_error(value: Any, spec: str, flag: str) -> keras.Model:
    if isinstance(value, keras.Model):
        return value
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    given = "a class, not an instance of it" if isinstance(value, type) else f"a {kind}"
    hint = "; Keras 2 (tf_keras) models do not run here" if kind.startswith("tf_keras") else ""
    raise UserError(f"{flag} {spec} gave {given}; expected a keras.Model{hint}")


@dataclass(frozen=True)
class ChosenLoss:
    """The loss of one output, and why."""

    output: str
    name: str  # as Keras names it: "sparse_categorical_crossentropy"
    reason: str


@dataclass(frozen=True)
class Training:
    """What a model trains with, for the report.

    `num_classes` has one entry per output: how many classes its labels can name, where they are labels.
    """

    losses: tuple[ChosenLoss, ...]
    optimizer: str
    policy: str
    num_classes: tuple[int | None, ...]


def prepare_training(model: keras.Model, inputs: Any, targets: Any) -> Training:
    """Makes sure that a model is built and has a loss and an optimizer.

    A model compiled with a loss keeps both. One compiled without keeps its optimizer; any other
    gets Adam with Keras's defaults. A loss that is missing follows from the labels and outputs, as
    `choose_loss` says. Metrics play no part. Under `mixed_float16`, Keras adds its LossScaleOptimizer.

    Args:
        inputs, targets: the first batch, arrays or nested dicts, lists or tuples of arrays.

    Raises:
        UserError: the model fails on the batch, or no loss fits the targets.
    """
    if (
        has_own_step(model) and model.compiled
    ):  # it may have no call of its own, or another loss than it was compiled with
        return _describe(model, [ChosenLoss("all", str(own_loss(model, targets)), "the model came with it")], ())
    outputs = build_on(model, inputs)
    specs = _output_specs(model, outputs)
    came_with_optimizer = bool(model.compiled and model.optimizer)
    optimizer = model.optimizer if came_with_optimizer else keras.optimizers.Adam()
    loss_of_its_own = own_loss(model, targets)
    if loss_of_its_own:
        losses = [ChosenLoss("all", loss_of_its_own, "the model came with it")]
        if not came_with_optimizer:
            model.compile(optimizer=optimizer, loss=None, jit_compile=False)
        if model.loss is None:  # what a loss of its own reads in the targets is not known
            specs = ()
    else:
        chosen = _choose_losses(specs, outputs, targets)
        losses = [description for description, _ in chosen]
        specs = tuple(replace(spec, loss=loss.name) for spec, loss in zip(specs, losses, strict=True))
        loss = keras.tree.pack_sequence_as(outputs, [each for _, each in chosen])
        model.compile(optimizer=optimizer, loss=loss, jit_compile=False)
    return _describe(model, losses, specs)


def build_optimizer(model: keras.Model) -> tuple[str, ...]:
    """Makes a model's optimizer ready for its weights, and gives what there is to say of that.

    Keras restores from an `.h5` file an optimizer that was built for none of the weights (3.15,
    legacy_h5_format.py: those of the model itself, not of its layers), warns that it starts afresh,
    and has `fit` refuse it.  Here it does start afresh.
    """
    weights, optimizer = model.trainable_variables, model.optimizer
    optimizer.build(weights)
    if has_own_step(model) or _takes(optimizer, weights):
        return ()
    model.optimizer = type(optimizer).from_config(optimizer.get_config())
    model.optimizer.build(weights)
    return (
        "the optimizer that the model came with was built for other weights than the model has, as Keras leaves it "
        "when it loads an .h5 file, and `fit` refuses it: here it starts afresh, with the settings it came with",
    )


def _takes(optimizer: Any, weights: list[Any]) -> bool:
    """Whether it trains these weights, by Keras's own check, which is private: the test of `.h5` is its canary."""
    try:
        getattr(optimizer, "inner_optimizer", optimizer)._check_variables_are_known(weights)
    except ValueError:
        return False
    return True


def choose_loss(name: str, output: Any, target: np.ndarray) -> tuple[ChosenLoss, keras.losses.Loss]:
    """The loss for one output, from a batch of its predictions and labels.

    | labels | predictions | loss |
    |---|---|---|
    | whole numbers, (batch,) or (batch, 1) | (batch, units), units > 1 | sparse categorical cross-entropy |
    | 0 and 1, in the predictions' shape | one unit, or one sigmoid a class | binary cross-entropy |
    | distributions, one-hot or smoothed | (batch, units), units > 1 | categorical cross-entropy |
    | any other numbers in the predictions' shape | any | mean squared error |

    Sequences have their steps between batch and units, in labels and predictions alike.
    A cross-entropy is of logits unless the output ends in a softmax or a sigmoid (`last_operation`).

    Raises:
        UserError: the shapes fit no row.
    """
    target, shape = np.asarray(target), tuple(output.shape)
    units, last = shape[-1], last_operation(output)
    is_whole = target.dtype.kind in "iub" or bool(np.all(target == np.floor(target)))
    if units > 1 and is_whole and target.shape in (shape[:-1], (*shape[:-1], 1)):
        kind, reason = keras.losses.SparseCategoricalCrossentropy, f"integer labels for {units} units"
    elif target.shape != shape and not (units == 1 and target.shape == shape[:-1]):
        raise UserError(
            f"the targets of output {name} have shape {target.shape} but its predictions {shape}; "
            "give one integer label a sample, or targets of the predictions' shape"
        )
    elif np.isin(target, (0, 1)).all() and (units == 1 or last == "sigmoid"):
        kind, reason = keras.losses.BinaryCrossentropy, "labels 0 and 1 for each unit"
    elif units > 1 and _are_distributions(target):
        kind, reason = keras.losses.CategoricalCrossentropy, f"one-hot labels for {units} units"
    else:
        return (
            ChosenLoss(name, "mean_squared_error", "numeric targets of the predictions' shape"),
            keras.losses.MeanSquaredError(),
        )
    logits = last == "other"
    return ChosenLoss(name, loss_name(kind()), reason), kind(from_logits=logits)


def last_operation(output: Any) -> str:
    """What an output of an eager call was computed with last: "softmax", "sigmoid" or "other".

    Keras marks the result of both with their logits (`_keras_logits`, private: its cross-entropies
    read it to the same end, keras/src/backend/tensorflow/nn.py; tests/engine/training/test_models.py has the
    canary). Reshaping loses the mark, so rows that are distributions count as a softmax without it.
    """
    values = np.asarray(output)
    if values.shape[-1] > 1 and _are_distributions(values):
        return "softmax"
    return "sigmoid" if hasattr(output, "_keras_logits") else "other"


def _are_distributions(rows: np.ndarray) -> bool:
    """Whether no entry is negative and the last axis sums to 1, within one rounding of each entry."""
    epsilon = 0.0 if rows.dtype.kind in "iub" else float(ml_dtypes.finfo(rows.dtype).eps)
    wide = rows.astype(np.float64)
    return bool(wide.min() >= 0 and (np.abs(wide.sum(axis=-1) - 1) <= rows.shape[-1] * epsilon).all())


def own_loss(model: keras.Model, targets: Any) -> str | None:
    """What the model came with in place of a loss that we would choose."""
    if has_own_step(model):
        return f"{type(model).__name__}.train_step"
    if model.compiled and model.loss is not None:
        return ", ".join(loss_name(loss) for loss in keras.tree.flatten(model.loss) if loss is not None)
    if type(model).compute_loss is not keras.Model.compute_loss:
        return f"{type(model).__name__}.compute_loss"
    if targets is None and model.losses:
        return "add_loss"
    return None


def _output_specs(model: keras.Model, outputs: Any) -> tuple[OutputSpec, ...]:
    """A name and a shape for each output, in the order of keras.tree.flatten."""
    signature = signature_of(model)
    if signature is not None:
        return signature.outputs
    flat = keras.tree.flatten(outputs)
    if isinstance(outputs, dict) and len(flat) == len(outputs):
        names = sorted(outputs)  # as keras.tree sorts them
    else:
        names = ["output"] if len(flat) == 1 else [f"output_{index}" for index in range(len(flat))]
    return tuple(OutputSpec(name, tuple(value.shape[1:])) for name, value in zip(names, flat, strict=True))


def _choose_losses(
    specs: tuple[OutputSpec, ...], outputs: Any, targets: Any
) -> list[tuple[ChosenLoss, keras.losses.Loss]]:
    if targets is None:
        raise UserError("the data has no targets and the model no loss of its own; give (x, y), or compile it")
    pairs = zip(pair(targets, specs, "targets"), keras.tree.flatten(outputs), strict=True)
    return [choose_loss(spec.name, output, target) for (_, target, spec), output in pairs]


def _describe(model: keras.Model, losses: list[ChosenLoss], specs: tuple[OutputSpec, ...]) -> Training:
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    optimizer = model.optimizer.inner_optimizer if scaled else model.optimizer
    return Training(
        losses=tuple(losses),
        optimizer=type(optimizer).__name__,
        policy=model.dtype_policy.name,
        num_classes=tuple(spec.num_classes for spec in specs),
    )
