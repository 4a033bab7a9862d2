"""Places that add up in another format or another order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from diag.engine.faults.convolutions import as_input_gradient, geometry, patches
from diag.engine.faults.simulation import Call, Simulation

_NUM_TERMS = 8  # of a product, between two roundings of its sum
_CHUNK = 256  # elements of a sum that one group of threads adds up


def fp16_accumulate() -> Simulation:
    """float16 products whose partial sum is rounded to float16 after every 8 terms.

    MatMul, BatchMatMul and Conv2D with its gradients; terms in row-major order.
    """
    return Simulation("fp16-accumulate", _accumulated, op_types=frozenset({*_MATMULS, *_CONVOLUTIONS}))


def reordered_sums() -> Simulation:
    """Sums of more than 256 elements add up their chunks in an order that is new at each call.

    The order is drawn by the seed.  float32, and float16 and bfloat16 summed in float32.
    """
    shuffle = _Shuffle()
    return Simulation("reordered-sums", shuffle, op_types=frozenset(_SUMS), bind=shuffle.bind)


def product_in_float16(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b with a partial sum in float16, each group of terms summed in float32 before it is added."""
    stacked = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    total: Any = np.zeros((*stacked, a.shape[-2], b.shape[-1]), np.float32)  # what a sum of no terms is
    for start in range(0, a.shape[-1], _NUM_TERMS):
        terms = slice(start, start + _NUM_TERMS)
        partial = a[..., terms].astype(np.float32) @ b[..., terms, :].astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            total = (total + partial).astype(np.float16).astype(np.float32)
    return np.asarray(total).astype(np.float16)


def _accumulated(call: Call) -> list[np.ndarray] | None:
    right = call.outputs[0]
    factors = factors_of(call) if right.dtype == np.float16 else None
    return None if factors is None else [product_in_float16(*factors).reshape(right.shape)]


def factors_of(call: Call) -> tuple[np.ndarray, np.ndarray] | None:
    """The matrices, or stacks of them, whose product a MatMul, a Conv2D or one of its gradients is, but for its shape.

    None of other ops, and of convolutions that are grouped or have channels first.
    """
    if call.op_type in _MATMULS:
        flips = [call.attrs[name] for name in _FLIPS if name in call.attrs]
        a, b = (np.swapaxes(x, -1, -2) if flip else x for x, flip in zip(call.inputs, flips, strict=True))
        return a, b
    return _CONVOLUTIONS[call.op_type](call) if call.op_type in _CONVOLUTIONS else None


def _forward(call: Call) -> tuple[np.ndarray, np.ndarray] | None:
    image, kernel = call.inputs
    where = geometry(call, image.shape, kernel.shape)
    return None if where is None else _as_matrices(patches(image, where), kernel)


def _to_image(call: Call) -> tuple[np.ndarray, np.ndarray] | None:
    _, kernel, upstream = call.inputs
    where = geometry(call, call.outputs[0].shape, kernel.shape)
    return None if where is None else _as_matrices(*as_input_gradient(upstream, kernel, where))


def _to_kernel(call: Call) -> tuple[np.ndarray, np.ndarray] | None:
    image, _, upstream = call.inputs
    where = geometry(call, image.shape, call.outputs[0].shape)
    if where is None:
        return None
    return _rows(patches(image, where)).T, _flat(upstream, 3)


def _as_matrices(seen: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _rows(seen), kernel.reshape(-1, kernel.shape[-1])


def _rows(seen: np.ndarray) -> np.ndarray:
    """Patches as (positions, kernel elements)."""
    return _flat(seen, 3)


def _flat(array: np.ndarray, num_axes: int) -> np.ndarray:
    """A matrix whose rows are the first axes; an empty batch leaves NumPy no size to infer."""
    rows, columns = (int(np.prod(part)) for part in (array.shape[:num_axes], array.shape[num_axes:]))
    return array.reshape(rows, columns)


_MATMULS = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
_FLIPS = ("transpose_a", "transpose_b", "adj_x", "adj_y")
_CONVOLUTIONS = {"Conv2D": _forward, "Conv2DBackpropInput": _to_image, "Conv2DBackpropFilter": _to_kernel}


class _Shuffle:
    """The fault, with the generator of its orders."""

    def __init__(self) -> None:
        self.random = np.random.default_rng()

    def bind(self, program: Any, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def __call__(self, call: Call) -> list[np.ndarray] | None:
        right = call.outputs[0]
        if right.dtype.name not in ("float32", "float16", "bfloat16"):
            return None
        partial = _SUMS[call.op_type](call)
        if partial is None or len(partial) < 2:
            return None
        total = np.zeros_like(partial[0])
        for chunk in self.random.permutation(len(partial)):
            total += partial[chunk]
        return [total.reshape(right.shape).astype(right.dtype)]


def terms_of(call: Call) -> np.ndarray:
    """What a Sum, a Mean or a BiasAddGrad adds up: (*kept axes, terms), the reduced axes as one in row-major order."""
    array = call.inputs[0]
    if call.op_type == "BiasAddGrad":
        axes = np.delete(np.arange(array.ndim), 1 if call.attrs["data_format"] == "NCHW" else array.ndim - 1)
    else:
        axes = np.atleast_1d(call.inputs[1])
    reduced = sorted({int(axis) % array.ndim for axis in axes})
    kept = [axis for axis in range(array.ndim) if axis not in reduced]
    count = int(np.prod([array.shape[axis] for axis in reduced], dtype=int))
    return np.transpose(array, [*kept, *reduced]).reshape(*(array.shape[axis] for axis in kept), count)


def _chunks_of_terms(call: Call) -> list[np.ndarray]:
    rows = terms_of(call)
    return [rows[..., i : i + _CHUNK].sum(-1, dtype=np.float32) for i in range(0, rows.shape[-1], _CHUNK)]


def _chunks_of_kernel(call: Call) -> list[np.ndarray] | None:
    factors = _to_kernel(call)
    if factors is None:
        return None
    a, b = (array.astype(np.float32) for array in factors)
    return [a[:, i : i + _CHUNK] @ b[i : i + _CHUNK] for i in range(0, len(b), _CHUNK)]


_SUMS: dict[str, Callable[[Call], list[np.ndarray] | None]] = {
    "BiasAddGrad": _chunks_of_terms,
    "Conv2DBackpropFilter": _chunks_of_kernel,
    "Sum": _chunks_of_terms,
}
