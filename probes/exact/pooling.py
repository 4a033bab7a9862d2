"""Pooling of integers: the largest of each window, means over powers of two, and their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from probes.exact import oracles
from probes.exact.case import Case, case, sparse
from probes.exact.convolutions import IMAGE_AXES
from probes.exact.judging import only_some, sweep
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe


@dataclass(frozen=True)
class Pool:
    batch: int
    sizes: tuple[int, ...]
    channels: int
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    channels_first: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored((self.batch, *self.sizes, self.channels))

    @property
    def result(self) -> tuple[int, ...]:
        sizes = oracles.Geometry(self.strides, self.padding, [1] * len(self.sizes)).outputs(self.sizes, self.window)
        return self.stored((self.batch, *sizes, self.channels))

    def stored(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], shape[-1], *shape[1:-1]) if self.channels_first else shape

    @property
    def label(self) -> str:
        return f"{' x '.join(map(str, self.shape))}, window {self.window}, strides {self.strides}, {self.padding}"

    @property
    def attributes(self) -> str:
        window, strides = ([1, 1, *each] if self.channels_first else [1, *each, 1]
                           for each in (self.window, self.strides))  # fmt: skip
        layout = {2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}[len(self.sizes)][self.channels_first]
        return f'ksize={window}, strides={strides}, padding="{self.padding}", data_format="{layout}"'

    @property
    def geometry(self) -> tuple[tuple[int, ...], tuple[int, ...], str]:
        return self.window, self.strides, self.padding


PLANES = (
    Pool(2, (8, 8), 3, (2, 2), (2, 2), "VALID"),
    Pool(1, (15, 15), 16, (2, 2), (2, 2), "SAME"),
    Pool(3, (13, 11), 17, (3, 3), (2, 2), "SAME"),
    Pool(1, (9, 14), 33, (3, 2), (1, 1), "VALID"),
    Pool(2, (7, 7), 129, (7, 7), (7, 7), "VALID"),
    Pool(1, (3, 3), 65537, (2, 2), (1, 1), "SAME"),
    Pool(1025, (2, 2), 1, (2, 2), (2, 2), "VALID"),
    Pool(0, (4, 4), 3, (2, 2), (2, 2), "VALID"),
    Pool(2, (8, 6), 5, (2, 2), (2, 2), "VALID", channels_first=True),
)
VOLUMES = (
    Pool(2, (4, 5, 6), 3, (2, 2, 2), (2, 2, 2), "VALID"),
    Pool(1, (5, 5, 5), 17, (2, 2, 2), (2, 2, 2), "SAME"),
    Pool(1, (4, 5, 7), 4, (3, 2, 1), (1, 1, 1), "VALID"),
)
# Counts of elements in a window must be powers of two, at the edges of the image as well.
MEANS = (
    Pool(2, (8, 8), 3, (2, 2), (2, 2), "VALID"),
    Pool(1, (15, 15), 16, (2, 2), (2, 2), "SAME"),
    Pool(3, (16, 12), 17, (4, 2), (2, 1), "VALID"),
    Pool(2, (8, 8), 129, (8, 8), (8, 8), "VALID"),
    Pool(1, (3, 3), 65537, (2, 2), (1, 1), "SAME"),
    Pool(0, (4, 4), 3, (2, 2), (2, 2), "VALID"),
    Pool(2, (8, 6), 5, (2, 2), (2, 2), "VALID", channels_first=True),
)
MEAN_VOLUMES = VOLUMES[:2]


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in FLOAT_DTYPES:
        for suffix, largest, means in (("", PLANES, MEANS), ("3D", VOLUMES, MEAN_VOLUMES)):
            for op, make, pools in (
                (f"MaxPool{suffix}", maximum, largest),
                (f"MaxPool{suffix}Grad", maximum_gradient, [pool for pool in largest if pool.batch]),
                (f"AvgPool{suffix}", mean, means),
                (f"AvgPool{suffix}Grad", mean_gradient, [pool for pool in means if pool.batch]),
            ):
                yield sweep(op, dtype, "shapes", only_some(choice, [make(op, pool) for pool in pools], dtype))


def ranks(pool: Pool, seed: int, lowest: int) -> str:
    """Text of an image without ties in any channel: ranks from `lowest` on; all below zero tells padding by zeros."""
    count = int(np.prod(pool.sizes))
    last = len(pool.sizes) + 1
    order = (0, *range(2, last + 1), 1)
    text = (
        f"np.random.RandomState({seed}).rand({pool.batch}, {pool.channels}, {count}).argsort(-1)"
        f".reshape({(pool.batch, pool.channels, *pool.sizes)})"
    )
    return f"{text} + {lowest}" if pool.channels_first else f"{text}.transpose({order}) + {lowest}"


def _inputs(pool: Pool) -> dict[str, str]:
    return {"x": ranks(pool, 3, -250 if pool.padding == "SAME" else -20)}


def _axes(pool: Pool) -> tuple[str, ...]:
    if len(pool.sizes) != 2:
        return ()
    batch, height, width, channel = IMAGE_AXES[2]
    return (batch, channel, height, width) if pool.channels_first else IMAGE_AXES[2]


def _last(pool: Pool, image: np.ndarray) -> np.ndarray:
    return np.moveaxis(image, 1, -1) if pool.channels_first else image


def _stored(pool: Pool, image: np.ndarray) -> np.ndarray:
    return np.moveaxis(image, -1, 1) if pool.channels_first else image


def maximum(op: str, pool: Pool) -> Case:
    return case(
        pool.label, f"tf.raw_ops.{op}(input=x, {pool.attributes})", _inputs(pool),
        lambda x: _stored(pool, oracles.max_pool(_last(pool, x), *pool.geometry)), axes=_axes(pool),
    )  # fmt: skip


def maximum_gradient(op: str, pool: Pool) -> Case:
    forward = op.removesuffix("Grad")
    return case(
        pool.label,
        f"y = tf.raw_ops.{forward}(input=x, {pool.attributes})\n"
        f"return tf.raw_ops.{op}(orig_input=x, orig_output=y, grad=g, {pool.attributes})",
        {**_inputs(pool), "g": sparse(5, pool.result)},
        lambda x, g: _stored(pool, oracles.max_pool_gradient(_last(pool, x), _last(pool, g), *pool.geometry)),
        axes=_axes(pool),
    )  # fmt: skip


def mean(op: str, pool: Pool) -> Case:
    return case(
        pool.label, f"tf.raw_ops.{op}({'input' if '3D' in op else 'value'}=x, {pool.attributes})",
        {"x": sparse(6, pool.shape)},
        lambda x: _stored(pool, oracles.average_pool(_last(pool, x), *pool.geometry)), axes=_axes(pool),
    )  # fmt: skip


def mean_gradient(op: str, pool: Pool) -> Case:
    shape = (pool.batch, *pool.sizes, pool.channels)
    return case(
        pool.label, f"tf.raw_ops.{op}(orig_input_shape={list(pool.shape)}, grad=g, {pool.attributes})",
        {"g": sparse(7, pool.result)},
        lambda g: _stored(pool, oracles.average_pool_gradient(shape, _last(pool, g), *pool.geometry)),
        axes=_axes(pool),
    )  # fmt: skip
