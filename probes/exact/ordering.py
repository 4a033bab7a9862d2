"""Numbers put in order: top k, sort, argsort, the place of the largest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from probes.exact.case import Case, case
from probes.exact.judging import noted_sweep, only_some, sweep
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

KS = (1, 15, 16, 17, 33)


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in (*FLOAT_DTYPES, "int32"):
        yield sweep("TopKV2", dtype, "k", only_some(choice, top_k(dtype), "float32"))
        for op, cases in (
            ("tf.sort", sort(dtype)), ("tf.argsort", argsort(dtype)), ("ArgMax", largest("ArgMax", dtype)),
            ("ArgMin", largest("ArgMin", dtype)),
        ):  # fmt: skip
            yield sweep(op, dtype, "lengths", only_some(choice, cases, dtype))
    for dtype in FLOAT_DTYPES:
        yield ties("ArgMax", dtype)


def distinct(rows: int, length: int, dtype: str) -> str:
    """Text of rows without equal numbers; bfloat16 holds 511 integers in a row."""
    return f"np.random.RandomState({length}).rand({rows}, {length}).argsort(-1) - {length // 2}"


def lengths_of(dtype: str) -> tuple[int, ...]:
    longest = {"bfloat16": 511, "float16": 4095}.get(dtype, 70000)
    return tuple(length for length in (1, 2, 15, 16, 17, 33, 129, 257, 511, 1025, 4095, 32769) if length <= longest)


def top_k(dtype: str) -> list[Case]:
    result = []
    for k in KS:
        for length in (33, 129, lengths_of(dtype)[-1]):
            result.append(
                case(f"k = {k} of {length}", f"tf.raw_ops.TopKV2(input=x, k={k})", {"x": distinct(3, length, dtype)},
                     lambda x, k=k: [-np.sort(-x, -1)[:, :k], np.argsort(-x, -1)[:, :k]], axes=("row", "index"))
            )  # fmt: skip
        result.append(  # equal numbers come in their own order, says TensorFlow's documentation
            case(f"k = {k} of 65 with ties", f"tf.raw_ops.TopKV2(input=x, k={k})",
                 {"x": f"np.random.RandomState({k}).randint(-5, 5, (2, 65))"},
                 lambda x, k=k: [-np.sort(-x, -1)[:, :k], np.argsort(-x, -1, kind="stable")[:, :k]],
                 axes=("row", "index"))
        )  # fmt: skip
    return result


def sort(dtype: str) -> list[Case]:
    return [
        case(f"3 rows of {length}, {direction}", f'tf.sort(x, direction="{direction}")',
             {"x": distinct(3, length, dtype)},
             lambda x, down=direction == "DESCENDING": -np.sort(-x, -1) if down else np.sort(x, -1))
        for length in lengths_of(dtype) for direction in ("ASCENDING", "DESCENDING")
    ][::2 if dtype == "float32" else 3]  # fmt: skip


def argsort(dtype: str) -> list[Case]:
    return [
        case(f"3 rows of {length}", "tf.argsort(x, stable=True)", {"x": distinct(3, length, dtype)},
             lambda x: np.argsort(x, -1))
        for length in lengths_of(dtype)[::2]
    ]  # fmt: skip


def largest(op: str, dtype: str) -> list[Case]:
    """No two numbers of a row are equal."""
    find = np.argmax if op == "ArgMax" else np.argmin
    result = [
        case(f"3 rows of {length}", f"tf.raw_ops.{op}(input=x, dimension=1)", {"x": distinct(3, length, dtype)},
             lambda x: find(x, 1))
        for length in lengths_of(dtype)[1::2]
    ]  # fmt: skip
    for axis in (0, 1, 2):
        result.append(
            case(f"5 x 6 x 7 along {axis}", f"tf.raw_ops.{op}(input=x, dimension={axis})",
                 {"x": "(np.random.RandomState(1).permutation(210) - 105).reshape(5, 6, 7)"},
                 lambda x, axis=axis: find(x, axis))
        )  # fmt: skip
    return result


def ties(op: str, dtype: str) -> Probe:
    """Which of several equal numbers wins."""
    cases = [
        case(f"3 rows of {length} with ties", f"tf.raw_ops.{op}(input=x, dimension=1)",
             {"x": f"np.random.RandomState({length}).randint(0, 2, (3, {length}))"}, lambda x: np.argmax(x, 1))
        for length in (17, 129, 1025)
    ]  # fmt: skip
    return noted_sweep(op, dtype, "ties", cases, "not the first of equal numbers; TensorFlow promises none")
