"""What the compiled loops share: how they are compiled, how a block is loaded, how non-finite pairs are told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from diag.numerics.ulp import PairClass

Array = npt.NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

# Four float64 buffers of 1024 fill the 32 KiB first-level cache of x86; 512 and 2048 are slower.
BLOCK = 1024

# numba takes constants, not members of an enumeration.
NAN_NAN, NAN_NUMBER = int(PairClass.NAN_NAN), int(PairClass.NAN_NUMBER)
INF_INF, INF_OPPOSITE = int(PairClass.INF_INF), int(PairClass.INF_OPPOSITE)
INF_FINITE = int(PairClass.INF_FINITE)


def compiled(*fastmath: str) -> Callable[[Function], Function]:
    """numba's njit, typed: no lock held, machine code kept beside the source, LLVM's flags as given."""

    def compile_(function: Function) -> Function:
        options = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
        try:
            return cast(Function, njit(cache=True, **options)(function))
        except RuntimeError:  # neither that folder nor one at home can be written: compiled anew in each process
            return cast(Function, njit(**options)(function))

    return compile_


@compiled()
def largest_of(magnitude: Array) -> float:
    """The maximum of numbers that are not negative.

    Their encodings are ordered as they are, and LLVM vectorises the maximum of integers alone.
    """
    bits = magnitude.view(np.int64)
    largest = np.int64(0)
    for i in range(bits.size):
        largest = max(largest, bits[i])
    encoding = np.int64(largest)  # numba views only what is assigned once
    return encoding.view(np.float64)


@compiled()
def first_equal(v: Array, value: float) -> int:
    for i in range(v.size):
        if v[i] == value:
            return i
    return -1


@compiled()
def kind_of(r: float, x: float, overflow: float) -> int:
    """`PairClass` of two values not both finite; truth from `overflow` on is as infinity to infinity."""
    if np.isnan(r) or np.isnan(x):
        return NAN_NAN if np.isnan(r) and np.isnan(x) else NAN_NUMBER
    if np.isinf(x) and abs(r) >= overflow:
        return INF_INF if (r > 0) == (x > 0) else INF_OPPOSITE
    return INF_FINITE


@compiled()
def load(values: Array, table: Array, v: Array) -> None:
    """Widen to float64; 16-bit formats come as their encodings and are looked up in `table`."""
    if table.size == 0:
        for i in range(values.size):
            v[i] = values[i]
    else:
        for i in range(values.size):
            v[i] = table[np.int64(values[i]) & 0xFFFF]
