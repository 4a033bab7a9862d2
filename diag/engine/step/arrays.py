"""What a batch holds: NumPy's arrays, texts as bytes, ragged and sparse tensors as the arrays that they are held in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class CompositeArray:
    """A tf.RaggedTensor or tf.SparseTensor outside of TensorFlow.

    spec: its TypeSpec, of any number of samples.  shape: None along ragged axes.  components: by name `values` and
    `row_splits`, of each ragged axis from the outermost on; or `indices` (num_values, rank), `values` and
    `dense_shape` (rank,).
    """

    spec: Any
    shape: tuple[int | None, ...]
    components: dict[str, np.ndarray]

    @property
    def values(self) -> np.ndarray:
        return self.components["values"]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.components.values())

    def __len__(self) -> int:
        return int(self.shape[0] or 0)

    def __getitem__(self, rows: np.ndarray) -> CompositeArray:
        """The samples of these indices, in their order."""
        if isinstance(self.spec, tf.RaggedTensorSpec):
            return composite_array(tf.gather(self.tensor(), rows))
        row_of = np.full(len(self), -1)
        row_of[rows] = np.arange(len(rows))
        indices, values = self.components["indices"].copy(), self.values
        indices[:, 0] = row_of[indices[:, 0]]
        indices, values = indices[indices[:, 0] >= 0], values[indices[:, 0] >= 0]
        chosen = tf.SparseTensor(indices, values, [len(rows), *self.components["dense_shape"][1:]])
        return composite_array(tf.sparse.reorder(chosen))

    def astype(self, dtype: Any, copy: bool = True) -> CompositeArray:
        return self.with_components({**self.components, "values": self.values.astype(dtype, copy=copy)})

    def with_components(self, components: dict[str, np.ndarray]) -> CompositeArray:
        """The same kind of tensor of others, such as zeros of other lengths."""
        spec = _spec(self.spec, tf.dtypes.as_dtype(components["values"].dtype))
        return replace(self, spec=spec, components=components)

    def tensor(self, components: Sequence[Any] | None = None) -> Any:
        """As TensorFlow's own; components: others in their place, such as the arguments of a tf.function."""
        flat = [tf.constant(array) for array in self.components.values()] if components is None else components
        return tf.nest.pack_sequence_as(self.spec, flat, expand_composites=True)


def array_of(value: Any) -> np.ndarray | CompositeArray:
    """A tensor, or what NumPy makes an array of, as a batch holds it.

    Raises:
        TypeError, ValueError: it cannot be made an array, or one of objects that are neither texts nor bytes.
    """
    if isinstance(value, (tf.RaggedTensor, tf.SparseTensor)):
        return composite_array(value)
    return texts_as_bytes(np.asarray(value))


def tensor_of(array: np.ndarray | CompositeArray) -> Any:
    return array.tensor() if isinstance(array, CompositeArray) else tf.constant(array)


def numbers_of(array: Any) -> Any:
    """What there is in an array; of a ragged or sparse one the values that it holds, (num_values, ...)."""
    return array.values if isinstance(array, CompositeArray) else array


def texts_as_bytes(array: np.ndarray) -> np.ndarray:
    """Texts, of any of NumPy's dtypes for them, as UTF-8 of one width; other arrays as they are.

    Raises:
        TypeError, ValueError: objects that are neither texts nor bytes.
    """
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8")
    if array.dtype.kind == "O" and all(isinstance(each, (str, bytes)) for each in array.flat):
        encoded = [each.encode() if isinstance(each, str) else each for each in array.flat]
        return np.array(encoded, dtype=bytes).reshape(array.shape)
    return array


def composite_array(tensor: tf.RaggedTensor | tf.SparseTensor) -> CompositeArray:
    flat = [texts_as_bytes(np.asarray(part)) for part in tf.nest.flatten(tensor, expand_composites=True)]
    if isinstance(tensor, tf.SparseTensor):
        names = ["indices", "values", "dense_shape"]
    else:
        names = ["values", "row_splits", *(f"row_splits_{axis}" for axis in range(1, len(flat) - 1))]
    spec = tf.type_spec_from_value(tensor)
    return CompositeArray(_spec(spec, spec.dtype), tuple(tensor.shape), dict(zip(names, flat, strict=True)))


def concatenated(arrays: Sequence[CompositeArray]) -> CompositeArray:
    """The samples of some, one after the other."""
    tensors = [array.tensor() for array in arrays]
    is_sparse = isinstance(tensors[0], tf.SparseTensor)
    return composite_array(tf.sparse.concat(0, tensors) if is_sparse else tf.concat(tensors, 0))


def _spec(spec: Any, dtype: tf.DType) -> Any:
    """The same with any number of samples, of a dtype."""
    shape = [None, *spec.shape[1:]]
    if isinstance(spec, tf.SparseTensorSpec):
        return tf.SparseTensorSpec(shape, dtype)
    return tf.RaggedTensorSpec(shape, dtype, spec.ragged_rank, spec.row_splits_dtype)
