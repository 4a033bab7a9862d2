"""Exact, invertible changes of representation between a tensor and what lies on file."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_AS_THEY_ARE = ["float32", "float64", "complex64", "complex128", *_INTEGERS]

STORED_DTYPES: dict[str, np.dtype[Any]] = {
    **{name: np.dtype(name).newbyteorder("<") for name in _AS_THEY_ARE},
    "float16": np.dtype("<f4"),
    "bfloat16": np.dtype("<f4"),
    "bool": np.dtype("u1"),  # h5py's own bool is an enum, which few other readers know
}
"""The dtype on file, by the name of the tensor's own."""


def widen(array: Array) -> Array:
    """The tensor in its stored dtype, one to one.

    The 16 bit floats go through their bits: a cast may be the processor's (F16C), which sets the
    quiet bit of every signaling NaN.
    """
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == ml_dtypes.bfloat16:
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if array.dtype == np.float16:
        return _widen_float16(array)
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    return array


def narrow(stored: Array, dtype: str) -> Array:
    """The inverse of `widen` for a tensor whose own dtype is `dtype`."""
    if dtype == "bfloat16":
        return (stored.view(np.uint32) >> 16).astype(np.uint16).view(ml_dtypes.bfloat16)
    if dtype == "float16":
        return _narrow_float16(stored)
    if dtype == "bool":
        return stored.view(np.bool_)
    return stored


def _widen_float16(array: Array) -> Array:
    bits = array.view(np.uint16).astype(np.uint32)
    nan_bits = (bits & 0x8000) << 16 | 0x7F800000 | (bits & 0x03FF) << 13
    with np.errstate(invalid="ignore"):  # a signaling NaN, of which only the bits are used
        values = array.astype(np.float32).view(np.uint32)
    return np.where(np.isnan(array), nan_bits, values).view(np.float32)


def _narrow_float16(stored: Array) -> Array:
    bits = stored.view(np.uint32)
    nan_bits = (bits >> 16 & 0x8000 | 0x7C00 | bits >> 13 & 0x03FF).astype(np.uint16)
    with np.errstate(invalid="ignore"):
        values = stored.astype(np.float16).view(np.uint16)
    return np.where(np.isnan(stored), nan_bits, values).view(np.float16)


def can_differ(stored: np.dtype[Any]) -> bool:
    """Whether a stored dtype has the bits of one NumPy integer."""
    return stored.itemsize <= 8


def difference_dtype(stored: np.dtype[Any]) -> np.dtype[Any]:
    """Signed, so that between floats of one sign a plot of it shows the distance in ULP."""
    return np.dtype(f"<i{stored.itemsize}")


def difference(array: Array, base: Array) -> Array:
    """The bits of `array` less those of `base`, both of one stored dtype, wrapping around."""
    unsigned = np.dtype(f"u{array.dtype.itemsize}")
    wrapped: Array = np.subtract(array.view(unsigned), base.view(unsigned))
    return wrapped.view(difference_dtype(array.dtype))


def restore(differences: Array, base: Array) -> Array:
    """The tensor `difference` came from, bit for bit."""
    unsigned = np.dtype(f"u{base.dtype.itemsize}")
    bits: Array = np.add(differences.view(unsigned), base.view(unsigned))
    return bits.view(base.dtype)
