"""Model, program and batches of one run of a study, out of what was named."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from diag.common.user_code import FORMS, names_function
from diag.common.wording import did_you_mean
from diag.engine.step.batch import Batch
from diag.engine.step.program import Program
from diag.engine.step.tracing import Programs
from diag.engine.training.batches import ArrayBatches, Batches, Samples
from diag.engine.training.data import DataUse, image_hints, load_batches
from diag.engine.training.models import apply_policy, build_optimizer, load_model, prepare_training
from diag.engine.training.signature import signature_of
from diag.errors import UserError
from diag.study.presets import PRESETS
from diag.study.run_request import Trainable
from diag.study.shapes import NUM_CLASSES, shapes

FLOAT64 = "float64"
GENERATED = "generated shapes"


@dataclass(frozen=True)
class Ready:
    """What is trained: batch k of `training` is that of step k; `validation` is read in order.

    initial: the values of the first program's variables before the first step.
    """

    model: keras.Model
    programs: Programs
    training: ArrayBatches
    validation: Batch
    initial: list[Any]

    @property
    def program(self) -> Program:
        return self.programs(self.training[0])

    @property
    def steps_per_epoch(self) -> int:
        return self.training.steps_per_epoch


def ready(what: Trainable, policy: str, seed: int) -> Ready:
    """Load model and data, choose loss and optimizer; for one seed the same weights and batches in every policy.

    Raises UserError for what cannot be trained.
    """
    if policy == FLOAT64:  # what an initializer draws in float64 is another stream of numbers
        weights = [np.asarray(weight) for weight in ready(what, "float32", seed).model.weights]
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    with apply_policy(policy), tf.device("CPU:0"):
        model = _model(what)
        batches = _batches(what, what.data, model, seed)
        first = batches[0]
        if any(np.asarray(array).dtype.kind in "SUO" for array in first.as_dict().values()):
            raise UserError(f"--data {what.data}: a study takes no texts; map them to numbers in the data")
        training = prepare_training(model, first.inputs, first.targets)
        batches.check_labels(training.num_classes)
        if not model.trainable_variables:
            raise UserError(f"--model {what.model}: the model has no trainable weights; a study trains it")
        build_optimizer(model)
        if policy == FLOAT64:
            model.set_weights(weights)
    whole = batches.samples()
    chosen, held_out = _split(what, whole.num_samples)
    if what.validation is None:
        validation = _part(whole, held_out)
    else:
        try:
            others = _batches(what, what.validation, model, seed)
            others.check_labels(training.num_classes)
        except UserError as error:
            raise UserError(str(error).replace("--data", "--validation", 1)) from error
        validation = others.samples()
    source = what.data or GENERATED
    programs = Programs(model)
    trained = ArrayBatches(Samples(_part(whole, chosen), source), what.batch_size, seed)
    return Ready(model, programs, trained, validation, programs(trained[0]).initial_state())


def _model(what: Trainable) -> keras.Model:
    shape, classes = image_hints(what.data, DataUse(is_trusted=what.is_trusted))
    shape, classes = shape or (what.image_size, what.image_size, 3), classes or NUM_CLASSES
    if what.model in PRESETS:
        return PRESETS[what.model](shape, classes)
    if not names_function(what.model) and not Path(what.model).suffix and not Path(what.model).exists():
        raise UserError(
            f"--model {what.model}: expected one of {', '.join(PRESETS)}, {FORMS}, or a .keras file"
            f"{did_you_mean(what.model, PRESETS)}"
        )
    return load_model(what.model, image_shape=shape, num_classes=classes, is_trusted=what.is_trusted)


def _batches(what: Trainable, spec: str | None, model: keras.Model, seed: int) -> Batches:
    signature = signature_of(model)
    if spec is not None:
        return load_batches(
            spec,
            signature=signature,
            batch_size=what.batch_size,
            steps=1,
            seed=seed,
            use=DataUse(is_trusted=what.is_trusted),
        )
    sizes = [spec.shape for spec in signature.inputs] if signature is not None else []
    if len(sizes) != 1 or len(sizes[0]) != 3 or sizes[0][0] != sizes[0][1] or sizes[0][2] != 3:
        found = ", ".join(map(str, sizes)) or "inputs that it does not name"
        raise UserError(
            f"--model {what.model} takes {found}; the generated images are square, of 3 channels: give --data"
        )
    images, labels = shapes(what.num_samples, int(sizes[0][0] or what.image_size), seed=0)  # one data set for all seeds
    return ArrayBatches(Samples(Batch(images, labels), GENERATED), what.batch_size, seed)


def _split(what: Trainable, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Which samples are trained on, and which are held out, alike in every run; by chance, for data may be sorted."""
    if what.validation is not None:
        return np.arange(num_samples), np.arange(0)
    order = np.random.default_rng(0).permutation(num_samples)
    num_held_out = math.ceil(num_samples * what.validation_split)
    if num_held_out >= num_samples:
        raise UserError(
            f"--validation-split {what.validation_split:g} of {num_samples} samples leaves none to train on; give more "
            "data or a smaller share"
        )
    return np.sort(order[num_held_out:]), np.sort(order[:num_held_out])


@dataclass(frozen=True)
class Chosen:
    """Some samples of an array, or of what reads them when indexed."""

    array: Any
    indices: np.ndarray

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype  # type: ignore[no-any-return]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.indices), *self.array.shape[1:])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return np.asarray(self.array[self.indices[indices]])


def _part(whole: Batch, indices: np.ndarray) -> Batch:
    return whole.mapped(lambda array: Chosen(array, indices))
