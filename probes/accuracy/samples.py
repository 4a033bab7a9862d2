"""Inputs of elementwise ops: every number of a 16-bit format, and of float32 dense samples and hard cases."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

DTYPES = {
    "float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16),
}  # fmt: skip
NUM_SAMPLES, NUM_QUICK = 1 << 20, 1 << 16
BUSY = 24.0  # beyond it the functions of a network are flat, or grow as x or exp(x) does
AROUND = 32  # neighbours on each side of a hard input

# Where results of float32 reach the largest number, or the smallest normal one, and where glibc 2.36 is furthest off
# over all 2^32 inputs: exp log sin cos tan tanh expm1 log1p erf sinh atan asin acos.
_EDGES = (
    88.7228394, 87.3365448, 103.972084, 89.4159851, 89.3843231, 16.6355324, 17.3286793, 9.0109129, 10.0541935,
    13.8756065, 3.8325068, 9.194549, 9.3825817, 1.8446743e19, 1.0842022e-19, 65504.0, 11.0898438, 12.2,
    16777216.0, 8388608.0,
)  # fmt: skip
_HARDEST = (
    0xBBE7328F, 0x3F830083, 0x3F0602E6, 0x597F9410, 0x631D36F8, 0x3E6EE50C, 0x3EB9C703, 0x3ED413DA, 0x3F563109,
    0x42B2C4C6, 0x3F3133B9, 0x3F0063E6, 0xBF053BFA,
)  # fmt: skip


def float32_of(bits: npt.ArrayLike) -> npt.NDArray[np.float32]:
    return np.asarray(bits, np.uint32).view(np.float32)


def all_numbers(dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Every encoding of a 16-bit format."""
    return np.arange(1 << 16, dtype=np.uint16).view(dtype)


def inputs(dtype_name: str, num_samples: int, seed: int) -> npt.NDArray[Any]:
    """Arguments of a function of one argument: all there are of 16-bit formats."""
    if dtype_name != "float32":
        return all_numbers(DTYPES[dtype_name])
    generator = np.random.default_rng(seed)
    half = num_samples // 2
    busy = generator.uniform(-BUSY, BUSY, half).astype(np.float32)
    return np.concatenate([stratified(half, generator), busy, hard()])


def stratified(number: int, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """One number of each of so many equal parts of the line of encodings: all exponents and both signs alike."""
    width = (1 << 32) // number
    bits = np.arange(number, dtype=np.uint64) * width + generator.integers(0, width, number, dtype=np.uint64)
    return float32_of(bits.astype(np.uint32))


def hard() -> npt.NDArray[np.float32]:
    """Zeros, infinities, NaN, subnormals, powers of two, multiples of pi / 2, edges of ranges; and their neighbours."""
    powers = np.ldexp(1.0, np.arange(-149, 128))
    halves = np.arange(0.0, 17.0, 0.5)
    quarters = np.concatenate([np.arange(1, 2049), np.ldexp(1.0, np.arange(11, 127))]) * (np.pi / 2)
    around = np.concatenate([_EDGES, halves, [np.log(2.0), 2.0**-126, 3.4028235e38]])
    positive = np.concatenate([_neighbours(around, AROUND), _neighbours(powers, 1), _neighbours(quarters, 1)])
    numbers = np.concatenate([positive, -positive, _neighbours(np.abs(float32_of(_HARDEST)), AROUND)])
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], np.float32)
    return np.concatenate([special, numbers.astype(np.float32), -np.abs(float32_of(_HARDEST))])


def _neighbours(numbers: npt.ArrayLike, steps: int) -> npt.NDArray[np.float32]:
    """Positive numbers and those so many steps around them, finite ones, in no order, each once."""
    bits = np.asarray(numbers, np.float32).view(np.int32).astype(np.int64)
    moved = np.unique(np.clip(bits[:, None] + np.arange(-steps, steps + 1), 0, 0x7F7FFFFF))
    return float32_of(moved.astype(np.uint32))


def pairs(
    dtype_name: str, exponents: tuple[int, int] | None, num_samples: int, seed: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Arguments of a function of two.

    Half of them have any exponents at all and half moderate ones, with near neighbours among these and every pair of
    some special numbers; where `exponents` are given, all lie between those.
    """
    generator = np.random.default_rng(seed)
    dtype = DTYPES[dtype_name]
    if exponents is not None:
        return _within(exponents, num_samples, dtype, generator), _within(exponents, num_samples, dtype, generator)
    word = np.dtype(f"u{dtype.itemsize}")
    half, few = num_samples // 2, num_samples // 8
    anything = generator.integers(0, 1 << (8 * dtype.itemsize), (2, half)).astype(word).view(dtype)
    moderate = np.stack([_within((-8, 7), half, dtype, generator) for _ in range(2)])
    bits = moderate[0, :few].view(f"i{dtype.itemsize}")
    moderate[1, :few] = (bits + generator.integers(-3, 4, few)).astype(bits.dtype).view(dtype)
    near_one = np.ones(few, dtype).view(f"i{dtype.itemsize}") + generator.integers(-99, 99, few)
    moderate[0, few : 2 * few] = near_one.astype(bits.dtype).view(dtype)  # to large powers
    numbers = _special(dtype)
    crossed = np.stack([each.reshape(-1) for each in np.meshgrid(numbers, numbers)])
    first, second = np.concatenate([anything, moderate, crossed], axis=1)
    return first, second


def _special(dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    info = ml_dtypes.finfo(dtype)
    edges = np.array([info.smallest_normal, info.max], np.float64)
    positive = np.concatenate([[0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 64.0, np.inf], edges])
    return np.concatenate([positive, -positive, [np.nan]]).astype(dtype)


def _within(
    exponents: tuple[int, int], number: int, dtype: np.dtype[Any], generator: np.random.Generator
) -> npt.NDArray[Any]:
    lowest, highest = exponents
    significands = generator.uniform(1, 2, number) * generator.choice([-1.0, 1.0], number)
    return np.ldexp(significands, generator.integers(lowest, highest, number)).astype(dtype)
