"""Variables: full of NaN, then assigned to; rows read from them and added to them by indices that repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.graphs.tf_errors import reason
from probes.exact.case import Case, arrays_of, case, indices, share_of, sparse
from probes.exact.judging import FAMILY, CaseOutcome, judged, measurement, only_some
from probes.exact.movement import numbers
from probes.frame.device import NOT_SUPPORTED, DeviceUnderTest
from probes.frame.device_report import UNSUPPORTED, Measurement
from probes.frame.fallback import check_placed
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

SHAPES = ((17, 3), (129, 33), (1025, 2), (1, 65537), (65537, 1))


@dataclass(frozen=True)
class Use:
    """What is done with a variable that holds NaN: a function of it and of tensors; the first tensor has its shape."""

    op: str
    function: Callable[..., Any]
    cases: Callable[[str], list[Case]]


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in FLOAT_DTYPES:
        for use in USES:
            yield _probe(use, dtype, only_some(choice, use.cases(dtype), dtype))


def _probe(use: Use, dtype: str, cases: Sequence[Case]) -> Probe:
    def run(device: DeviceUnderTest) -> Iterator[Measurement]:
        yield measurement(device, use.op, dtype, "variables", [_outcome(device, use, each, dtype) for each in cases])

    return Probe(FAMILY, use.op, dtype, "variables", run)


def _outcome(device: DeviceUnderTest, use: Use, case: Case, dtype: str) -> CaseOutcome:
    arrays = arrays_of(case.inputs, dtype)
    right = case.expected(*(array.astype(np.float64) if i != 1 else array for i, array in enumerate(arrays)))
    try:
        with tf.device(device.place.device):
            variable = tf.Variable(np.full(arrays[0].shape, np.nan).astype(arrays[0].dtype), trainable=False)
        computation = device.computation(lambda *tensors: use.function(variable, *tensors))
        check_placed(device, computation, arrays, dtype)
        return judged(case, arrays, computation(*arrays), [right])
    except NOT_SUPPORTED as error:
        return CaseOutcome(case, UNSUPPORTED, reason(error))


def _assigned(variable: tf.Variable, x: tf.Tensor) -> tf.Tensor:
    variable.assign(x)
    variable.assign_add(x)
    variable.assign_sub(2 * x)
    variable.assign_add(x)
    return variable.read_value()


def _rows(variable: tf.Variable, x: tf.Tensor, i: tf.Tensor) -> tf.Tensor:
    variable.assign(x)
    return variable.sparse_read(i)


def _added(variable: tf.Variable, x: tf.Tensor, i: tf.Tensor, g: tf.Tensor) -> tf.Tensor:
    variable.assign(x)
    variable.scatter_add(tf.IndexedSlices(g, i))
    return variable.read_value()


def assigning(dtype: str) -> list[Case]:
    return [case(f"{shape}", "", {"x": sparse(1, shape)}, lambda x: x, axes=("row", "column")) for shape in SHAPES]


def reading_rows(dtype: str) -> list[Case]:
    return [
        case(f"{rows} rows of {shape}", "", {"x": numbers(shape, dtype), "i": indices(_drawn(rows, shape[0]))},
             lambda x, i: x[i], axes=("row", "column"))
        for shape, rows in zip(SHAPES, (5, 1025, 33, 3, 129), strict=True)
    ]  # fmt: skip


def adding_rows(dtype: str) -> list[Case]:
    def oracle(x: np.ndarray, i: np.ndarray, g: np.ndarray) -> np.ndarray:
        result = x.copy()
        for row, added in zip(i, g, strict=True):
            result[row] += added
        return result

    return [
        case(f"{rows} rows to {shape}", "",
             {"x": sparse(1, shape), "i": indices(_drawn(rows, shape[0])),
              "g": sparse(2, (rows, shape[1]), share_of(rows, dtype, 1))}, oracle, axes=("row", "column"))
        for shape, rows in zip(SHAPES, (5, 1025, 33, 3, 129), strict=True)
    ]  # fmt: skip


def _drawn(count: int, below: int) -> str:
    return f"np.random.RandomState({count}).randint(0, {below}, {count})"


USES = (
    Use("AssignVariableOp", _assigned, assigning),
    Use("ResourceGather", _rows, reading_rows),
    Use("ResourceScatterAdd", _added, adding_rows),
)
