"""The truth of single ops: float64 on the CPU, from the inputs that the other lanes had."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.engine.graphs.graph import ASSIGN_OPS, OPAQUE, READ_OPS, Node
from diag.engine.graphs.tf_runtime import (
    COMPLEXES,
    FLOATS,
    KnownAttributes,
    cast,
    execute,
    format_of_dtype,
    from_pairs,
    in_double,
    in_dtype,
    in_precision_of,
    is_float,
    readable_attributes,
    takes_handle,
    to_numpy,
)
from diag.engine.truth.float64_graph import EMPTY_IS_LIMIT
from diag.engine.truth.transforms import ROLES, is_channels_first, largest_near
from diag.machine.places import Place
from diag.numerics.bounds import NO_SPREAD, RoundingSpread
from diag.numerics.definitions import defined, defined_scale, has_definition, without_placeholders
from diag.numerics.errors_against_truth import absolute_error
from diag.numerics.figures import AbsoluteError
from diag.numerics.op_classes import is_random

CPU = Place("CPU:0", "graph")
NUM_PERTURBED = 4  # samples of the spread
LARGE, FEW_PERTURBED = 1 << 18, 2  # a large tensor is many samples by itself
Arrays = list[npt.NDArray[np.float64]]


def in_precision(dtype: tf.DType, tensor: Any) -> Any:
    """A tensor on the CPU with its numbers in the precision of a floating dtype; integers as they are."""
    value = tensor if tf.is_tensor(tensor) else tf.convert_to_tensor(tensor)
    wanted = in_precision_of(dtype, value.dtype)
    if value.dtype != wanted:
        return cast(value, wanted, CPU.device)
    return execute("Identity", [value], {"T": value.dtype.as_datatype_enum}, 1, CPU.device)[0]


def widened(tensor: Any) -> Any:
    """A tensor on the CPU, in float64 where it was floating."""
    return in_precision(tf.float64, tensor)


def perturbed(tensor: tf.Tensor, unit_roundoff: float, generator: np.random.Generator) -> tf.Tensor:
    """A tensor in double precision with every number moved up or down by one rounding of `unit_roundoff`."""
    if tensor.dtype not in (tf.float64, tf.complex128):
        return tensor
    values = to_numpy(tensor)
    signs = generator.integers(0, 2, values.shape, dtype=np.int8) * 2 - 1
    return from_pairs(values * (1.0 + unit_roundoff * signs), tensor.dtype)


# Ops that a shift of their first input along its last axis leaves alone, so that kernels take the largest off first.
# One rounding of a logit of -1e9, as a mask puts there, would be a shift by 60; of its distance from the largest it is
# what a kernel does.
SHIFT_INVARIANT = ("Softmax", "LogSoftmax", "SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits")


def below_largest(x: tf.Tensor) -> tf.Tensor:
    """Each element's distance from the largest of its row; rows without a finite one as they are."""
    values = to_numpy(x)
    largest = values.max(axis=-1, keepdims=True, initial=-np.inf)
    return tf.constant(values - np.where(np.isfinite(largest), largest, 0.0))


# ---------------------------------------------------------------------------------------------
# Single ops


