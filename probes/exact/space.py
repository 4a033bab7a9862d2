"""Ops that move numbers between the axes of images: resizing to the nearest, blocks of space in depth or batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from probes.exact.case import Case, case, sparse
from probes.exact.judging import only_some, sweep
from probes.exact.movement import moved
from probes.frame.plan import Choice, Probe


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in ("float32", "float16"):
        for op, make in OPS.items():
            yield sweep(op, dtype, "shapes", only_some(choice, list(make(dtype)), dtype))


def resize(dtype: str) -> Iterator[Case]:
    for shape, times in (
        ((2, 5, 6, 3), (2, 2)),
        ((1, 3, 4, 17), (3, 2)),
        ((1, 7, 7, 129), (2, 2)),
        ((3, 1, 1, 2), (15, 17)),
    ):
        size = [shape[1] * times[0], shape[2] * times[1]]
        yield moved(
            f"to {size}",
            f'tf.image.resize(x, {size}, "nearest")',
            shape,
            dtype,
            lambda x, times=times: x.repeat(times[0], 1).repeat(times[1], 2),
        )
    yield moved("to half", 'tf.image.resize(x, [4, 3], "nearest")', (1, 8, 6, 5), dtype, lambda x: x[:, 1::2, 1::2])


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


def blocks_of_space(dtype: str) -> Iterator[Case]:
    for shape, block in (((2, 4, 6, 3), 2), ((1, 9, 6, 5), 3), ((3, 16, 16, 17), 4), ((1, 2, 2, 1025), 2)):
        b, h, w, c = shape
        parts = (b, h // block, block, w // block, block, c)
        yield moved(
            f"blocks of {block}",
            f"tf.nn.space_to_depth(x, {block})",
            shape,
            dtype,
            lambda x, parts=parts: (
                x.reshape(parts).transpose(0, 1, 3, 2, 4, 5).reshape(parts[0], parts[1], parts[3], -1)
            ),
        )


def depth_to_space(dtype: str) -> Iterator[Case]:
    for shape, block in (((2, 3, 2, 12), 2), ((1, 3, 5, 18), 3), ((3, 4, 4, 16), 4), ((1, 1, 1, 4100), 2)):
        b, h, w, c = shape
        parts = (b, h, w, block, block, c // block**2)
        yield moved(
            f"blocks of {block}",
            f"tf.nn.depth_to_space(x, {block})",
            shape,
            dtype,
            lambda x, parts=parts: (
                x.reshape(parts)
                .transpose(0, 1, 3, 2, 4, 5)
                .reshape(parts[0], parts[1] * parts[3], parts[2] * parts[4], -1)
            ),
        )


def space_to_batch(dtype: str) -> Iterator[Case]:
    for shape, block, pads in (
        ((2, 4, 6, 3), (2, 2), ((0, 0), (0, 0))),
        ((1, 7, 9, 5), (2, 3), ((1, 0), (0, 0))),
        ((3, 8, 8, 17), (4, 2), ((0, 0), (2, 2))),
    ):
        yield moved(
            f"blocks of {block}, pads {pads}",
            f"tf.space_to_batch(x, {list(block)}, {[list(pair) for pair in pads]})",
            shape,
            dtype,
            lambda x, block=block, pads=pads: _to_batch(x, block, pads),
        )


def _to_batch(x: np.ndarray, block: tuple[int, int], pads: Sequence[tuple[int, int]]) -> np.ndarray:
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    return np.concatenate([x[:, i :: block[0], j :: block[1]] for i in range(block[0]) for j in range(block[1])])


def batch_to_space(dtype: str) -> Iterator[Case]:
    for shape, block in (((8, 2, 3, 3), (2, 2)), ((6, 5, 2, 17), (3, 2))):
        yield moved(
            f"blocks of {block}",
            f"tf.batch_to_space(x, {list(block)}, [[0, 1], [1, 0]])",
            shape,
            dtype,
            lambda x, block=block: _from_batch(x, block)[:, :-1, 1:],
        )


def _from_batch(x: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    batch = len(x) // (block[0] * block[1])
    made = np.zeros((batch, x.shape[1] * block[0], x.shape[2] * block[1], x.shape[3]))
    for number, (i, j) in enumerate(np.ndindex(*block)):
        made[:, i :: block[0], j :: block[1]] = x[number * batch : (number + 1) * batch]
    return made


OPS: dict[str, Callable[[str], Iterator[Case]]] = {
    "ResizeNearestNeighbor": resize,
    "ResizeNearestNeighborGrad": resize_gradient,
    "SpaceToDepth": blocks_of_space,
    "DepthToSpace": depth_to_space,
    "SpaceToBatchND": space_to_batch,
    "BatchToSpaceND": batch_to_space,
}
