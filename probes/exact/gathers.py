"""Rows taken by index and put back: gathers, embeddings, scatters, and their gradients with indices that repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from probes.exact.case import Case, case, indices, share_of, sparse
from probes.exact.judging import only_some, sweep
from probes.exact.movement import numbers
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

TABLES = (((17, 3), 5), ((5, 33), 129), ((1025, 2), 1023), ((3, 129), 65537), ((65537, 1), 33), ((7, 4), 0))


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in FLOAT_DTYPES:
        for op, make in OPS.items():
            yield sweep(op, dtype, "shapes", only_some(choice, list(make(dtype)), dtype))
    yield sweep("GatherV2", "int32", "shapes", only_some(choice, list(gather("int32")), "int32"))


def _drawn(count: int, below: int) -> str:
    return f"np.random.RandomState({count % 997}).randint(0, {below}, {count})"


def gather(dtype: str) -> Iterator[Case]:
    for shape, count in TABLES:
        yield case(f"{count} rows of {shape}", "tf.gather(x, i)",
                   {"x": numbers(shape, dtype), "i": indices(_drawn(count, shape[0]))}, lambda x, i: x[i])  # fmt: skip
    yield case("columns", "tf.gather(x, i, axis=1)", {"x": numbers((17, 33), dtype), "i": indices(_drawn(129, 33))},
               lambda x, i: x[:, i])  # fmt: skip
    yield case("one index a row", "tf.gather(x, i, batch_dims=1)",
               {"x": numbers((17, 33), dtype), "i": indices(f"{_drawn(17 * 5, 33)}.reshape(17, 5)")},
               lambda x, i: np.take_along_axis(x, i, 1))  # fmt: skip
    yield case("int64 indices in two axes", "tf.gather(x, tf.cast(i, tf.int64))",
               {"x": numbers((33, 5), dtype), "i": indices(f"{_drawn(12, 33)}.reshape(3, 4)")},
               lambda x, i: x[i])  # fmt: skip


def gather_gradient(dtype: str) -> Iterator[Case]:
    """As training an embedding does it: rows of the gradient that share an index are added up."""
    body = (
        "with tf.GradientTape() as tape:\n    tape.watch(x)\n    y = tf.gather(x, i)\n"
        "return tf.convert_to_tensor(tape.gradient(y, x, output_gradients=g))"
    )
    for shape, count in TABLES:
        share = share_of(-(-4 * count // shape[0]), dtype, 1)
        yield case(f"{count} rows of {shape}", body,
                   {"x": f"np.zeros({shape})", "i": indices(_drawn(count, shape[0])),
                    "g": sparse(count % 97, (count, shape[1]), share)},
                   lambda x, i, g: _added(np.zeros_like(x), i, g), is_sum=True)  # fmt: skip


def _added(table: np.ndarray, index: np.ndarray, rows: np.ndarray) -> np.ndarray:
    np.add.at(table, index, rows)
    return table


def gather_nd(dtype: str) -> Iterator[Case]:
    for shape, count in (((17, 3), 5), ((5, 33), 129), ((9, 65, 3), 1025)):
        drawn = f"np.stack([{_drawn(count, shape[0])}, {_drawn(count + 1, shape[1])}[:{count}]], -1)"
        yield case(f"{count} of {shape}", "tf.gather_nd(x, i)", {"x": numbers(shape, dtype), "i": indices(drawn)},
                   lambda x, i: x[i[:, 0], i[:, 1]])  # fmt: skip


def scatter_nd(dtype: str) -> Iterator[Case]:
    """Rows of one index are added; rows of none are zeros."""
    for shape, count in TABLES:
        share = share_of(-(-4 * count // shape[0]), dtype, 1)
        yield case(f"{count} rows to {shape}", f"tf.scatter_nd(i[:, tf.newaxis], g, {list(shape)})",
                   {"i": indices(_drawn(count, shape[0])), "g": sparse(count % 97, (count, shape[1]), share)},
                   lambda i, g, shape=shape: _added(np.zeros(shape, g.dtype), i, g), is_sum=True)  # fmt: skip


def scatter_add(dtype: str) -> Iterator[Case]:
    for shape, count in TABLES:
        share = share_of(-(-4 * count // shape[0]), dtype, 1)
        yield case(f"{count} rows to {shape}", "tf.tensor_scatter_nd_add(x, i[:, tf.newaxis], g)",
                   {"x": sparse(1, shape), "i": indices(_drawn(count, shape[0])),
                    "g": sparse(count % 97, (count, shape[1]), share)},
                   lambda x, i, g: _added(x.copy(), i, g), is_sum=True)  # fmt: skip


def scatter_update(dtype: str) -> Iterator[Case]:
    for shape in ((17, 3), (129, 33), (1025, 2), (65537, 1)):
        count = shape[0] // 2
        yield case(f"{count} rows of {shape}", "tf.tensor_scatter_nd_update(x, i[:, tf.newaxis], g)",
                   {"x": numbers(shape, dtype),
                    "i": indices(f"np.random.RandomState(1).permutation({shape[0]})[:{count}]"),
                    "g": numbers((count, shape[1]), dtype, 77)}, _replaced)  # fmt: skip


def _replaced(x: np.ndarray, i: np.ndarray, g: np.ndarray) -> np.ndarray:
    result = x.copy()
    result[i] = g
    return result


def embedding(dtype: str) -> Iterator[Case]:
    for shape, count in TABLES[:3]:
        yield case(f"{count} of {shape}", "tf.nn.embedding_lookup(x, i)",
                   {"x": numbers(shape, dtype), "i": indices(f"{_drawn(2 * count, shape[0])}.reshape(2, -1)")},
                   lambda x, i: x[i])  # fmt: skip


OPS: dict[str, Callable[[str], Iterator[Case]]] = {
    "GatherV2": gather,
    "gradient of GatherV2": gather_gradient,
    "GatherNd": gather_nd,
    "ScatterNd": scatter_nd,
    "TensorScatterAdd": scatter_add,
    "TensorScatterUpdate": scatter_update,
    "tf.nn.embedding_lookup": embedding,
}
