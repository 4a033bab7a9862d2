"""Hypotheses about operands: read in another order, taken for one another, weighed wrongly, or left out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from diag.causes.wrong_output import Array, Truth, WrongOutput, has_distinct
from diag.numerics.op_classes import ErrorClass
from diag.verdict.findings import Cause

# What all hypotheses about the order of operands may cost together, in products of numbers: some seconds of float64.
MAX_WORK = 1 << 31
# What counts twice is added in two steps, each rounded.
TWO_ROUNDINGS = 2.0
# Fewer elements than this can be had by chance.
DISTINCT = 4


def weighed(case: WrongOutput) -> Iterator[Cause]:
    """The result is linear in an operand, and has that operand times another number than one: zero, or two."""
    if case.recompute is None or case.judge is None or not _is_telling(case):
        return
    if case.is_contraction or case.bound.error_class is ErrorClass.EXACT:
        return
    allowed = TWO_ROUNDINGS if case.bound.error_class is ErrorClass.ROUNDED_ONCE else 1.0
    if case.excess_against(case.truth) <= allowed:  # to count once explains as much
        return
    numbers = [position for position, x in enumerate(case.inputs) if x.dtype == np.float64]
    for position in numbers if len(numbers) > 1 else ():
        if not case.inputs[position].any():
            continue
        without = case.recompute(_replaced(case, position, np.zeros_like(case.inputs[position])))
        if without is None or without.shape != case.truth.shape:
            continue
        share, change = case.truth - without, case.output.astype(np.float64) - without
        weight = float(np.vdot(change, share) / np.vdot(share, share)) if share.any() else math.nan
        if not math.isfinite(weight) or abs(weight - 1) < 2.0**-20:
            continue
        nearest = float(round(weight))
        found = nearest if case.excess_against(without + nearest * share) <= allowed else weight
        excess = case.excess_against(without + found * share)
        if excess > allowed:
            continue
        facts = {"operand": position, "factor": found, "remaining_excess": excess}
        yield Cause("scaled", f"operand {position} counts {found:.6g} times", facts)
        return


def unapplied(case: WrongOutput) -> Iterator[Cause]:
    """The result is an operand as it went in."""
    if case.before is not None or not case.is_floating or not has_distinct(case.output, DISTINCT):
        return
    for position, x in enumerate(case.inputs):
        if x.shape == case.output.shape and np.array_equal(x, case.output.astype(np.float64)):
            summary = f"not applied: the result is operand {position} as it went in"
            yield Cause("missing-op", summary, {"missing": [case.op_type], "operand": position})
            return


def misread(case: WrongOutput) -> Iterator[Cause]:
    """An operand with its elements in another order, or two operands in each other's place."""
    if case.recompute is None or case.judge is None or not _is_telling(case):
        return
    if case.bound.error_class is ErrorClass.EXACT and not has_distinct(case.output, DISTINCT):
        return
    work = 0.0
    for words, inputs in _misreadings(case):
        work += _cost(case)
        if work > MAX_WORK:
            return
        excess = case.excess_given(inputs)
        if excess <= 1:
            yield Cause("permuted", words, {"remaining_excess": excess})
            return


def _misreadings(case: WrongOutput) -> Iterator[tuple[str, list[Array]]]:
    floating = _floating(case)
    for first, second in itertools.combinations(floating, 2):
        inputs = list(case.inputs)
        if inputs[first].shape != inputs[second].shape:
            continue
        inputs[first], inputs[second] = inputs[second], inputs[first]
        yield f"operands {first} and {second} in each other's place", inputs
    if case.bound.error_class is ErrorClass.EXACT:  # whose results in other places are known as such
        return
    for position in sorted(floating, key=lambda each: case.inputs[each].size):
        for words, other in _other_orders(case.inputs[position]):
            if not np.array_equal(other, case.inputs[position]):
                yield f"operand {position} {words}", _replaced(case, position, other)


def _other_orders(x: Array) -> Iterator[tuple[str, Array]]:
    """Of the same shape: axes exchanged, or their elements laid out by another order; turned round; one further."""
    yield from _exchanged(x)
    long = [axis for axis in range(x.ndim) if x.shape[axis] > 1]
    yield from _turned_round(x, long)
    for axis in long:
        for step in (1, -1):
            yield f"moved by {step} along axis {axis}, zeros behind it", _moved(x, step, axis)
    if len(long) > 2:  # an image and its like: both axes of its plane
        for step in (1, -1):
            first, second = long[-3:-1]
            both = _moved(_moved(x, step, first), step, second)
            yield f"moved by {step} along axes {first} and {second}, zeros behind it", both
    yield from _stored_otherwise(x)


def _exchanged(x: Array) -> Iterator[tuple[str, Array]]:
    for a, b in itertools.combinations(range(x.ndim), 2):
        exchanged = np.swapaxes(x, a, b)
        if exchanged.shape == x.shape:
            yield f"with axes {a} and {b} exchanged", exchanged
        elif min(x.shape[a], x.shape[b]) > 1:
            yield f"read as if axes {a} and {b} were stored the other way round", exchanged.reshape(x.shape)


def _stored_otherwise(x: Array) -> Iterator[tuple[str, Array]]:
    """More than two axes in another order, as of images with their channels first read as if they came last."""
    long = [axis for axis in range(x.ndim) if x.shape[axis] > 1]  # where the others stand changes nothing
    for moved in itertools.permutations(long):
        if sum(place != axis for place, axis in zip(long, moved, strict=True)) > 2:  # of two `_exchanged` knows
            order = [dict(zip(long, moved, strict=True)).get(axis, axis) for axis in range(x.ndim)]
            words = " ".join(map(str, order))
            yield f"read as if its axes were stored in the order {words}", x.transpose(order).reshape(x.shape)


def _turned_round(x: Array, long: Sequence[int]) -> Iterator[tuple[str, Array]]:
    if len(long) > 2:
        yield f"reversed along axes {long[0]} and {long[1]}", np.flip(x, tuple(long[:2]))
    for axis in long:
        yield f"reversed along axis {axis}", np.flip(x, axis)
        yield f"rolled by 1 along axis {axis}", np.roll(x, 1, axis)
        yield f"rolled by -1 along axis {axis}", np.roll(x, -1, axis)
        if x.shape[axis] % 2 == 0 and x.shape[axis] > 2:
            yield f"with the halves of axis {axis} swapped", np.roll(x, x.shape[axis] // 2, axis)


def _moved(x: Array, step: int, axis: int) -> Array:
    moved = np.roll(x, step, axis)
    edge = [slice(None)] * x.ndim
    edge[axis] = slice(0, 1) if step > 0 else slice(-1, None)
    moved[tuple(edge)] = 0
    return moved


def _is_telling(case: WrongOutput) -> bool:
    return case.is_floating and case.output.size >= DISTINCT


def _floating(case: WrongOutput) -> Sequence[int]:
    return [position for position, x in enumerate(case.inputs) if x.dtype == np.float64 and x.size > 1]


def _replaced(case: WrongOutput, position: int, by: Truth) -> list[Array]:
    inputs = list(case.inputs)
    inputs[position] = by
    return inputs


def _cost(case: WrongOutput) -> float:
    """About how many products one computation takes: of a sum, those of the smaller operand for each result."""
    sizes = sorted(case.inputs[position].size for position in _floating(case))
    if not case.is_contraction or len(sizes) < 2:
        return float(case.output.size + sum(sizes))
    num_terms = math.sqrt(sizes[0] * sizes[-1] / max(case.output.size, 1)) if len(sizes) > 1 else 1.0
    return float(case.output.size * max(num_terms, 1.0))
