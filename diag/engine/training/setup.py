"""Model, data and what to do with them out of what a person named, checked once at the door."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from diag.common.modes import PREDICT, TRAIN
from diag.common.wording import first_few
from diag.engine.step.batch import Batch
from diag.engine.step.keras_steps import has_own_step
from diag.engine.step.program import Program
from diag.engine.step.tracing import Programs, flat_batch, key_of
from diag.engine.training.data import Batches, DataUse, image_hints, load_batches
from diag.engine.training.fit_calls import FitCall
from diag.engine.training.given_texts import GivenTexts, without_texts
from diag.engine.training.kept_batches import KeptBatches
from diag.engine.training.models import apply_policy, build_on, build_optimizer, load_model, own_loss, prepare_training
from diag.engine.training.second_model import SecondModel, TracedModel, load_second, paired
from diag.engine.training.signature import signature_of
from diag.errors import UserError


@dataclass(frozen=True)
class Trained:
    """What a run does: the step of a built model for each batch, and its batches."""

    model: keras.Model | None  # None: the step was recorded, and needs none
    programs: Callable[[Batch], Program]
    batches: Any
    config: dict[str, Any] | None
    model_description: str
    data_description: str
    notes: tuple[str, ...]
    longest: tuple[Program, ...] = ()  # whose tensors are, together, the longest of the run; empty: the first's
    second: SecondModel | None = None  # whose weights the candidate has


@dataclass(frozen=True)
class Traced:
    """How a step is traced: in which dtype policy, whether for XLA to compile, and what it does with a batch."""

    policy: str | None = None
    is_xla: bool = False
    mode: str = TRAIN


@dataclass(frozen=True)
class Named:
    """The model and the data that a person named, None for our own.

    is_trusted: the model's file may bring code, as in `load_model`, and the data be as in `load_batches`.
    second: the model whose weights the candidate predicts with, None for the same.
    """

    model: str | None = None
    data: str | None = None
    is_trusted: bool = False
    second: str | None = None


def set_up(named: Named, batch_size: int, steps: int, seed: int, traced: Traced = Traced()) -> Trained:
    """Load model and data, to train also choose loss and optimizer; raises UserError for what cannot be run so."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    use = DataUse(traced.mode, named.is_trusted)
    shape, classes = image_hints(named.data, use)
    with apply_policy(traced.policy), tf.device("CPU:0"):
        model = load_model(
            named.model, image_shape=shape or (150, 150, 3), num_classes=classes or 2, is_trusted=named.is_trusted
        )
        batches = load_batches(
            named.data, signature=signature_of(model), batch_size=batch_size, steps=steps, seed=seed, use=use
        )
        by, rebuilt = _trained_by(named, model, batches) if traced.mode == TRAIN else _predicted_by(model, batches)
    programs, given, notes = without_texts(Programs(model, traced.is_xla, traced.mode), batches)
    description, program = batches.description, programs(given[0])
    second = _second(named, traced, seed, batches, TracedModel(model, program, given[0]))
    return Trained(
        model,
        programs,
        given,
        model_config(model),
        described(model, by, traced.mode) + ("" if second is None else f", against {second.name}"),
        f"{description.source}: {description.num_samples} samples",
        (*description.notes, *rebuilt, *notes, *_untrained(program)),
        _longest(programs, given, batches.longest(steps), steps),
        second,
    )


def _second(named: Named, traced: Traced, seed: int, batches: Batches, first: TracedModel) -> SecondModel | None:
    """The model that is compared with the first, None where there is none."""
    if named.second is None:
        return None
    with apply_policy(traced.policy):
        model = load_second(named.second, batches[0].inputs, seed, named.is_trusted)
    programs, given, _ = without_texts(Programs(model, traced.is_xla, traced.mode), batches)
    return paired(named.second, first, TracedModel(model, programs(given[0]), given[0]))


def _trained_by(named: Named, model: keras.Model, batches: Batches) -> tuple[str, tuple[str, ...]]:
    """Loss and optimizer, made ready: their names, and what there is to say of them."""
    training = prepare_training(model, batches[0].inputs, batches[0].targets)
    batches.check_labels(training.num_classes)
    if not model.trainable_variables:
        raise UserError(
            f"--model {named.model}: the model has no trainable weights, so there is no training step; --mode predict "
            "compares what it computes"
        )
    losses = ", ".join(loss.name for loss in training.losses)
    return f"{losses}, {training.optimizer}", build_optimizer(model)


def _predicted_by(model: keras.Model, batches: Batches) -> tuple[str, tuple[str, ...]]:
    """The model is built; neither loss nor optimizer is asked for."""
    if not has_own_step(model, PREDICT):
        build_on(model, batches[0].inputs)
    return _by(model, None, PREDICT), ()


def as_called(
    call: FitCall, batches: KeptBatches, source: str, notes: tuple[str, ...], is_xla: bool = False
) -> Trained:
    """What a call trains or predicts, as it is at that moment; `source` names the script; is_xla as in `Traced`.

    Raises:
        UserError: it cannot be traced as one step.
    """
    model = call.model
    traced = Programs(model, is_xla, call.mode)
    traced(batches[0])  # builds what is not built
    programs, given, texts = without_texts(traced, batches)
    notes = (*notes, *texts, *_untrained(programs(given[0])))
    if call.arguments.get("callbacks"):
        notes = (*notes, "callbacks are not called: what they change, such as the learning rate, is not followed")
    return Trained(
        model,
        programs,
        given,
        model_config(model),
        described(model, _by(model, batches[0].targets, call.mode), call.mode),
        f"{source}: {len(batches)} batches of {call.method}, {batches.size}",
        notes,
        _longest(programs, given, batches.longest, len(batches)),
    )


def _by(model: keras.Model, targets: Any, mode: str) -> str:
    """What a model as it is trains by, loss and optimizer, or what predicts."""
    if mode == PREDICT:
        return f"{type(model).__name__}.predict_step" if has_own_step(model, PREDICT) else "predict"
    loss = own_loss(model, targets) or "losses of the model's own"
    return loss if has_own_step(model) else f"{loss}, {type(model.optimizer).__name__}"


def _untrained(program: Program) -> tuple[str, ...]:
    """What to say of weights that no gradient reaches."""
    names = program.without_gradient
    few = first_few(names, 4)
    text = f"no gradient reaches {len(names)} of the weights, and `fit` trains them no more than this does: {few}"
    return (text,) if names else ()


def _longest(
    programs: Callable[[Batch], Program], given: Any, longest: Batch | None, steps: int
) -> tuple[Program, ...]:
    """The programs of a run whose tensors are the longest; none where that is the first."""
    if isinstance(given, GivenTexts):
        return given.all_programs(steps)
    if longest is None or key_of(flat_batch(longest)) == key_of(flat_batch(given[0])):
        return ()
    return (programs(longest),)


def described(model: keras.Model, by: str, mode: str = TRAIN) -> str:
    """Its name and size; by: loss and optimizer, or what predicts."""
    counted = model.trainable_variables if mode == TRAIN else model.weights
    weights = sum(int(weight.value.shape.num_elements() or 1) for weight in counted)
    return f"{model.name}: {len(model.layers)} layers, {weights:,} weights, {by}"


def model_config(model: Any) -> dict[str, Any]:
    """The model's own configuration, or why it has none."""
    try:
        return json.loads(model.to_json())  # type: ignore[no-any-return]
    except Exception as error:
        return {"class": type(model).__name__, "no_config": f"{type(error).__name__}: {error}"}