class OpTruth:
    """Float64 results of single ops, and what their bounds need."""

    def __init__(self, attributes: KnownAttributes | None = None) -> None:
        self._attributes = attributes or KnownAttributes()

    def outputs(self, node: Node, inputs: Sequence[Any]) -> Arrays | None:
        """The op's outputs in float64 (integers as they are), None where there is no truth.

        For an op that assigns, `inputs[0]` is the variable's value before, and the one output its
        value after.
        """
        if node.op in ASSIGN_OPS:
            return [self._assigned(node, inputs)]
        if node.op in READ_OPS:
            return [to_numpy(widened(inputs[0]))]
        if node.op == "Cast" and not {node.dtypes[0], inputs[0].dtype} & set(COMPLEXES):
            return self._cast(node, inputs)
        if takes_handle(node.op) or any(tensor.dtype in OPAQUE for tensor in inputs):
            return None
        return self._run(node, [widened(tensor) for tensor in inputs])

    def scale(self, node: Node, inputs: Sequence[Any]) -> list[npt.NDArray[Any]] | None:
        """|A||B|: the op on absolute values.

        In float32, unless that overflows: a scale needs only its first few digits.
        """
        if has_definition(node.op):
            values = [to_numpy(widened(tensor)) for tensor in inputs]
            return defined_scale(node.op, values, readable_attributes(node.proto))
        for dtype in (tf.float32, tf.float64):
            attrs = in_dtype(node.op, self._attributes.of(node.proto), dtype)
            if attrs is None:
                continue
            values = [in_precision(dtype, tensor) for tensor in inputs]
            absolute = [self._absolute(value) for value in values]
            if node.op == "MaxPoolGrad":  # which element won is decided by the values as they are
                absolute = [*values[:-1], absolute[-1]]
            result = [to_numpy(output) for output in execute(node.op, absolute, attrs, len(node.dtypes), CPU.device)]
            if dtype == tf.float64 or all(np.isfinite(x).all() for x in result if x.dtype == np.float32):
                return result
        return None

    @staticmethod
    def _absolute(tensor: Any) -> Any:
        if not is_float(tensor):
            return tensor
        return execute("Abs", [tensor], {"T": tensor.dtype.as_datatype_enum}, 1, CPU.device)[0]

    def mixed_scale(self, node: Node, inputs: Sequence[Any]) -> npt.NDArray[Any] | None:
        """A convolution on the largest absolute values near each element of its operands; None for other ops."""
        if node.op not in ROLES:
            return None
        first = is_channels_first(node.proto)
        with tf.device("CPU:0"):
            spread = [
                tensor if role is None else largest_near(tf.abs(tf.cast(tensor, tf.float32)), role, first)
                for tensor, role in zip(inputs, ROLES[node.op], strict=True)
            ]
        return scale[0] if (scale := self.scale(node, spread)) is not None else None

    def spreads(self, node: Node, inputs: Sequence[Any], truth: Arrays) -> list[RoundingSpread]:
        """How far one rounding of each input moves each output; the same whatever was asked before."""
        generator = np.random.default_rng(0)
        wide = [widened(tensor) for tensor in inputs]
        if node.op in SHIFT_INVARIANT:
            wide[0] = below_largest(wide[0])
        units = [format_of_dtype(t.dtype).unit_roundoff if is_float(t) else 0.0 for t in inputs]

        samples = itertools.count()

        def sample() -> Arrays:
            moved = [perturbed(t, u, generator) for t, u in zip(wide, units, strict=True)]
            return self._run(node, moved, units[0], next(samples)) or truth

        return spread_of(sample, NUM_PERTURBED, truth)

    def _run(self, node: Node, wide: Sequence[tf.Tensor], lost: float = 0.0, sample: int = 0) -> Arrays | None:
        """lost, sample: see `defined`."""
        attrs = self._attributes.of(node.proto)
        if has_definition(node.op):
            arrays = [to_numpy(tensor) for tensor in wide]
            attributes = readable_attributes(node.proto)
            outputs = defined(node.op, arrays, attributes, lost, sample)[: len(node.dtypes)]
            return without_placeholders(node.op, attributes, outputs)
        double = None if is_random(node.op) else in_double(node.op, attrs)
        if double is None:
            if any(dtype in FLOATS for dtype in node.dtypes) or any(is_float(t) for t in wide):
                return None
            double = attrs
        try:
            outputs = execute(node.op, wide, double, len(node.dtypes), CPU.device)
        except tf.errors.OpError:  # the CPU's own float64 kernel refuses: gradients of grouped convolutions, say
            return None
        found = [to_numpy(output) for output in outputs]
        if node.op in EMPTY_IS_LIMIT and node.dtypes[0] in FLOATS:
            limit = EMPTY_IS_LIMIT[node.op]
            found[0][found[0] == limit(tf.float64)] = limit(node.dtypes[0])
        return found

    @staticmethod
    def _assigned(node: Node, inputs: Sequence[Any]) -> npt.NDArray[np.float64]:
        before, value = (to_numpy(widened(tensor)) for tensor in inputs[:2])
        if node.op == "AssignVariableOp":
            return value
        return before + value if node.op == "AssignAddVariableOp" else before - value

    @staticmethod
    def _cast(node: Node, inputs: Sequence[Any]) -> Arrays:
        values = to_numpy(widened(inputs[0]))
        target = node.dtypes[0]
        return [values.astype(np.float64) if target in FLOATS else values.astype(target.as_numpy_dtype)]


def spread_of(sample: Callable[[], Arrays], number: int, truth: Arrays) -> list[RoundingSpread]:
    """The rms and the largest distance of perturbed results from the unperturbed ones.

    number: how many results are perturbed; one is held at a time.
    """
    errors: list[list[AbsoluteError]] = [[] for _ in truth]
    for _ in range(number):
        for known, x, expected in zip(errors, sample(), truth, strict=True):
            if expected.dtype == np.float64:
                known.append(absolute_error(x, expected))
    return [_spread([error for error in known if np.isfinite(error.max)]) for known in errors]


def _spread(errors: Sequence[AbsoluteError]) -> RoundingSpread:
    if not errors:
        return NO_SPREAD
    rms = float(np.sqrt(np.mean([error.rms**2 for error in errors])))
    return RoundingSpread(rms, max(error.max for error in errors))
