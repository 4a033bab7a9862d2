"""Ops that move numbers and compute none: every element has a value of its own, and must arrive where it belongs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from probes.exact.case import Case, Data, case, sparse
from probes.exact.judging import only_some, sweep
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

PERIOD = {"bfloat16": 251, "float16": 2039, "float32": 16777213, "int32": 2147483647}  # primes within exact integers


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype, ops in (("float32", OPS), ("float16", OPS), ("bfloat16", FEW_OPS), ("int32", FEW_OPS)):
        for op in ops:
            yield sweep(op, dtype, "shapes", only_some(choice, cases_of(OPS[op], dtype), dtype))
    for dtype in FLOAT_DTYPES:
        yield sweep("Cast", dtype, "to other dtypes", only_some(choice, list(casts(dtype)), dtype))


@dataclass(frozen=True)
class Moves:
    """Moves of one kind.

    rows: (shape, parameters); label and text are made of the parameters, and so is the oracle, which takes the array
    first.
    """

    label: Callable[..., str]
    text: Callable[..., str]
    oracle: Callable[..., Any]
    rows: Sequence[tuple[Any, ...]]

    def cases(self, dtype: str) -> Iterator[Case]:
        for shape, *parameters in self.rows:
            oracle = partial(self._applied, tuple(parameters))
            yield moved(self.label(*parameters), self.text(*parameters), shape, dtype, oracle)

    def _applied(self, parameters: tuple[Any, ...], x: np.ndarray) -> Any:
        return self.oracle(x, *parameters)


Source = Callable[[str], Iterator[Case]] | Sequence[Moves]


def cases_of(source: Source, dtype: str) -> list[Case]:
    """Of a function of the dtype, or of tables of moves."""
    return list(source(dtype)) if callable(source) else [case for moves in source for case in moves.cases(dtype)]


def numbers(shape: Sequence[int], dtype: str, start: int = 0) -> str:
    """Text of numbers that count up, from the lowest again where the dtype's exact integers end."""
    count = int(np.prod(shape))
    return f"((np.arange({count}) + {start}) % {PERIOD[dtype]}).reshape({tuple(shape)})"


def moved(
    label: str, body: str, shape: Sequence[int], dtype: str, oracle: Callable[..., Any], **more: str | Data
) -> Case:
    return case(f"{' x '.join(map(str, shape))} {label}".strip(), body, {"x": numbers(shape, dtype), **more}, oracle)


def listed(pairs: Iterable[Sequence[int]]) -> list[list[int]]:
    return [list(pair) for pair in pairs]


def concat(dtype: str) -> Iterator[Case]:
    for shape, other, axis in (
        ((3, 5), (4, 5), 0),
        ((17, 16), (17, 1), 1),
        ((2, 3, 1025), (2, 3, 7), 2),
        ((65537, 1), (65537, 2), 1),
        ((0, 4), (3, 4), 0),
        ((2, 8, 8, 31), (2, 8, 8, 33), 3),
    ):
        yield case(
            f"{shape} and {other} along {axis}",
            f"tf.concat([x, y, x], {axis})",
            {"x": numbers(shape, dtype), "y": numbers(other, dtype, 100)},
            lambda x, y, axis=axis: np.concatenate([x, y, x], axis),
        )


def select(dtype: str) -> Iterator[Case]:
    for shape, other in (
        ((17, 33), (17, 33)),
        ((1025,), (1025,)),
        ((3, 1, 5), (1, 7, 5)),
        ((65537,), (1,)),
        ((2, 3), (2, 1)),
    ):
        yield case(
            f"{shape} or {other}",
            "tf.where(x > y, x, y)",
            {"x": sparse(1, shape), "y": sparse(2, other)},
            lambda x, y: np.where(x > y, x, y),
        )


