"""Input formats: operands rounded before they are multiplied, each by an oracle of its own."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from probes.fingerprint.inputs import input_formats
from tests.probes.adders import product_sum, sequential

Reader = Callable[[np.ndarray], np.ndarray]


def by_bits(dropped: int, added: int) -> Reader:
    """On the encoding of float32: `added` is added, then the last `dropped` bits are cleared."""

    def read(x: np.ndarray) -> np.ndarray:
        bits = x.astype(np.float32).view(np.uint32)
        return ((bits + np.uint32(added)) & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)).view(np.float32)

    return read


def by_cast(dtype: np.dtype) -> Reader:
    def read(x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return x.astype(np.float32).astype(dtype).astype(np.float32)

    return read


def tf32_to_even(x: np.ndarray) -> np.ndarray:
    bits = x.astype(np.float32).view(np.uint32)
    bits = bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def product(first: Reader, second: Reader) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        terms = first(a).astype(np.float64) * second(b).astype(np.float64)
        return sequential(terms.astype(np.float32))

    return add


def same(x: np.ndarray) -> np.ndarray:
    return x


BF16 = by_cast(np.dtype(ml_dtypes.bfloat16))


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (same, "float32"),
        (tf32_to_even, "TF32 to nearest even"),
        (by_bits(13, 0), "TF32 truncated"),
        (by_bits(13, 1 << 12), "TF32 to nearest, ties away from zero"),
        (BF16, "bfloat16 to nearest even"),
        (by_bits(16, 0), "bfloat16 truncated"),
        (by_cast(np.dtype(np.float16)), "float16 to nearest even"),
        (by_bits(8, 0), "16 significand bits truncated"),
    ],
)  # fmt: skip
def test_each_format_is_recognised(read: Reader, said: str) -> None:
    both = input_formats(product_sum(product(read, read), 8))
    assert [str(each) for each in both] == [said, said]


def test_operands_may_be_read_unlike() -> None:
    first, second = input_formats(product_sum(product(same, BF16), 8))
    assert (str(first), str(second)) == ("float32", "bfloat16 to nearest even")


def test_an_unknown_reading_is_not_given_a_name() -> None:
    found, _ = input_formats(product_sum(product(lambda x: x * np.float32(1 + 2.0**-12), same), 8))
    assert found.bits == 0


def parts(x: np.ndarray, read: Reader, count: int) -> list[np.ndarray]:
    made = []
    for _ in range(count):
        made.append(read(x).astype(np.float64))
        x = x - made[-1]
    return made


@pytest.mark.parametrize(
    ("read", "count", "orders", "said"),
    [
        (tf32_to_even, 2, 1, "TF32 in two parts, products of the low ones left out"),  # 3xTF32
        (BF16, 2, 1, "bfloat16 in two parts, products of the low ones left out"),  # bf16x3
        (BF16, 3, 2, "float32"),  # six of nine products: what is left out is below float32's last place
    ],
)  # fmt: skip
def test_operands_in_parts(read: Reader, count: int, orders: int, said: str) -> None:
    """Products of the i-th and the j-th part are made where i + j <= orders."""

    def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        pairs = [(i, j) for i in range(count) for j in range(count) if i + j <= orders]
        left, right = parts(a, read, count), parts(b, read, count)
        return sequential(sum(left[i] * right[j] for i, j in pairs).astype(np.float32))

    found, _ = input_formats(product_sum(add, 8))
    assert str(found) == said
