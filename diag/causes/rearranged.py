"""Hypotheses about places: the right values where they do not belong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from diag.causes.patterns import describe_edge, describe_elements, describe_values
from diag.causes.wrong_output import A_LOOK, Array, Truth, WrongOutput, has_distinct
from diag.common.jsonable import json_number
from diag.numerics.formats import format_of
from diag.numerics.op_classes import ErrorClass
from diag.verdict.findings import Cause

# Fewer distinct values than this can be rearranged into almost anything.
DISTINCT = 4
MAX_SHIFTS = 512
# Two of a few elements that differ by more than this are not the same value rounded twice.
ALIKE, FEW = 2.0**-9, 64
MAX_STARTS = 64
# Gates of recurrent layers: Keras has z r h in a GRU and i f c o in an LSTM, PyTorch r z n and ONNX i o f c.
GATES = (3, 4)
# So many numbers on a grid are there by no chance.
FEW_LEVELS = 16


def permuted(case: WrongOutput) -> Iterator[Cause]:
    """The right values in the wrong places; which move it was, where it has a name."""
    if case.judge is None or case.output.size < DISTINCT or not np.isfinite(case.truth).all():
        return
    is_telling = has_distinct(case.truth, DISTINCT) and not _are_at_home(case)
    if is_telling and case.excess_against(_as_ordered(case)) <= 1:
        found = (move for move, truth in _moves(case) if _is_alike(case, truth) and case.excess_against(truth) <= 1)
        moves = list(itertools.islice(found, None if case.output.size <= A_LOOK else 1))  # each is as long
        others = {"also_by": moves[1:]} if len(moves) > 1 else {}
        yield Cause("permuted", moves[0] if moves else "", {**others, "num_moved": int(case.wrong.sum())})
    elif is_telling:
        shifts = itertools.chain(_over_the_edge(case), () if case.output.all() else _shifts(case))
        found = (shift for shift, truth in shifts if _is_alike(case, truth) and case.excess_against(truth) <= 1)
        for shift in itertools.islice(found, 1):
            yield Cause("permuted", shift, {"num_moved": int(case.wrong.sum())})
    yield from _read_elsewhere(case)


def _are_at_home(case: WrongOutput) -> bool:
    """All values are where they belong but for a few bits, measured by how far apart the middle half of them is."""
    lower, upper = np.percentile(case.truth.reshape(-1)[:: max(case.truth.size // A_LOOK, 1)], (25, 75))
    return bool(np.all(np.abs(case.output.astype(np.float64) - case.truth) <= ALIKE * (upper - lower)))


def _as_ordered(case: WrongOutput) -> Truth:
    """Truth's values in the order that the output has its own in."""
    order = np.argsort(case.output, axis=None, kind="stable")
    rearranged = np.empty(case.truth.size)
    rearranged[order] = np.sort(case.truth, axis=None)
    return rearranged.reshape(case.truth.shape)