def one_hot(dtype: str) -> Iterator[Case]:
    for count, depth in ((17, 5), (3, 1025), (129, 33), (1, 1), (65537, 2)):
        yield case(
            f"{count} of {depth}",
            f"tf.one_hot(i, {depth}, tf.constant(2, x.dtype), tf.constant(-1, x.dtype)) + x",
            {"i": Data(f"np.random.RandomState(1).randint(-1, {depth + 1}, {count})", "int32"), "x": "np.zeros(())"},
            lambda i, x, depth=depth: np.where(i[:, None] == np.arange(depth), 2.0, -1.0),
        )


def casts(dtype: str) -> Iterator[Case]:
    """Whole numbers that both dtypes hold."""
    for to in ("float32", "float16", "bfloat16", "float64", "int32", "int64", "bool"):
        for count in (17, 65537):
            yield case(
                f"{count} to {to}",
                f'tf.cast(x, "{to}")',
                {"x": f"np.arange({count}) % 251 - 125"},
                lambda x, to=to: x != 0 if to == "bool" else x,
            )


def _band(x: np.ndarray, below: int, above: int) -> np.ndarray:
    row, column = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])
    return x * (((below < 0) | (row - column <= below)) & ((above < 0) | (column - row <= above)))


TRANSPOSES = (
    Moves(
        lambda order: f"order {order}",
        lambda order: f"tf.transpose(x, {list(order)})",
        np.transpose,
        [((3, 17, 5, 16), order) for order in itertools.permutations(range(4))],
    ),
    Moves(
        lambda: "",
        lambda: "tf.transpose(x)",
        np.transpose,
        [((1, 65537),), ((65537, 2),), ((129, 127),), ((1023, 33),), ((0, 3),)],
    ),
    Moves(
        lambda order: f"order {order}",
        lambda order: f"tf.transpose(x, {list(order)})",
        np.transpose,
        [((33, 31, 33), (0, 2, 1))],
    ),
)
STRIDED_SLICES = Moves(
    lambda text: text,
    lambda text: text,
    lambda x, text: eval(text.replace("tf.newaxis", "None"), {"x": x}),
    [
        ((17, 33), "x[:, ::2]"),
        ((17, 33), "x[::-1]"),
        ((17, 33), "x[3:-2, ::-3]"),
        ((1025, 3), "x[-1:0:-7]"),
        ((5, 6, 7), "x[..., 1]"),
        ((5, 6, 7), "x[:, tf.newaxis, 2, 4:1:-1]"),
        ((65537, 2), "x[1::2, 1]"),
        ((4, 5), "x[2:2]"),
        ((3, 3, 5, 7), "x[:, 1:, ::2, -3:]"),
    ],
)
SLICES = Moves(
    lambda begin, size: f"from {begin}, {size}",
    lambda begin, size: f"tf.raw_ops.Slice(input=x, begin={list(begin)}, size={list(size)})",
    lambda x, begin, size: x[tuple(slice(b, b + s) for b, s in zip(begin, size, strict=True))],
    [
        ((17, 33), (3, 5), (9, 17)),
        ((5, 6, 7, 8), (1, 0, 2, 3), (3, 6, 5, 1)),
        ((65539,), (1,), (65537,)),
        ((129, 2), (0, 1), (129, 1)),
        ((4, 5), (1, 1), (0, 2)),
    ],
)
SPLITS = (
    Moves(
        lambda count, axis: f"in {count} along {axis}",
        lambda count, axis: f"tf.split(x, {count}, {axis})",
        np.split,
        [((6, 5), 3, 0), ((5, 64), 4, 1), ((2, 3, 1024), 16, 2), ((65536, 2), 2, 1)],
    ),
    Moves(lambda: "in 3, 1, 13", lambda: "tf.split(x, [3, 1, 13], 0)", lambda x: [x[:3], x[3:4], x[4:]], [((17, 5),)]),
)
STACKS = Moves(
    lambda axis: f"stacked along {axis}",
    lambda axis: f"tf.stack([x, -x, x], {axis})",
    lambda x, axis: np.stack([x, -x, x], axis),
    [((3, 5), 0), ((17, 33), 1), ((5, 1025), 2), ((1,), 0)],
)
UNSTACKS = Moves(
    lambda axis: f"unstacked along {axis}",
    lambda axis: f"tf.unstack(x, axis={axis})[::16]",
    lambda x, axis: list(np.moveaxis(x, axis, 0))[::16],
    [((3, 5), 0), ((17, 33), 1), ((5, 129), 1), ((1, 4, 6), 2)],
)
IMAGE_PADS = (
    ((3, 5), ((1, 2), (0, 3))),
    ((17, 33), ((0, 0), (5, 1))),
    ((2, 8, 9, 3), ((0, 0), (1, 1), (2, 0), (0, 0))),
)
PADS = Moves(
    lambda pads, value: f"by {pads} of {value}" if value else f"by {pads}",
    lambda pads, value: f"tf.pad(x, {listed(pads)}{f', constant_values={value}' if value else ''})",
    lambda x, pads, value: np.pad(x, pads, constant_values=value),
    [
        (shape, pads, value)
        for shape, pads in (*IMAGE_PADS, ((1025,), ((7, 0),)), ((2, 65537), ((1, 0), (0, 0))))
        for value in (0, -7)
    ],
)
MIRROR_PADS = Moves(
    lambda pads, mode: f"by {pads} {mode}",
    lambda pads, mode: f'tf.pad(x, {listed(pads)}, "{mode}")',
    lambda x, pads, mode: np.pad(x, pads, mode.lower()),
    [(*row, mode) for row in IMAGE_PADS for mode in ("REFLECT", "SYMMETRIC")],
)
TILES = Moves(
    lambda times: f"times {times}",
    lambda times: f"tf.tile(x, {list(times)})",
    np.tile,
    [
        ((3, 5), (2, 3)),
        ((17,), (33,)),
        ((1, 1025), (5, 1)),
        ((2, 3, 4, 5), (1, 2, 1, 3)),
        ((2, 1), (1, 65537)),
        ((3, 2), (0, 1)),
    ],
)
BROADCASTS = Moves(
    lambda to: f"to {to}",
    lambda to: f"tf.broadcast_to(x, {list(to)})",
    np.broadcast_to,
    [((5,), (3, 5)), ((17, 1), (17, 33)), ((1, 3, 1), (129, 3, 5)), ((1,), (65537,)), ((2, 1, 1, 3), (2, 9, 8, 3))],
)
REVERSALS = Moves(
    lambda axes: f"along {axes}",
    lambda axes: f"tf.reverse(x, {list(axes)})",
    np.flip,
    [((17,), (0,)), ((3, 33), (1,)), ((5, 6, 7), (0, 2)), ((2, 65537), (1,)), ((2, 3, 4, 5), (3,)), ((8, 9, 3), (2,))],
)
ROLLS = Moves(
    lambda shift, axis: f"by {shift} along {axis}",
    lambda shift, axis: f"tf.roll(x, {shift}, {axis})",
    np.roll,
    [((17,), 3, 0), ((3, 33), -5, 1), ((1025, 2), 1024, 0), ((5, 6, 7), 9, 1), ((65537,), 1, 0)],
)
BANDS = Moves(
    lambda below, above: f"{below} below, {above} above",
    lambda below, above: f"tf.linalg.band_part(x, {below}, {above})",
    _band,
    [((17, 17), -1, 0), ((3, 16, 33), 0, -1), ((129, 127), 2, 3), ((2, 5, 5), 0, 0)],
)
OPS: dict[str, Source] = {
    "Transpose": TRANSPOSES,
    "StridedSlice": [STRIDED_SLICES],
    "Slice": [SLICES],
    "ConcatV2": concat,
    "Split": SPLITS,
    "Pack": [STACKS],
    "Unpack": [UNSTACKS],
    "PadV2": [PADS],
    "MirrorPad": [MIRROR_PADS],
    "Tile": [TILES],
    "BroadcastTo": [BROADCASTS],
    "ReverseV2": [REVERSALS],
    "Roll": [ROLLS],
    "SelectV2": select,
    "OneHot": one_hot,
    "MatrixBandPart": [BANDS],
}
FEW_OPS = ("Transpose", "StridedSlice", "ConcatV2", "Tile", "SelectV2")
