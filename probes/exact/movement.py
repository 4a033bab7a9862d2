"""Ops that move numbers and compute none: every element has a value of its own, and must arrive where it belongs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from probes.exact.case import Case, Data, case, sparse
from probes.exact.judging import only_some, sweep
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

PERIOD = {"bfloat16": 251, "float16": 2039, "float32": 16777213, "int32": 2147483647}  # primes within exact integers


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype, ops in (("float32", OPS), ("float16", OPS), ("bfloat16", FEW_OPS), ("int32", FEW_OPS)):
        for op in ops:
            yield sweep(op, dtype, "shapes", only_some(choice, list(OPS[op](dtype)), dtype))
    for dtype in FLOAT_DTYPES:
        yield sweep("Cast", dtype, "to other dtypes", only_some(choice, list(casts(dtype)), dtype))


def numbers(shape: Sequence[int], dtype: str, start: int = 0) -> str:
    """Text of numbers that count up, from the lowest again where the dtype's exact integers end."""
    count = int(np.prod(shape))
    return f"((np.arange({count}) + {start}) % {PERIOD[dtype]}).reshape({tuple(shape)})"


def moved(
    label: str, body: str, shape: Sequence[int], dtype: str, oracle: Callable[..., Any], **more: str | Data
) -> Case:
    return case(f"{' x '.join(map(str, shape))} {label}".strip(), body, {"x": numbers(shape, dtype), **more}, oracle)


def transpose(dtype: str) -> Iterator[Case]:
    for order in itertools.permutations(range(4)):
        yield moved(
            f"order {order}",
            f"tf.transpose(x, {list(order)})",
            (3, 17, 5, 16),
            dtype,
            lambda x, order=order: x.transpose(order),
        )
    for shape in ((1, 65537), (65537, 2), (129, 127), (1023, 33), (0, 3)):
        yield moved("", "tf.transpose(x)", shape, dtype, lambda x: x.T)
    yield moved("order (0, 2, 1)", "tf.transpose(x, [0, 2, 1])", (33, 31, 33), dtype, lambda x: x.transpose(0, 2, 1))


def slices(dtype: str) -> Iterator[Case]:
    for shape, text in (
        ((17, 33), "x[:, ::2]"),
        ((17, 33), "x[::-1]"),
        ((17, 33), "x[3:-2, ::-3]"),
        ((1025, 3), "x[-1:0:-7]"),
        ((5, 6, 7), "x[..., 1]"),
        ((5, 6, 7), "x[:, tf.newaxis, 2, 4:1:-1]"),
        ((65537, 2), "x[1::2, 1]"),
        ((4, 5), "x[2:2]"),
        ((3, 3, 5, 7), "x[:, 1:, ::2, -3:]"),
    ):
        yield moved(text, text, shape, dtype, lambda x, text=text: eval(text.replace("tf.newaxis", "None"), {"x": x}))


def slice_op(dtype: str) -> Iterator[Case]:
    for shape, begin, size in (
        ((17, 33), (3, 5), (9, 17)),
        ((5, 6, 7, 8), (1, 0, 2, 3), (3, 6, 5, 1)),
        ((65539,), (1,), (65537,)),
        ((129, 2), (0, 1), (129, 1)),
        ((4, 5), (1, 1), (0, 2)),
    ):
        where = tuple(slice(b, b + s) for b, s in zip(begin, size, strict=True))
        yield moved(
            f"from {begin}, {size}",
            f"tf.raw_ops.Slice(input=x, begin={list(begin)}, size={list(size)})",
            shape,
            dtype,
            lambda x, where=where: x[where],
        )


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


def split(dtype: str) -> Iterator[Case]:
    for shape, count, axis in (((6, 5), 3, 0), ((5, 64), 4, 1), ((2, 3, 1024), 16, 2), ((65536, 2), 2, 1)):
        yield moved(
            f"in {count} along {axis}",
            f"tf.split(x, {count}, {axis})",
            shape,
            dtype,
            lambda x, count=count, axis=axis: np.split(x, count, axis),
        )
    yield moved("in 3, 1, 13", "tf.split(x, [3, 1, 13], 0)", (17, 5), dtype, lambda x: [x[:3], x[3:4], x[4:]])


def pack(dtype: str) -> Iterator[Case]:
    for shape, axis in (((3, 5), 0), ((17, 33), 1), ((5, 1025), 2), ((1,), 0)):
        yield moved(
            f"stacked along {axis}",
            f"tf.stack([x, -x, x], {axis})",
            shape,
            dtype,
            lambda x, axis=axis: np.stack([x, -x, x], axis),
        )


def unpack(dtype: str) -> Iterator[Case]:
    for shape, axis in (((3, 5), 0), ((17, 33), 1), ((5, 129), 1), ((1, 4, 6), 2)):
        yield moved(
            f"unstacked along {axis}",
            f"tf.unstack(x, axis={axis})[::16]",
            shape,
            dtype,
            lambda x, axis=axis: list(np.moveaxis(x, axis, 0))[::16],
        )


