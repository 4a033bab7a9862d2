"""Plain data give back what was encoded: type, value and every bit."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import Enum

import ml_dtypes
import numpy as np
import pytest

from diag.common.plain import NotEncoded, NotPlain, PlainData


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: float
    of: object = None


DATA = PlainData((Colour, Point))
VALUES = [
    None, True, 3, -0.0, 1 / 3, "text", [1, [2.5]], (1, "a", None), {("a", 0): {1, 2}}, frozenset({Colour.RED}),
    Point(0.1, Point(2.0, (3,))), [0.1 * k for k in range(100)], [1.0] * 70 + [1],
]  # fmt: skip


def back(value):
    document, arrays = DATA.encode(value)
    return DATA.decode(json.loads(json.dumps(document)), arrays)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values(value) -> None:
    found = back(value)
    assert found == value and repr(found) == repr(value)  # 1 and 1.0, 0.0 and -0.0 are told apart


def test_numbers_that_json_has_not() -> None:
    assert back(math.inf) == math.inf and math.isnan(back([math.nan, -math.inf])[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.uint64, bool, complex, ml_dtypes.bfloat16])
def test_arrays_and_scalars_keep_dtype_and_bits(dtype) -> None:
    array = np.array([[0, 1], [3, 7]]).astype(dtype)
    for value in (array, array[1, 1], array[:0], array.T):
        found = back(value)
        assert type(found) is type(value)
        assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes())


def test_what_was_encoded_may_change_afterwards() -> None:
    array = np.zeros(3)
    document, arrays = DATA.encode({"array": array})
    array += 1
    assert DATA.decode(document, arrays)["array"].sum() == 0


@pytest.mark.parametrize(
    "value", [object(), DATA, lambda: 0, np.array([object()]), [{"deep": object()}], type("P", (), {})()]
)
def test_what_is_not_plain_is_refused(value) -> None:
    with pytest.raises(NotPlain):
        DATA.encode(value)


@pytest.mark.parametrize(
    "document",
    [{"instance": ["Popen", {}]}, {"member": ["Colour", "BLUE"]}, {"array": ["nowhere", "<f8"]}, {"a": 1, "b": 2}],
)
def test_a_document_of_others_is_refused(document) -> None:
    with pytest.raises(NotEncoded):
        DATA.decode(document, {})
