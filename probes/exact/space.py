"""Ops that move numbers between the axes of images: resizing to the nearest, blocks of space in depth or batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from probes.exact.case import Case, case, sparse
from probes.exact.judging import only_some, sweep
from probes.exact.movement import Moves, Source, cases_of, listed
from probes.frame.plan import Choice, Probe


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in ("float32", "float16"):
        for op, source in OPS.items():
            yield sweep(op, dtype, "shapes", only_some(choice, cases_of(source, dtype), dtype))


def resize_gradient(dtype: str) -> Iterator[Case]:
    for shape, times in (((2, 5, 6, 3), (2, 2)), ((1, 3, 4, 17), (3, 2)), ((1, 7, 7, 129), (2, 2))):
        large = (shape[0], shape[1] * times[0], shape[2] * times[1], shape[3])
        parts = (shape[0], shape[1], times[0], shape[2], times[1], shape[3])
        yield case(
            f"{large} to {shape}",
            f"tf.raw_ops.ResizeNearestNeighborGrad(grads=g, size={list(shape[1:3])}, half_pixel_centers=True)",
            {"g": sparse(3, large)},
            lambda g, parts=parts: g.reshape(parts).sum((2, 4)),
            is_sum=True,
        )


def _to_depth(x: np.ndarray, block: int) -> np.ndarray:
    b, h, w, c = x.shape
    parts = x.reshape(b, h // block, block, w // block, block, c).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(b, h // block, w // block, -1)


def _from_depth(x: np.ndarray, block: int) -> np.ndarray:
    b, h, w, c = x.shape
    parts = x.reshape(b, h, w, block, block, c // block**2).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(b, h * block, w * block, -1)


def _to_batch(x: np.ndarray, block: tuple[int, int], pads: Sequence[tuple[int, int]]) -> np.ndarray:
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    return np.concatenate([x[:, i :: block[0], j :: block[1]] for i in range(block[0]) for j in range(block[1])])


def _from_batch(x: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    batch = len(x) // (block[0] * block[1])
    result = np.zeros((batch, x.shape[1] * block[0], x.shape[2] * block[1], x.shape[3]))
    for number, (i, j) in enumerate(np.ndindex(*block)):
        result[:, i :: block[0], j :: block[1]] = x[number * batch : (number + 1) * batch]
    return result[:, :-1, 1:]


RESIZES = (
    Moves(
        lambda size, times: f"to {size}",
        lambda size, times: f'tf.image.resize(x, {size}, "nearest")',
        lambda x, size, times: x.repeat(times[0], 1).repeat(times[1], 2),
        [
            ((2, 5, 6, 3), [10, 12], (2, 2)),
            ((1, 3, 4, 17), [9, 8], (3, 2)),
            ((1, 7, 7, 129), [14, 14], (2, 2)),
            ((3, 1, 1, 2), [15, 17], (15, 17)),
        ],
    ),
    Moves(
        lambda: "to half",
        lambda: 'tf.image.resize(x, [4, 3], "nearest")',
        lambda x: x[:, 1::2, 1::2],
        [((1, 8, 6, 5),)],
    ),
)
SPACE_TO_DEPTH = Moves(
    lambda block: f"blocks of {block}",
    lambda block: f"tf.nn.space_to_depth(x, {block})",
    _to_depth,
    [((2, 4, 6, 3), 2), ((1, 9, 6, 5), 3), ((3, 16, 16, 17), 4), ((1, 2, 2, 1025), 2)],
)
DEPTH_TO_SPACE = Moves(
    lambda block: f"blocks of {block}",
    lambda block: f"tf.nn.depth_to_space(x, {block})",
    _from_depth,
    [((2, 3, 2, 12), 2), ((1, 3, 5, 18), 3), ((3, 4, 4, 16), 4), ((1, 1, 1, 4100), 2)],
)
SPACE_TO_BATCH = Moves(
    lambda block, pads: f"blocks of {block}, pads {pads}",
    lambda block, pads: f"tf.space_to_batch(x, {list(block)}, {listed(pads)})",
    _to_batch,
    [
        ((2, 4, 6, 3), (2, 2), ((0, 0), (0, 0))),
        ((1, 7, 9, 5), (2, 3), ((1, 0), (0, 0))),
        ((3, 8, 8, 17), (4, 2), ((0, 0), (2, 2))),
    ],
)
BATCH_TO_SPACE = Moves(
    lambda block: f"blocks of {block}",
    lambda block: f"tf.batch_to_space(x, {list(block)}, [[0, 1], [1, 0]])",
    _from_batch,
    [((8, 2, 3, 3), (2, 2)), ((6, 5, 2, 17), (3, 2))],
)
OPS: dict[str, Source] = {
    "ResizeNearestNeighbor": RESIZES,
    "ResizeNearestNeighborGrad": resize_gradient,
    "SpaceToDepth": [SPACE_TO_DEPTH],
    "DepthToSpace": [DEPTH_TO_SPACE],
    "SpaceToBatchND": [SPACE_TO_BATCH],
    "BatchToSpaceND": [BATCH_TO_SPACE],
}
