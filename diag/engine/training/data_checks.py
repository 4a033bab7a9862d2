"""What is refused at the door: data that could not train the model, or would only show NaN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from diag.engine.step.arrays import numbers_of
from diag.engine.step.batch import leaves
from diag.engine.training.signature import InputSpec, OutputSpec, Signature, pair
from diag.errors import UserError


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Puts what was given before the messages of the checks inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"--data {source}: {error}") from error


def check_data(inputs: Any, targets: Any, sample_weight: Any, signature: Signature | None = None) -> None:
    """Checks a batch, or a whole data set, against itself and against the model.

    Arrays that read their files only when indexed (images) are taken at their shape.

    Raises:
        UserError: dtypes that are not numbers, another number of samples in two arrays or none,
            shapes that do not fit the model's inputs, NaN or Inf, tokens that the Embedding has
            no row for, labels that are no class. One line, with the array, count and index.
    """
    parts = {"inputs": inputs, "targets": targets, "sample_weight": sample_weight}
    arrays = {path: array for name, part in parts.items() for path, array in leaves(part, name)}
    for path, array in arrays.items():
        _check_dtype(path, array)
    _check_lengths(arrays)
    if signature is not None:
        for path, array, spec in pair(inputs, signature.inputs, "inputs"):
            _check_shape(path, array, spec)
    for path, array in arrays.items():
        _check_finite(path, array)
    if signature is not None:
        _check_tokens(inputs, signature)
        _check_classes(targets, signature)


def check_labels(targets: Any, num_classes: Sequence[int | None]) -> None:
    """Checks integer labels, (samples,) or (samples, 1), against the number of classes of each output.

    Outputs without a number of classes, or more or fewer than there are targets, are not checked.

    Raises:
        UserError: a label out of range, with its index.
    """
    arrays = list(leaves(targets, "targets"))
    if len(arrays) != len(num_classes):
        return
    for (path, array), classes in zip(arrays, num_classes, strict=True):
        if classes is not None and array.shape[1:] in ((), (1,)) and _is_whole(array):
            _check_range(path, array, classes, "label", f"there are {classes} classes")


def _check_dtype(path: str, array: Any) -> None:
    name = str(array.dtype)
    if array.dtype.kind == "S" and path.startswith("inputs"):
        pass  # texts, for a layer that looks them up
    elif array.dtype.kind not in "fiub" and name not in {"bfloat16", "float8_e4m3fn", "float8_e5m2"}:
        raise UserError(f"{path} has dtype {name}; expected floats, integers or booleans; convert it first")
    if len(array.shape) == 0:
        raise UserError(f"{path} is a single number; expected one entry a sample; is the data set batched?")


def _check_lengths(arrays: dict[str, Any]) -> None:
    """As many samples in every array, and at least one."""
    lengths = {path: int(array.shape[0]) for path, array in arrays.items()}
    if not lengths:
        raise UserError("there are no arrays in it; expected inputs and targets")
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{path} has {length}" for path, length in lengths.items())
        raise UserError(f"{counts} samples; expected as many in each")
    if 0 in lengths.values():
        raise UserError("there are no samples in it; expected at least one")


def _check_shape(path: str, array: Any, spec: InputSpec) -> None:
    """An axis of size 1 at the end may be there or not, as for Keras itself."""
    shape = tuple(array.shape[1:])
    accepted = [shape, (*shape, 1)] + ([shape[:-1]] if shape[-1:] == (1,) else [])
    if not any(_fits(candidate, spec.shape) for candidate in accepted):
        unbatched = "; is the data set batched?" if _fits(tuple(array.shape), spec.shape) else ""
        raise UserError(
            f"{path} has shape {_written(array.shape)}; the model's input {spec.name} takes "
            f"{_written((None, *spec.shape))}{unbatched}"
        )


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(size in (None, given) for given, size in zip(shape, wanted, strict=True))


def _written(shape: tuple[int | None, ...]) -> str:
    """A shape as Keras prints it, None where any size will do: `(None, 32, 32, 3)`."""
    return str(tuple(None if size is None else int(size) for size in shape))


def _check_finite(path: str, array: Any) -> None:
    array = numbers_of(array)
    if not isinstance(array, np.ndarray) or array.dtype.kind in "iubS":
        return
    finite = np.isfinite(array)
    if finite.all():
        return
    num_nan = int(np.isnan(array).sum())
    num_inf = int(array.size - finite.sum()) - num_nan
    index = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), array.shape))
    counts = " and ".join(f"{n} {name}" for n, name in ((num_nan, "NaN"), (num_inf, "Inf")) if n)
    raise UserError(
        f"{path} holds {counts} among {array.size} {array.dtype} values, the first at index {index}; "
        "remove or replace them: nothing can be learned about a device from them"
    )


def _check_range(path: str, array: Any, limit: int, what: str, reason: str, ignored: int | None = None) -> None:
    """Whole numbers from 0 to limit - 1."""
    array = numbers_of(array)
    bad = (array < 0) | (array >= limit)
    if ignored is not None:
        bad &= array != ignored
    if bad.any():
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), array.shape))
        value = array[index].item()
        place = index[0] if len(index) == 1 else index
        raise UserError(
            f"{path} holds {int(bad.sum())} {what}{'s' if bad.sum() > 1 else ''} out of range, the first "
            f"{value:g} at index {place}; {reason}: expected 0 to {limit - 1}"
        )


def _check_tokens(inputs: Any, signature: Signature) -> None:
    """A GPU gives zeros for a token that the Embedding has no row for, where the CPU stops."""
    for path, array, spec in pair(inputs, signature.inputs, "inputs"):
        if spec.num_tokens is not None:
            rows = f"the Embedding has {spec.num_tokens} rows"
            _check_range(path, array, spec.num_tokens, "token", rows)


def _check_classes(targets: Any, signature: Signature) -> None:
    """Class labels against the classes of each output, where the targets are labels."""
    is_compiled = any(spec.loss for spec in signature.outputs)
    if targets is None or (is_compiled and len(list(leaves(targets, ""))) != len(signature.outputs)):
        return  # the model's own loss may leave outputs without targets
    for path, array, spec in pair(targets, signature.outputs, "targets"):
        classes = spec.num_classes
        if classes is not None and _are_labels(array, spec):
            reason = f"the model's output {spec.name} has {classes} classes"
            _check_range(path, array, classes, "label", reason, spec.ignored_class)


def _are_labels(array: np.ndarray, spec: OutputSpec) -> bool:
    """Whether targets are one label a prediction: whole numbers without an axis for the units."""
    shape = tuple(array.shape[1:])
    is_shaped = _fits(shape, spec.shape[:-1]) or _fits(shape, (*spec.shape[:-1], 1))
    return is_shaped and _is_whole(array)


def _is_whole(array: np.ndarray) -> bool:
    return array.dtype.kind in "iub" or bool(np.all(numbers_of(array) == np.floor(numbers_of(array))))
