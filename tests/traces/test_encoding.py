"""Every bit that goes in comes out."""

from __future__ import annotations

import struct

import ml_dtypes
import numpy as np
import pytest

from traces.encoding import STORED_DTYPES, difference, narrow, restore, widen

ALL_PATTERNS = np.arange(1 << 16, dtype=np.uint16)


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)], ids=str)
def test_every_16_bit_float_survives_widening(dtype: np.dtype) -> None:
    array = ALL_PATTERNS.view(dtype)
    stored = widen(array)
    assert stored.dtype == np.float32
    back = narrow(stored, dtype.name)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.view(np.uint16), ALL_PATTERNS)


def test_widened_float16_has_the_value_struct_reads() -> None:
    stored = widen(ALL_PATTERNS.view(np.float16))
    values = np.array([struct.unpack("<e", struct.pack("<H", bits))[0] for bits in range(1 << 16)])
    number = ~np.isnan(values)
    np.testing.assert_array_equal(np.isnan(stored), ~number)
    np.testing.assert_array_equal(stored[number].astype(np.float64), values[number])


def test_widened_bfloat16_is_the_upper_half_of_a_float32() -> None:
    stored = widen(ALL_PATTERNS.view(ml_dtypes.bfloat16))
    expected = b"".join(struct.pack("<HH", 0, bits) for bits in range(1 << 16))
    assert stored.tobytes() == expected


@pytest.mark.parametrize(
    ("dtype", "bits", "widened"),
    [
        (np.float16, 0x7C01, 0x7F802000),  # signaling, and stays so: a cast would set 0x00400000
        (np.float16, 0xFE03, 0xFFC06000),
        (ml_dtypes.bfloat16, 0xFF81, 0xFF810000),
    ],
)
def test_nan_payload_by_hand(dtype: type, bits: int, widened: int) -> None:
    stored = widen(np.array([bits], np.uint16).view(dtype))
    assert stored.view(np.uint32)[0] == widened


@pytest.mark.parametrize("name", STORED_DTYPES)
def test_every_dtype_comes_back(name: str) -> None:
    random = np.random.default_rng(0)
    dtype = np.dtype(name)
    array = random.integers(0, 256, (3, 4 * dtype.itemsize), np.uint8).view(dtype)
    if name == "bool":
        array = random.integers(0, 2, (3, 4)).astype(bool)
    stored = widen(array)
    assert stored.dtype == STORED_DTYPES[name]
    back = narrow(stored, name)
    assert back.dtype == dtype
    assert back.tobytes() == array.tobytes()


def test_scalars_and_strides_and_foreign_byte_order() -> None:
    assert widen(np.array(1.5, np.float16)) == np.float32(1.5)
    every_other = np.arange(8, dtype=np.float16)[::2]
    np.testing.assert_array_equal(widen(every_other), [0, 2, 4, 6])
    big_endian = np.array([0x7FA00001], ">u4").view(">f4")
    assert widen(big_endian).view(np.uint32)[0] == 0x7FA00001


def test_the_difference_of_neighbours_is_one_ulp() -> None:
    one = np.array([1.0, 1.0, 1.0], np.float32)
    others = np.array([1 + 2**-23, 1 - 2**-24, 1.0], np.float32)
    np.testing.assert_array_equal(difference(others, one), [1, -1, 0])


def test_the_difference_wraps_around() -> None:
    zero = np.array([0.0], np.float32)
    all_ones = np.array([0xFFFFFFFF], np.uint32).view(np.float32)
    np.testing.assert_array_equal(difference(all_ones, zero), [-1])
    np.testing.assert_array_equal(difference(zero, all_ones), [1])
    assert restore(np.array([1], np.int32), all_ones).tobytes() == zero.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "uint8", "int16", "int64"])
def test_restore_inverts_difference_for_any_bits(dtype: str) -> None:
    random = np.random.default_rng(1)
    size = 1000 * np.dtype(dtype).itemsize
    array, base = (random.integers(0, 256, size, np.uint8).view(dtype) for _ in range(2))
    assert restore(difference(array, base), base).tobytes() == array.tobytes()
