"""Data made up to fit a model, so that it can be tried with none of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from diag.common.modes import PREDICT, TRAIN
from diag.engine.training.signature import InputSpec, OutputSpec, Signature
from diag.errors import UserError

# What targets each of Keras's losses takes.
_LABELS = {"sparse_categorical_crossentropy", "crossentropy"}
_ONE_HOT = {"categorical_crossentropy", "categorical_focal_crossentropy", "categorical_hinge", "kl_divergence"}
_BINARY = {"binary_crossentropy", "binary_focal_crossentropy", "hinge", "squared_hinge", "dice", "tversky"}
_VALUES = {"mean_squared_error", "mean_absolute_error", "huber", "log_cosh", "cosine_similarity"}
_GIVE_DATA = "give --data"
_NOISE = 0.1  # standard deviation of the images' noise, of values in [0, 1]
# Up to so much of another class's pattern is in an image.  Those with more than half of it, one in six, look like the
# other class: labels as wrong as people's are, so that the loss does not reach zero in a dozen steps, and with it
# every gradient, after which a run has nothing left to compare.
_MIXED = 0.6


def generate(signature: Signature | None, num_samples: int, seed: int, mode: str = TRAIN) -> tuple[Any, Any, str]:
    """Inputs and targets of a model, and what they are, in words.

    A classifier of images gets a smooth pattern for each class under noise, (samples, height, width,
    channels) in [0, 1], which it can learn; any other model gets normal floats and random tokens. Labels are
    balanced and shuffled.  To predict there are no targets, and images are of two classes.

    Raises:
        UserError: the model does not say enough of its inputs, outputs or loss.
    """
    if signature is None:
        raise UserError(f"the model is not built, so no data can be made up for it; {_GIVE_DATA}")
    if "nested" in (signature.input_form, signature.output_form if mode == TRAIN else ""):
        raise UserError(f"no data can be made up for the nested inputs or outputs of the model; {_GIVE_DATA}")
    rng = np.random.default_rng(seed)
    if mode == PREDICT:
        return _generated_inputs(signature, num_samples, rng)
    targets = [_target(spec, signature, num_samples, rng) for spec in signature.outputs]
    first = signature.inputs[0]
    if len(signature.inputs) == 1 and _is_image(first) and _kind(signature.outputs[0], signature) != "values":
        inputs, what = [_images(first, _classes(targets[0]), rng)], "generated images"
    else:
        inputs, what = [_input(spec, num_samples, rng) for spec in signature.inputs], "generated numbers"
    return (
        _packed(inputs, signature.inputs, signature.input_form),
        _packed(targets, signature.outputs, signature.output_form),
        what,
    )


def _generated_inputs(signature: Signature, num_samples: int, rng: np.random.Generator) -> tuple[Any, None, str]:
    """Of any model, whatever its outputs are."""
    first, what = signature.inputs[0], "generated numbers"
    if len(signature.inputs) == 1 and _is_image(first):
        inputs, what = [_images(first, _balanced((num_samples,), 2, rng), rng)], "generated images"
    else:
        inputs = [_input(spec, num_samples, rng) for spec in signature.inputs]
    return _packed(inputs, signature.inputs, signature.input_form), None, what


def _classes(target: np.ndarray) -> np.ndarray:
    """The class of each sample, (samples,), from labels or one-hot or binary targets."""
    rows = target.reshape(len(target), -1)
    return (rows[:, 0] if rows.shape[1] == 1 else rows.argmax(axis=-1)).astype(int)


def _images(spec: InputSpec, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A plane wave for each class and channel, of its own direction, frequency and phase; part of another's; noise."""
    height, width, channels = _sizes(spec)
    num_classes = int(labels.max()) + 1
    waves = rng.uniform(1, 4, (2, num_classes, channels)) * rng.choice((-1, 1), (2, num_classes, channels))
    phase = rng.uniform(0, 2 * np.pi, (num_classes, channels))
    y, x = np.arange(height)[:, None, None] / height, np.arange(width)[None, :, None] / width
    images = np.empty((len(labels), height, width, channels), np.float32)
    others = (labels + rng.integers(1, max(num_classes, 2), labels.shape)) % num_classes
    shares = rng.uniform(0, _MIXED, labels.shape)
    for index, (label, other, share) in enumerate(zip(labels, others, shares, strict=True)):
        own, foreign = (np.sin(2 * np.pi * (waves[0, c] * y + waves[1, c] * x) + phase[c]) for c in (label, other))
        wave = (1 - share) * own + share * foreign
        images[index] = 0.5 + 0.25 * wave + _NOISE * rng.standard_normal(images.shape[1:], np.float32)
    return np.clip(images, 0, 1, out=images)


def _input(spec: InputSpec, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    shape = (num_samples, *_sizes(spec))
    if spec.draw_below is not None:
        return rng.integers(0, spec.draw_below, shape, np.int32)
    if "float" not in spec.dtype:
        raise UserError(
            f"no data can be made up for the model's input {spec.name}, of dtype {spec.dtype}, with no "
            f"Embedding to say how large its numbers may be; {_GIVE_DATA}"
        )
    return rng.standard_normal(shape, np.float32)


def _target(spec: OutputSpec, signature: Signature, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    kind = _kind(spec, signature)
    shape = (num_samples, *_sizes(spec))
    if kind == "values":
        return rng.standard_normal(shape, np.float32)
    if kind == "binary":
        return _balanced(shape, 2, rng).astype(np.float32)
    labels = _balanced(shape[:-1], shape[-1], rng)
    return np.eye(shape[-1], dtype=np.float32)[labels] if kind == "one-hot" else labels


def _balanced(shape: tuple[int, ...], num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Labels, as many of each class as can be, in random order."""
    return rng.permutation(np.arange(int(np.prod(shape)), dtype=np.int32) % num_classes).reshape(shape)


def _kind(spec: OutputSpec, signature: Signature) -> str:
    """The targets that fit an output: "labels", "one-hot", "binary" or "values"."""
    kinds = {"labels": _LABELS, "one-hot": _ONE_HOT, "binary": _BINARY, "values": _VALUES}
    if spec.loss is not None:
        for kind, losses in kinds.items():
            if spec.loss in losses:
                return kind
        raise UserError(f"no targets can be made up for the model's loss {spec.loss}; {_GIVE_DATA}")
    units = _sizes(spec)[-1] if spec.shape else 1
    if spec.activation == "sigmoid":
        return "binary"
    if units == 1:
        return "values"
    reads_tokens = any(source.draw_below is not None for source in signature.inputs)
    is_classifier = spec.activation == "softmax" or len(spec.shape) == 1 or reads_tokens
    return "labels" if is_classifier else "values"


def _is_image(spec: InputSpec) -> bool:
    return len(spec.shape) == 3 and spec.shape[-1] in (1, 3, 4) and "float" in spec.dtype


def _sizes(spec: InputSpec | OutputSpec) -> tuple[int, ...]:
    sizes = tuple(size for size in spec.shape if size is not None)
    if len(sizes) < len(spec.shape):
        raise UserError(
            f"no data can be made up for the model's {spec.name}, whose shape {(None, *spec.shape)} leaves "
            f"a size open; {_GIVE_DATA}"
        )
    return sizes


def _packed(arrays: list[np.ndarray], specs: tuple[Any, ...], form: str) -> Any:
    """The arrays in the form that the model itself has: one, a tuple, or a dict by name."""
    if form == "dict":
        return {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
    return arrays[0] if form == "single" else tuple(arrays)