def pad(dtype: str) -> Iterator[Case]:
    for shape, pads in (
        ((3, 5), ((1, 2), (0, 3))),
        ((17, 33), ((0, 0), (5, 1))),
        ((2, 8, 9, 3), ((0, 0), (1, 1), (2, 0), (0, 0))),
        ((1025,), ((7, 0),)),
        ((2, 65537), ((1, 0), (0, 0))),
    ):
        text = [list(pair) for pair in pads]
        yield moved(f"by {pads}", f"tf.pad(x, {text})", shape, dtype, lambda x, pads=pads: np.pad(x, pads))
        yield moved(
            f"by {pads} of -7",
            f"tf.pad(x, {text}, constant_values=-7)",
            shape,
            dtype,
            lambda x, pads=pads: np.pad(x, pads, constant_values=-7),
        )


def mirror_pad(dtype: str) -> Iterator[Case]:
    for shape, pads in (
        ((3, 5), ((1, 2), (0, 3))),
        ((17, 33), ((0, 0), (5, 1))),
        ((2, 8, 9, 3), ((0, 0), (1, 1), (2, 0), (0, 0))),
    ):
        for mode in ("REFLECT", "SYMMETRIC"):
            yield moved(
                f"by {pads} {mode}",
                f'tf.pad(x, {[list(pair) for pair in pads]}, "{mode}")',
                shape,
                dtype,
                lambda x, pads=pads, mode=mode: np.pad(x, pads, mode.lower()),
            )


def tile(dtype: str) -> Iterator[Case]:
    for shape, times in (
        ((3, 5), (2, 3)),
        ((17,), (33,)),
        ((1, 1025), (5, 1)),
        ((2, 3, 4, 5), (1, 2, 1, 3)),
        ((2, 1), (1, 65537)),
        ((3, 2), (0, 1)),
    ):
        yield moved(
            f"times {times}", f"tf.tile(x, {list(times)})", shape, dtype, lambda x, times=times: np.tile(x, times)
        )


def broadcast(dtype: str) -> Iterator[Case]:
    for shape, to in (
        ((5,), (3, 5)),
        ((17, 1), (17, 33)),
        ((1, 3, 1), (129, 3, 5)),
        ((1,), (65537,)),
        ((2, 1, 1, 3), (2, 9, 8, 3)),
    ):
        yield moved(
            f"to {to}", f"tf.broadcast_to(x, {list(to)})", shape, dtype, lambda x, to=to: np.broadcast_to(x, to)
        )


def reverse(dtype: str) -> Iterator[Case]:
    for shape, axes in (
        ((17,), (0,)),
        ((3, 33), (1,)),
        ((5, 6, 7), (0, 2)),
        ((2, 65537), (1,)),
        ((2, 3, 4, 5), (3,)),
        ((8, 9, 3), (2,)),
    ):
        yield moved(
            f"along {axes}", f"tf.reverse(x, {list(axes)})", shape, dtype, lambda x, axes=axes: np.flip(x, axes)
        )


def roll(dtype: str) -> Iterator[Case]:
    for shape, shift, axis in (
        ((17,), 3, 0),
        ((3, 33), -5, 1),
        ((1025, 2), 1024, 0),
        ((5, 6, 7), 9, 1),
        ((65537,), 1, 0),
    ):
        yield moved(
            f"by {shift} along {axis}",
            f"tf.roll(x, {shift}, {axis})",
            shape,
            dtype,
            lambda x, shift=shift, axis=axis: np.roll(x, shift, axis),
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


def band_part(dtype: str) -> Iterator[Case]:
    for shape, below, above in (((17, 17), -1, 0), ((3, 16, 33), 0, -1), ((129, 127), 2, 3), ((2, 5, 5), 0, 0)):
        row, column = np.arange(shape[-2])[:, None], np.arange(shape[-1])
        kept = ((below < 0) | (row - column <= below)) & ((above < 0) | (column - row <= above))
        yield moved(
            f"{below} below, {above} above",
            f"tf.linalg.band_part(x, {below}, {above})",
            shape,
            dtype,
            lambda x, kept=kept: x * kept,
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


OPS: dict[str, Callable[[str], Iterator[Case]]] = {
    "Transpose": transpose,
    "StridedSlice": slices,
    "Slice": slice_op,
    "ConcatV2": concat,
    "Split": split,
    "Pack": pack,
    "Unpack": unpack,
    "PadV2": pad,
    "MirrorPad": mirror_pad,
    "Tile": tile,
    "BroadcastTo": broadcast,
    "ReverseV2": reverse,
    "Roll": roll,
    "SelectV2": select,
    "OneHot": one_hot,
    "MatrixBandPart": band_part,
}
FEW_OPS = ("Transpose", "StridedSlice", "ConcatV2", "Tile", "SelectV2")