def _moves(case: WrongOutput) -> Iterator[tuple[str, Truth]]:
    truth, names = case.truth, _axis_names(case)
    for axis, name in enumerate(names):  # few, where an axis can be rolled in as many ways as it is long
        yield from _read_otherwise(truth, axis, name)
    for axis, name in enumerate(names):
        length = truth.shape[axis]
        if length % 2 == 0 and length > 2:
            yield f"{name}: halves swapped", np.roll(truth, length // 2, axis)
        for shift in range(1, min(length, MAX_SHIFTS)):
            yield f"{name}: rolled by {shift} of {length}", np.roll(truth, shift, axis)
        yield f"{name}: reversed", np.flip(truth, axis)
        yield from _in_parts(truth, axis, name)
    for pair in itertools.combinations(range(truth.ndim), 2):
        yield f"{names[pair[0]]} and {names[pair[1]]}: reversed", np.flip(truth, pair)
    for order in itertools.permutations(range(truth.ndim)):
        if order != tuple(range(truth.ndim)):
            words = " x ".join(names[axis] for axis in order)
            yield f"written in the order {words}", np.transpose(truth, order).reshape(truth.shape)


def _shifts(case: WrongOutput) -> Iterator[tuple[str, Truth]]:
    """Moved along one axis by at most half of it, with zeros where nothing came from."""
    for axis, name in enumerate(_axis_names(case)):
        length = case.truth.shape[axis]
        for shift in range(1, min(length // 2, MAX_SHIFTS) + 1):
            for start, words in ((0, "later"), (length - shift, "earlier")):
                moved = np.roll(case.truth, shift if start == 0 else -shift, axis)
                np.moveaxis(moved, axis, 0)[start : start + shift] = 0
                yield f"{name}: {shift} of {length} {words}, zeros left behind", moved


def _over_the_edge(case: WrongOutput) -> Iterator[tuple[str, Truth]]:
    """One place further along an axis, the edge twice: what a sampler reads that keeps to its image."""
    for axis, name in enumerate(_axis_names(case)):
        length = case.truth.shape[axis]
        for step, words in ((-1, "later"), (1, "earlier")) if length > 2 else ():
            places = np.clip(np.arange(length) + step, 0, length - 1)
            yield f"{name}: 1 of {length} {words}, the edge repeated", np.take(case.truth, places, axis)


def _axis_names(case: WrongOutput) -> list[str]:
    named = len(case.axes) == case.truth.ndim
    return list(case.axes) if named else [f"axis {axis}" for axis in range(case.truth.ndim)]


def _read_otherwise(truth: Truth, axis: int, name: str) -> Iterator[tuple[str, Truth]]:
    """An axis of p x q places read as one of q x p, as the rows of a dense layer are where images were flattened
    channels first.
    """
    length, lying = truth.shape[axis], np.moveaxis(truth, axis, 0)
    for rows in (each for each in range(2, length // 2 + 1) if length % each == 0):
        columns = length // rows
        read = lying.reshape(rows, columns, *lying.shape[1:]).swapaxes(0, 1).reshape(lying.shape)
        yield f"{name}: {rows} x {columns} read as {columns} x {rows}", np.moveaxis(read, 0, axis)


def _in_parts(truth: Truth, axis: int, name: str) -> Iterator[tuple[str, Truth]]:
    """The gates of a recurrent layer in another order."""
    for number in GATES:
        if truth.shape[axis] % number or truth.shape[axis] <= number:
            continue
        parts = np.split(truth, number, axis)
        for order in itertools.permutations(range(number)):
            words = " ".join(map(str, order))
            yield f"{name}: its {number} parts in the order {words}", np.concatenate([parts[i] for i in order], axis)


def _is_alike(case: WrongOutput, truth: Truth) -> bool:
    """A look at a few elements, before all are judged."""
    places = np.linspace(0, truth.size - 1, min(truth.size, FEW)).astype(int)
    x, expected = case.output.reshape(-1)[places].astype(np.float64), truth.reshape(-1)[places]
    return bool(np.all(np.abs(x - expected) <= ALIKE * np.abs(expected) + np.finfo(np.float32).tiny))


def _read_elsewhere(case: WrongOutput) -> Iterator[Cause]:
    """An op that only moves data gave other elements of its input than it should."""
    if case.bound.error_class is not ErrorClass.EXACT or not case.is_floating:
        return
    output = case.output.astype(np.float64)
    for position, x in enumerate(case.inputs):
        if x.dtype != np.float64 or not has_distinct(output, DISTINCT):
            continue
        start = _contiguous_from(x.reshape(-1), output.reshape(-1)) if x.size >= output.size else None
        if start is not None:
            summary = f"input {position} read as if it were contiguous, from element {start}"
            yield Cause("permuted", summary, {"start": start, "num_moved": int(case.wrong.sum())})
            return
        if case.share_wrong > 0.5 and np.isin(output, x).all():
            summary = f"elements of input {position}, but others than those asked for"
            yield Cause("permuted", summary, {"num_moved": int(case.wrong.sum())})
            return


def _contiguous_from(source: Array, output: Array) -> int | None:
    """Where in `source` the whole of `output` lies in one piece."""
    starts = np.flatnonzero(source[: source.size - output.size + 1] == output[0])
    for start in starts[:MAX_STARTS]:
        if np.array_equal(source[start : start + output.size], output):
            return int(start)
    return None


def copied(case: WrongOutput) -> dict[str, Any]:
    """Whether a wrong slice along some axis holds what belongs in another: evidence for wrong elements."""
    result: dict[str, Any] = {}
    if not case.is_floating or not np.isfinite(case.truth).all():
        return result
    for axis in range(case.truth.ndim):
        name = case.axes[axis] if len(case.axes) == case.truth.ndim else f"axis-{axis} index"
        rest = math.prod(case.truth.shape) // max(case.truth.shape[axis], 1)
        touched = np.flatnonzero(case.wrong.any(axis=tuple(i for i in range(case.wrong.ndim) if i != axis)))
        if rest < DISTINCT or not 0 < touched.size <= FEW or touched.size == case.truth.shape[axis]:
            continue
        for index in touched[:FEW]:
            said = _holds(np.take(case.output, index, axis).astype(np.float64), case.truth, axis, int(index))
            if said:
                result[f"{name} {int(index)}"] = said.format(name=name)
        if result:
            return {"holds": result}
    return result


def _holds(values: Array, truth: Truth, axis: int, index: int) -> str:
    if not values.any():
        return "zeros" if np.take(truth, index, axis).any() else ""
    rows = np.moveaxis(truth, axis, 0).reshape(truth.shape[axis], -1)
    distance = np.abs(rows - values.reshape(-1)).max(axis=1)
    nearest = int(np.argmin(distance))
    is_it = nearest != index and distance[nearest] <= ALIKE * np.abs(rows[nearest]).max()
    return f"what belongs in {{name}} {nearest}" if is_it else ""


def factored(case: WrongOutput) -> Iterator[Cause]:
    """The wrong elements are all the same number of times what is right; the others are right."""
    if case.judge is None or not case.is_floating or not DISTINCT <= case.wrong.sum() < case.output.size:
        return
    wrong = case.wrong & (case.truth != 0)
    ratios = case.output[wrong].astype(np.float64) / case.truth[wrong]
    factor = float(np.median(ratios)) if ratios.size else math.nan
    if not math.isfinite(factor) or factor in (0.0, 1.0):
        return
    excess = case.excess_against(np.where(wrong, factor * case.truth, case.truth))
    if excess <= 1:
        summary = f"the wrong elements are {factor:.6g} times what is right"
        yield Cause("wrong-elements", summary, {"factor": factor, "remaining_excess": excess})


def elements(case: WrongOutput) -> Iterator[Cause]:
    """Some elements are wrong and most are right, or all at an edge are and none within."""
    if 0.0 < case.share_wrong <= 0.5 or describe_edge(case.wrong):
        yield Cause("wrong-elements", facts=copied(case))


def where(case: WrongOutput) -> dict[str, Any]:
    """Where the wrong elements are, in words, and the worst of them."""
    facts: dict[str, Any] = describe_elements(case.wrong, case.axes)
    values = _values(case) if 0 < case.wrong.sum() < case.wrong.size else ""
    if case.is_floating and case.output.size > 1 and not case.output.any():
        values = "all results are zero"
    if values:
        facts["values"] = values
    grid = _grid(case)
    if grid:
        facts["grid"] = grid
    index = case.bound.worst_index
    if index is not None and case.output.size:
        facts["worst"] = {
            "index": list(index),
            "value": json_number(float(case.output[index])),
            "truth": json_number(float(case.truth[index])),
            "reference": json_number(float(case.reference[index])),
        }
    return facts


def _grid(case: WrongOutput) -> str:
    """A spacing that all results keep to and the right ones do not: fixed point."""
    if not case.is_floating or not np.isfinite(case.output).all() or not np.isfinite(case.truth).all():
        return ""
    values = np.unique(np.abs(case.output.astype(np.float64)))
    values = values[values > 0]
    if values.size < FEW_LEVELS:
        return ""
    precision, (_, exponents) = format_of(case.output.dtype).precision, np.frexp(values)
    for power in range(int(exponents.max()) - 1, int(exponents.min()) - precision, -1):
        scaled = np.ldexp(values, -power)
        if np.array_equal(scaled, np.round(scaled)):
            coarse = int(exponents.max()) - power < precision - 2  # numbers that large have finer ones
            own = np.ldexp(np.abs(case.truth[case.truth != 0]).astype(case.output.dtype).astype(np.float64), -power)
            is_own = np.array_equal(own, np.round(own))
            return f"all results are multiples of 2^{power}" if coarse and not is_own else ""
    return ""


def _values(case: WrongOutput) -> str:
    """By which values the wrong elements are told from the others: those of an input, or the right results."""
    under = [(f"input {position}", x) for position, x in enumerate(case.inputs) if x.dtype == np.float64]
    for name, values in [*under, ("the right result", case.truth)]:
        if values.shape == case.wrong.shape:
            said = describe_values(case.wrong, values, name)
            if said:
                return said
    return ""
