"""The training data that a person names, or that are made up for the model, checked at the door."""

from __future__ import annotations

import operator
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diag.common.archives import refuse_unsafe
from diag.common.modes import TRAIN
from diag.common.user_code import call_function, names_function
from diag.common.wording import type_and_message
from diag.engine.step.arrays import array_of
from diag.engine.step.batch import Batch
from diag.engine.training.batches import ArrayBatches, Batches, Samples, StreamBatches
from diag.engine.training.data_checks import check_data, naming
from diag.engine.training.data_generated import generate
from diag.engine.training.data_images import class_folders, image_folder
from diag.engine.training.signature import Signature
from diag.errors import UserError

__all__ = ["ArrayBatches", "Batch", "Batches", "StreamBatches", "image_hints", "load_batches"]

_FORMS = "an .npz file, FILE.py:FUNCTION, package.module:FUNCTION, or a folder of class folders of images"
_MOST_GENERATED_BATCHES = 8  # then they repeat: 69 MB of the motivating CNN's images at batch 32


@dataclass(frozen=True)
class DataUse:
    """What data are for, and whether an `.npz` file may inflate without limit and links lead out of a folder."""

    mode: str = TRAIN
    is_trusted: bool = False

    @property
    def has_targets(self) -> bool:
        return self.mode == TRAIN

    def of(self, batch: Batch) -> Batch:
        """As much of a batch as it takes."""
        return batch if self.has_targets else batch.without_targets()


def load_batches(
    spec: str | None, *, signature: Signature | None, batch_size: int, steps: int, seed: int, use: DataUse = DataUse()
) -> Batches:
    """The data that `--data SPEC` names, checked before any work is done with it.

    Args:
        spec: None for data generated to fit the model; an `.npz` file with x, y and perhaps
            sample_weight, or x_train and y_train, or the model's inputs by name with y or its
            outputs by name; FILE.py:FUNCTION or package.module:FUNCTION returning (x, y), (x, y,
            sample_weight), a batched tf.data.Dataset or a keras.utils.PyDataset; or a folder of
            class folders of images.
        signature: `signature_of(model)`; None for a model that says nothing of its inputs yet,
            which then cannot have data generated for it and is not checked against.
        steps: how many batches will be asked for; more may be.
        seed: of the generated data and of each epoch's order.
        use: to predict, x alone will do, and targets that are given are left out.

    Raises:
        UserError: one line naming the array, file, count or index that is wrong.
    """
    batch_size, steps = _whole(batch_size, 1, "--batch-size"), _whole(steps, 1, "--steps")
    seed = _whole(seed, 0, "--seed")

    def check(batch: Batch) -> None:
        with naming(str(spec)):
            check_data(*batch.parts, signature)

    if spec is None:
        inputs, targets, what = generate(signature, batch_size * min(steps, _MOST_GENERATED_BATCHES), seed, use.mode)
        return ArrayBatches(Samples(use.of(Batch(inputs, targets)), what), batch_size, seed)
    if names_function(spec):
        value = call_function(spec, flag="--data", expected=f"{'(x, y)' if use.has_targets else 'x'} or a data set")
        epoch = _epochs(value)
        if epoch is not None:
            return StreamBatches(
                lambda: (_from_value(element, spec, use) for element in epoch()),
                spec,
                check,
                _is_regular(value, signature),
            )
        samples = Samples(_in_float32(_from_value(value, spec, use), signature), spec)
    elif Path(spec).is_dir():
        samples = _read_folder(Path(spec), signature, batch_size, steps, seed, use.is_trusted)
    else:
        samples = Samples(_in_float32(_read_npz(Path(spec), signature, use), signature), spec)
    samples = replace(samples, batch=use.of(samples.batch))
    check(samples.batch)
    return ArrayBatches(samples, batch_size, seed)


def image_hints(spec: str | None, use: DataUse = DataUse()) -> tuple[tuple[int, int, int] | None, int | None]:
    """The image shape and number of classes for which a model should be made to fit the data.

    None where the data do not say without being loaded; a folder says its classes only, since
    images are resized. For the motivating CNN, whose shape is free.
    """
    if spec is None or names_function(spec):
        return None, None
    if Path(spec).is_dir():
        return None, len(class_folders(Path(spec)))
    batch = _read_npz(Path(spec), None, use)
    x, y = batch.inputs, batch.targets
    shape = (*x.shape[1:], 1)[:3] if isinstance(x, np.ndarray) and x.ndim in (3, 4) else None
    is_labels = isinstance(y, np.ndarray) and y.dtype.kind in "iu" and y.ndim == 1 and y.size > 0
    return shape, max(2, int(y.max()) + 1) if is_labels else None


