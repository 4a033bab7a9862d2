"""A second model, whose weights the candidate computes with: it has to be of the first one's architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from diag.common.modes import PREDICT
from diag.common.text import as_text
from diag.engine.graphs.locations import PREDICT_LAYER
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.step.batch import Batch
from diag.engine.step.keras_steps import has_own_step
from diag.engine.step.program import Program
from diag.engine.step.same_steps import StepDifference, first_difference, in_few_words, paired_variables
from diag.engine.step.tracing import flat_batch
from diag.engine.training.model_files import MODEL_FLAG
from diag.engine.training.models import build_on, load_model
from diag.engine.training.signature import all_layers
from diag.errors import UserError

FLAG = "--candidate-model"
MOST_SETTINGS = 3  # of a layer, in a sentence


@dataclass(frozen=True)
class SecondModel:
    """The values of the first model's variables in the second, by the first one's index, where prediction reads them.

    name: as it was named.
    """

    name: str
    values: dict[int, np.ndarray]


@dataclass(frozen=True)
class TracedModel:
    """A model, what it predicts of the first batch, and that batch."""

    model: keras.Model
    program: Program
    batch: Batch


def load_second(spec: str, inputs: Any, seed: int, is_trusted: bool) -> keras.Model:
    """The model that `--candidate-model SPEC` names, built.

    Raises:
        UserError: it cannot be read, or takes no such inputs.
    """
    keras.utils.set_random_seed(seed)  # a function that makes a model makes the same one twice
    with tf.device("CPU:0"):
        model = load_model(spec, is_trusted=is_trusted, flag=FLAG)
        if not has_own_step(model, PREDICT):
            build_on(model, inputs)
    return model


def paired(spec: str, first: TracedModel, second: TracedModel) -> SecondModel:
    """The second model by the variables of the first.

    Raises:
        UserError: it predicts by another computation than the first, with the first layer that differs.
    """
    program, other = first.program, second.program
    if found := first_difference(program, other):
        raise UserError(
            f"{FLAG} {spec}: it is not of the architecture of {MODEL_FLAG}: {_in_words(found, first, second)}; "
            "expected two models that differ in their weights alone: give the one the other's layers and settings"
        )
    pairs = zip(flat_batch(first.batch), flat_batch(second.batch), strict=True)
    if not all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs):
        raise UserError(
            f"{FLAG} {spec}: it makes other numbers of the texts of the first batch than {MODEL_FLAG} does; expected "
            "two models with one vocabulary"
        )
    values = {i: to_numpy(other.keras_variables[j].value) for i, j in paired_variables(program, other).items()}
    return SecondModel(spec, {i: value for i, value in values.items() if not _is_seed(program, i)})


def _is_seed(program: Program, index: int) -> bool:
    """The state of a random stream is no weight: both lanes go on with the reference's."""
    return program.variables[index].name.endswith("seed_generator_state")


def _in_words(found: StepDifference, first: TracedModel, second: TracedModel) -> str:
    names = ["the end" if n is None else n.location.layer or PREDICT_LAYER for n in (found.first, found.second)]
    where = f"layer {names[0]}" if names[0] == names[1] else f"layer {names[0]}, there {names[1]}"
    a, b = (_layer_of(each.model, name) for each, name in zip((first, second), names, strict=True))
    return as_text(f"first at {where}: {_settings_that_differ(a, b) or found.what}")


def _layer_of(model: keras.Model, label: str) -> Any:
    """The layer that a label names, None where there is none."""
    return next((layer for layer in all_layers(model) if layer.name == label.split("/")[-1]), None)


def _settings_that_differ(a: Any, b: Any) -> str:
    """`epsilon 0.001 and 1e-05`, of what two layers of one kind were made with; "" of others."""
    if type(a) is not type(b):
        return ""
    try:
        first, second = ({**layer.get_config(), "name": "", "trainable": True} for layer in (a, b))
    except (AttributeError, NotImplementedError):
        return ""
    settings = [(key, value, second[key]) for key, value in first.items() if second.get(key, value) != value]
    return ", ".join(f"{key} {in_few_words(x)} and {in_few_words(y)}" for key, x, y in settings[:MOST_SETTINGS])
