"""Single elements and figures of one lane, against struct and plain Python."""

from __future__ import annotations

import math
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from traces.inspector.elements import as_real, lane_figures, largest_elements, num_different_bits, worst_elements

FLOAT32 = arrays(np.float32, st.integers(1, 30), elements=st.floats(width=32))


def hex_of(value: float) -> str:
    return struct.pack(">f", value).hex()


def number_on_line(value: float) -> int:
    """A float32's place among all of them: its bits read as sign and magnitude."""
    (bits,) = struct.unpack(">i", struct.pack(">f", value))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def test_the_bits_and_the_distance_of_one_element() -> None:
    reference = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    candidate = reference.copy()
    candidate[1, 0] = np.nextafter(np.float32(3), np.float32(4))
    (found,) = worst_elements(reference, candidate, 10)
    assert (found.index, found.ulp) == ((1, 0), 1)
    assert [value.bits for value in found.values] == ["40400000", "40400001"]
    assert [float(value.text) for value in found.values] == [3.0, candidate[1, 0]]


@given(FLOAT32, st.integers(0, 40), st.data())
def test_the_worst_come_first_as_a_sort_of_all_would_have_them(reference, number, data) -> None:
    candidate = data.draw(arrays(np.float32, reference.shape, elements=st.floats(width=32)))

    def rank(i: int) -> float:
        a, b = float(reference[i]), float(candidate[i])
        if math.isfinite(a) and math.isfinite(b):
            return abs(number_on_line(a) - number_on_line(b))
        return -1 if (math.isnan(a) and math.isnan(b)) or a == b else math.inf

    differ = [i for i in range(reference.size) if hex_of(reference[i]) != hex_of(candidate[i])]
    expected = sorted(differ, key=lambda i: (-rank(i), i))[:number]
    found = worst_elements(reference, candidate, number)
    assert [each.index for each in found] == [(i,) for i in expected]
    assert [each.ulp for each in found] == [rank(i) if 0 <= rank(i) < math.inf else None for i in expected]
    assert [each.values[1].bits for each in found] == [hex_of(candidate[i]) for i in expected]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_every_format_has_bits_of_its_own_width(dtype) -> None:
    reference = np.array([1, 2], dtype)
    candidate = reference.copy()
    candidate.view(f"u{reference.itemsize}")[1] += 4
    (found,) = worst_elements(reference, candidate, 3)
    assert (found.index, found.ulp) == ((1,), 4)
    assert int(found.values[1].bits, 16) - int(found.values[0].bits, 16) == 4
    assert len(found.values[0].bits) == 2 * reference.itemsize


def test_integers_rank_by_their_difference_and_have_no_ulp() -> None:
    reference = np.array([5, 2**62, -3], np.int64)
    found = worst_elements(reference, np.array([6, 2**62, 90], np.int64), 5)
    assert [(each.index, each.ulp, each.values[1].text) for each in found] == [((2,), None, "90"), ((0,), None, "6")]


def test_complex_numbers_are_pairs() -> None:
    value = np.array([[1 + 2j, 3 - 4j]], np.complex64)
    assert as_real(value).tolist() == [[[1, 2], [3, -4]]]
    other = value.copy()
    other[0, 1] = 3 - 5j
    (found,) = worst_elements(value, other, 3)
    assert found.index == (0, 1, 1)


def test_a_scalar_has_an_empty_index() -> None:
    (found,) = worst_elements(np.float32(1), np.asarray(2, np.float32), 3)
    assert (found.index, found.ulp) == ((), 1 << 23)


def test_the_sign_of_zero_and_the_payload_of_nan_are_bits() -> None:
    zeros = np.array([0.0], np.float32), np.array([-0.0], np.float32)
    assert (num_different_bits(*zeros), num_different_bits(zeros[0], zeros[0].copy())) == (1, 0)
    assert [each.ulp for each in worst_elements(*zeros, 1)] == [0]


def test_one_lane_is_counted_class_by_class() -> None:
    array = np.array([[np.nan, np.inf, -np.inf], [1e-40, -0.0, 4.0], [-2.0, 0.0, 0.0]], np.float32)
    found = lane_figures("reference", array)
    assert (found.num_nan, found.num_inf, found.num_subnormal, found.num_zero) == (1, 2, 1, 3)
    assert (found.minimum, found.maximum) == (-2, 4)
    finite = [float(np.float32(1e-40)), 0, 4, -2, 0, 0]
    assert found.mean == pytest.approx(math.fsum(finite) / 6, rel=1e-15)
    assert found.rms == pytest.approx(math.sqrt(math.fsum(v * v for v in finite) / 6), rel=1e-15)


def test_figures_of_numbers_whose_squares_overflow() -> None:
    found = lane_figures("reference", np.array([3e200, -4e200]))
    assert found.rms == pytest.approx(math.hypot(3, 4) / math.sqrt(2) * 1e200, rel=1e-15)


@pytest.mark.parametrize(("dtype", "smallest"), [(np.float16, 2.0**-14), (ml_dtypes.bfloat16, 2.0**-126)])
def test_subnormals_are_those_of_the_tensors_own_format(dtype, smallest) -> None:
    assert lane_figures("reference", np.array([smallest, smallest / 2], dtype)).num_subnormal == 1


def test_nothing_finite_has_no_figures_but_its_classes() -> None:
    found = lane_figures("reference", np.full(3, np.nan, np.float32))
    assert math.isnan(found.mean) and math.isnan(found.rms) and found.num_nan == 3
    empty = lane_figures("reference", np.empty((0, 4), np.float32))
    assert math.isnan(empty.minimum) and empty.shape == (0, 4)


def test_the_largest_begin_with_what_is_not_finite() -> None:
    found = largest_elements(np.array([1, -np.inf, 7, np.nan, -9], np.float32), 4)
    assert [each.index for each in found] == [(3,), (1,), (4,), (2,)]