def _read_folder(
    folder: Path, signature: Signature | None, batch_size: int, steps: int, seed: int, is_trusted: bool
) -> Samples:
    """A folder of images; those that the run will use are read now, so that a bad one is named at once."""
    images, labels, names, notes = image_folder(folder, signature, batch_size, is_trusted)
    samples = Samples(Batch(images, labels), str(folder), names, notes)
    batches = ArrayBatches(samples, batch_size, seed)
    in_an_epoch = min(steps, -(-len(labels) // batch_size))
    images.verify(np.concatenate([batches.indices(step) for step in range(in_an_epoch)]))
    return samples


def _read_npz(path: Path, signature: Signature | None, use: DataUse) -> Batch:
    if path.suffix != ".npz":
        state = "" if path.exists() else ", and there is no such file"
        raise UserError(f"--data {path} is neither {_FORMS}{state}; give one of these")
    if not path.is_file():
        raise UserError(f"--data {path}: there is no such file in {Path.cwd()}; expected {_FORMS}")
    try:
        with zipfile.ZipFile(path) as archive, naming(str(path)):
            refuse_unsafe(archive, path.stat().st_size, use.is_trusted)
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: np.asarray(file[key]) for key in file.files}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        hint = "; arrays of dtype object cannot be read" if "allow_pickle" in str(error) else ""
        raise UserError(f"--data {path} cannot be read as .npz: {type_and_message(error)}{hint}") from error
    return _from_names(arrays, path, signature, use)


def _from_names(arrays: dict[str, np.ndarray], path: Path, signature: Signature | None, use: DataUse) -> Batch:
    """x and y, or x_train and y_train, or the model's own names; to predict, x of any of these."""
    weight = arrays.get("sample_weight")
    for x, y in (("x", "y"), ("x_train", "y_train")):
        if x in arrays and (y in arrays or not use.has_targets):
            return Batch(arrays[x], arrays.get(y), weight)
    expected = "x and y, x_train and y_train" if use.has_targets else "x"
    if signature is not None:
        inputs, outputs = ([spec.name for spec in specs] for specs in (signature.inputs, signature.outputs))
        targets = outputs if all(name in arrays for name in outputs) else ["y"]
        if not use.has_targets and all(name in arrays for name in inputs):
            return Batch(_by_name(arrays, inputs, signature.input_form))
        if all(name in arrays for name in [*inputs, *targets]):
            form = "single" if targets == ["y"] else signature.output_form
            return Batch(_by_name(arrays, inputs, signature.input_form), _by_name(arrays, targets, form), weight)
        expected += f", or {', '.join(inputs)}"
        expected += f" with y or {', '.join(outputs)}" if use.has_targets else ""
    raise UserError(f"--data {path} holds {', '.join(arrays) or 'no arrays'}; expected {expected}")


def _by_name(arrays: dict[str, np.ndarray], names: list[str], form: str) -> Any:
    if form == "dict":
        return {name: arrays[name] for name in names}
    return arrays[names[0]] if form == "single" else tuple(arrays[name] for name in names)


def _epochs(value: Any) -> Callable[[], Iterator[Any]] | None:
    """What starts an epoch of a tf.data.Dataset or PyDataset; None for anything else."""
    if hasattr(value, "as_numpy_iterator"):
        return lambda: iter(value)
    import keras

    if isinstance(value, keras.utils.PyDataset):
        return lambda: (value[index] for index in range(value.num_batches))
    return None


def _is_regular(value: Any, signature: Signature | None) -> bool:
    """Whether data set or model say that batches are all of one shape, but for their number of samples."""
    import keras

    if signature is not None:
        sizes = [size for specs in (signature.inputs, signature.outputs) for spec in specs for size in spec.shape]
        if None not in sizes:
            return True
    shapes = [spec.shape for spec in keras.tree.flatten(getattr(value, "element_spec", None)) if spec is not None]
    return bool(shapes) and all(shape.rank and shape[1:].is_fully_defined() for shape in shapes)


def _from_value(value: Any, spec: str, use: DataUse) -> Batch:
    """What a person's function or data set gave; to predict, what is no tuple is x, as Keras has it."""
    if use.has_targets:
        return _from_tuple(value, spec)
    x = value[0] if isinstance(value, tuple) and 1 <= len(value) <= 3 else value
    return Batch(_as_arrays(x, "inputs", spec)).without_targets()


def _from_tuple(value: Any, spec: str) -> Batch:
    """(x, y) or (x, y, sample_weight), each an array, tensor or list of numbers, or nested arrays."""
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        given = f"{len(value)} values" if isinstance(value, (tuple, list)) else f"a {type(value).__name__}"
        raise UserError(
            f"--data {spec} gave {given}; expected (x, y), (x, y, sample_weight), a tf.data.Dataset of "
            "these or a keras.utils.PyDataset"
        )
    names = ("inputs", "targets", "sample_weight")
    return Batch(*(_as_arrays(part, name, spec) for part, name in zip(value, names, strict=False)))


def _as_arrays(part: Any, name: str, spec: str) -> Any:
    """NumPy arrays in the same nesting; a list of plain numbers is an array, not a nesting."""
    if isinstance(part, dict):
        return {key: _as_arrays(value, f"{name}/{key}", spec) for key, value in part.items()}
    if isinstance(part, (list, tuple)) and any(len(getattr(value, "shape", ())) for value in part):
        return tuple(_as_arrays(value, f"{name}/{index}", spec) for index, value in enumerate(part))
    if part is None:
        return None
    try:
        array = array_of(part)
    except (TypeError, ValueError) as error:
        raise UserError(f"--data {spec}: {name} cannot be made an array: {type_and_message(error)}") from error
    if array.dtype.kind == "O":
        raise UserError(
            f"--data {spec}: {name} is an array of objects, such as rows of different lengths; expected numbers or "
            "texts, or a tf.RaggedTensor: tf.ragged.constant(rows)"
        )
    return array


def _in_float32(batch: Batch, signature: Signature | None) -> Batch:
    """Floats in Keras's default, as model.fit gives them; float64 for a model that takes float64."""
    takes_float64 = signature is not None and any(spec.dtype == "float64" for spec in signature.inputs)
    wanted = np.float64 if takes_float64 else np.float32

    def converted(array: np.ndarray) -> np.ndarray:
        return array.astype(wanted, copy=False) if array.dtype.kind == "f" else array

    with np.errstate(over="ignore"):  # what float32 cannot hold is refused as Inf by the checks
        return batch.mapped(converted)


def _whole(value: Any, least: int, flag: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise UserError(f"{flag} is {value}; expected a whole number of at least {least}")
    return number
