"""One computation with a known answer, written as text: what runs here is what a program for a vendor runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

SPARSE = (
    "sparse = lambda seed, shape, share: np.random.RandomState(seed).choice("
    "[-2, -1, 1, 2, 0], shape, p=[share / 4] * 4 + [1 - share])"
)
"""RandomState, whose streams NumPy keeps as they are for ever (NEP 19)."""

LIMITS = {"float32": 2**24, "float16": 2**11, "bfloat16": 2**8, "int32": 2**31 - 1, "float64": 2**53}
"""Up to here every integer is a number of the dtype."""

MOST_SHARE = 0.2


@dataclass(frozen=True)
class Data:
    """An input as NumPy text; its dtype, None for the probe's own."""

    text: str
    dtype: str | None = None


@dataclass(frozen=True)
class Case:
    """What is computed, and the right answer.

    Attributes:
      label: what is special about it, for a person.
      body: an expression of the inputs' names, or lines of a function that end in `return`; `tf` and `keras` at hand.
      inputs: name -> Data, or the text of one of the probe's dtype.
      expected: oracle: called with the inputs in order as int64, where it is no sum floats as float64, returns an array
        or a list of them.  It shares no code with what it judges.
      axes: names of the axes of the (first) output.
      is_sum: each result is a sum of products, so that the oracle on magnitudes bounds every partial sum.
      before: inputs of earlier calls, of other shapes perhaps.
      tolerates: whether a wrong answer may be right in norm (convolutions by way of a transform).
      scale: oracle of |A||B|, called with magnitudes; None where `expected` itself gives it.
      ulps: error that is none, in ULP of the largest element, where a function is within its published allowance.
    """

    label: str
    body: str
    inputs: Mapping[str, Data]
    expected: Callable[..., Any]
    axes: Sequence[str] = ()
    is_sum: bool = False
    before: Sequence[Mapping[str, Data]] = ()
    tolerates: bool = False
    scale: Callable[..., Any] | None = None
    ulps: float = 0.0


def case(label: str, body: str, inputs: Mapping[str, str | Data], expected: Callable[..., Any], **options: Any) -> Case:
    return Case(label, body, _data(inputs), expected, **{**options, "before": [*map(_data, options.get("before", ()))]})


def _data(inputs: Mapping[str, str | Data]) -> dict[str, Data]:
    return {name: each if isinstance(each, Data) else Data(each) for name, each in inputs.items()}


def sparse(seed: int, shape: Sequence[int], share: float = MOST_SHARE) -> str:
    """Text of integers in [-2, 2], all but `share` of them zeros."""
    return f"sparse({seed}, {tuple(int(size) for size in shape)}, {share:.3g})"


def indices(text: str) -> Data:
    return Data(text, "int32")


def share_of(num_terms: int, dtype: str, num_factors: int = 2) -> float:
    """The share of numbers that are not zero with which sums of so many terms stay exact in any order.

    A number that is not zero is 1.5 in magnitude on average, so a sum of magnitudes has mean
    num_terms * (1.5 share)^num_factors; it is kept at an eighth of the dtype's exact integers.
    """
    mean = LIMITS[dtype] / 8 / max(num_terms, 1)
    return min(MOST_SHARE, mean ** (1 / num_factors) / 1.5)


@functools.lru_cache(maxsize=64)
def _evaluated(text: str) -> np.ndarray:
    namespace: dict[str, Any] = {"np": np}
    exec(SPARSE, namespace)
    result = np.asarray(eval(text, namespace))
    result.flags.writeable = False
    return result


def numpy_dtype(name: str) -> Any:
    return tf.as_dtype(name).as_numpy_dtype


def arrays_of(inputs: Mapping[str, Data], dtype: str) -> list[np.ndarray]:
    return [_evaluated(each.text).astype(numpy_dtype(each.dtype or dtype)) for each in inputs.values()]


def setup_lines(inputs: Mapping[str, Data], dtype: str) -> list[str]:
    """The same, as a program says it, which has few lines."""
    lines = [SPARSE] if any("sparse(" in each.text for each in inputs.values()) else []
    return [*lines, f"{', '.join(inputs)} = {', '.join(array_text(each, dtype) for each in inputs.values())}"]


def array_text(data: Data, dtype: str) -> str:
    name = data.dtype or dtype
    return f"np.asarray({data.text}).astype({'tf.bfloat16.as_numpy_dtype' if name == 'bfloat16' else repr(name)})"


def function_of(case: Case) -> Callable[..., Any]:
    """The body as a function of tensors."""
    lines = case.body.splitlines() if "\n" in case.body else [f"return {case.body}"]
    namespace: dict[str, Any] = {"np": np, "tf": tf, "keras": keras}
    exec("\n".join([f"def compute({', '.join(case.inputs)}):", *(f"    {line}" for line in lines)]), namespace)
    return namespace["compute"]  # type: ignore[no-any-return]


def right_answers(case: Case, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    return _listed(case.expected(*(_wide(array, case.is_sum) for array in arrays)))


def magnitudes(case: Case, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """|A||B|: the largest that any partial sum can be."""
    wide = [_wide(array, case.is_sum) for array in arrays]
    floats = [tf.as_dtype(array.dtype).is_floating for array in arrays]
    oracle = case.scale or case.expected
    return _listed(oracle(*(np.abs(w) if f else w for w, f in zip(wide, floats, strict=True))))


def _wide(array: np.ndarray, as_integers: bool) -> np.ndarray:
    """Integers keep NumPy from its BLAS, whose threads wait for each other on a busy machine."""
    if array.dtype == bool:
        return array
    is_float = tf.as_dtype(array.dtype).is_floating and not as_integers
    return array.astype(np.float64 if is_float else np.int64)


def _listed(made: Any) -> list[np.ndarray]:
    return [np.asarray(each) for each in (made if isinstance(made, (list, tuple)) else [made])]
