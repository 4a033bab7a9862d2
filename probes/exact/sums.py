"""Reductions of integers: over every set of axes, long and many, by segments, cumulative, and batch statistics."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from probes.exact.case import Case, Data, case, indices, share_of, sparse
from probes.exact.judging import noted_sweep, only_some, sweep
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

SHAPE = (3, 17, 5, 33)
COUNTS = (4, 8, 2, 16)  # powers of two, so that means are exact
WELFORD = 64.0  # ULP: a running mean, as cuDNN may take it, rounds at each of up to 2,048 terms; sqrt(2048) is 45
LONG = (15, 16, 17, 127, 129, 1023, 1025, 32767, 32769, 65537)


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in (*FLOAT_DTYPES, "int32"):
        for op, numpy_op in REDUCTIONS.items():
            if op != "Mean" or dtype != "int32":
                axes, lengths = over_axes(op, numpy_op, dtype), over_lengths(op, numpy_op, dtype)
                for name, cases in {"axes": axes, "lengths": lengths}.items() if dtype == "float32" else (
                    ("axes, lengths", [*axes[::5], *lengths]),
                ):  # fmt: skip
                    yield sweep(op, dtype, name, only_some(choice, cases, dtype))
    many = [reduction("Mean", np.mean, (65536, 3), (0,), False, "float16")]
    because = "float16 holds no number so large, and TensorFlow divides by it"
    yield noted_sweep("Mean", "float16", "of 65536", many, because)
    for op, numpy_op in (("All", np.all), ("Any", np.any)):
        yield sweep(op, "bool", "axes", only_some(choice, logical(op, numpy_op)))
    for dtype in FLOAT_DTYPES:
        for op, cases in (
            ("BiasAdd", bias_add(dtype)),
            ("BiasAddGrad", bias_gradient(dtype)),
            ("SegmentSum", segments("SegmentSum", dtype)),
            ("SegmentMax", segments("SegmentMax", dtype)),
            ("UnsortedSegmentSum", segments("UnsortedSegmentSum", dtype)),
            ("UnsortedSegmentMax", segments("UnsortedSegmentMax", dtype)),
            ("Cumsum", cumulative(dtype)),
            ("FusedBatchNormV3", batch_means(dtype)),
            ("tf.nn.moments", moments(dtype)),
        ):
            yield sweep(op, dtype, "shapes", only_some(choice, cases, dtype))


REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "Sum": np.sum, "Mean": np.mean, "Max": np.max, "Min": np.min, "Prod": np.prod,
}  # fmt: skip


def _data(op: str, shape: tuple[int, ...], num_terms: int, dtype: str) -> str:
    if op == "Prod":
        return f"np.random.RandomState({sum(shape)}).choice([-1, 1], {shape})"
    if op in ("Max", "Min"):
        return f"np.random.RandomState({sum(shape)}).randint(-250, 250, {shape})"
    return sparse(sum(shape), shape, share_of(num_terms, dtype, 1))


def reduction(op: str, numpy_op: Callable[..., np.ndarray], shape: tuple[int, ...], axes: tuple[int, ...], kept: bool,
              dtype: str) -> Case:  # fmt: skip
    count = int(np.prod([shape[axis] for axis in axes]))
    return case(
        f"{' x '.join(map(str, shape))} over axes {axes}{', kept' * kept}",
        f"tf.raw_ops.{op}(input=x, axis={list(axes)}, keep_dims={kept})", {"x": _data(op, shape, count, dtype)},
        lambda x: numpy_op(x, axis=axes, keepdims=kept), is_sum=op == "Sum",
    )  # fmt: skip


def over_axes(op: str, numpy_op: Callable[..., np.ndarray], dtype: str) -> list[Case]:
    """Every set of axes."""
    shape = COUNTS if op == "Mean" else SHAPE
    sets = [axes for size in range(1, 5) for axes in itertools.combinations(range(4), size)]
    return [
        reduction(op, numpy_op, shape, axes, bool(number % 2), dtype)
        for number, axes in enumerate(sets)
        if op != "Prod" or len(axes) < 4
    ]


def over_lengths(op: str, numpy_op: Callable[..., np.ndarray], dtype: str) -> list[Case]:
    lengths = [16, 128, 1024, 8192, 32768] if op == "Mean" else LONG
    result = [reduction(op, numpy_op, (length, 3), (0,), False, dtype) for length in lengths[::2]]
    result += [reduction(op, numpy_op, (2, length), (1,), False, dtype) for length in lengths[1::2]]
    result.append(reduction(op, numpy_op, (65537, 2), (1,), False, dtype))  # many short ones
    result.append(reduction(op, numpy_op, (2, 65537), (0,), False, dtype))
    if op in ("Sum", "Prod"):
        result.append(reduction(op, numpy_op, (0, 3), (0,), False, dtype))
    return result


def logical(op: str, numpy_op: Callable[..., np.ndarray]) -> list[Case]:
    rare = "==" if op == "Any" else "!="
    return [
        case(f"{' x '.join(map(str, shape))} over axes {axes}", f"tf.raw_ops.{op}(input=x, axis={list(axes)})",
             {"x": Data(f"np.random.RandomState(3).randint(0, {count}, {shape}) {rare} 0", "bool")},
             lambda x, axes=axes: numpy_op(x, axis=axes))
        for shape, axes, count in (
            (SHAPE, (0,), 4), (SHAPE, (1, 3), 600), (SHAPE, (0, 1, 2, 3), 9000), ((1025, 3), (0,), 1500),
            ((3, 32769), (1,), 40000),
        )
    ]  # fmt: skip


def bias_add(dtype: str) -> list[Case]:
    return [
        case(f"{' x '.join(map(str, shape))} {layout}",
             f'tf.raw_ops.BiasAdd(value=x, bias=b, data_format="{layout}")',
             {"x": sparse(1, shape), "b": f"np.random.RandomState(2).randint(-9, 9, {shape[axis]})"},
             lambda x, b, axis=axis: x + b.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]))
        for shape, layout, axis in _BIASED
    ]  # fmt: skip


_BIASED: tuple[tuple[tuple[int, ...], str, int], ...] = (
    ((17, 33), "NHWC", -1),
    ((2, 5, 7, 129), "NHWC", -1),
    ((2, 129, 5, 7), "NCHW", 1),
    ((65537, 3), "NHWC", -1),
    ((2, 65537), "NHWC", -1),
    ((3, 17, 33), "NHWC", -1),
    ((1025, 1), "NHWC", -1),
)


def bias_gradient(dtype: str) -> list[Case]:
    return [
        case(f"{' x '.join(map(str, shape))} {layout}",
             f'tf.raw_ops.BiasAddGrad(out_backprop=g, data_format="{layout}")',
             {"g": sparse(1, shape, share_of(int(np.prod(shape)) // shape[axis], dtype, 1))},
             lambda g, axis=axis: g.sum(tuple(i for i in range(g.ndim) if i != axis % g.ndim)), axes=("channel",),
             is_sum=True)
        for shape, layout, axis in (*_BIASED, ((0, 5), "NHWC", -1))
    ]  # fmt: skip


def segments(op: str, dtype: str) -> list[Case]:
    """Some ids are named by no row; unsorted ids may be negative: those rows are dropped."""
    is_sorted, largest = op.startswith("Segment"), op.endswith("Max")
    result = []
    for number, (shape, count) in enumerate(_SEGMENTED):
        rows = shape[0]
        if largest:  # an empty segment has no maximum: every id is there
            count = min(count, rows)
        ids = f"np.random.RandomState({number}).randint({0 if is_sorted else -1}, {count}, {rows})"
        if is_sorted:  # the last id says how many there are
            ids = f"np.sort(np.append({ids.replace(f', {rows})', f', {rows - 1})')}, {count - 1}))"
        if largest:
            ids = f"np.sort(np.arange({rows}) % {count})" if is_sorted else f"np.arange({rows}) % {count}"
        data = (f"np.random.RandomState({number}).randint(-250, 250, {shape})" if largest
                else sparse(number, shape, share_of(rows, dtype, 1)))  # fmt: skip
        body = f"tf.raw_ops.{op}(data=x, segment_ids=i{'' if is_sorted else f', num_segments={count}'})"
        # An empty segment of an unsorted maximum is the lowest number of the dtype: ids that are all there.
        if largest:
            ids = (
                f"np.sort(np.arange({rows}) % {min(count, rows)})"
                if is_sorted
                else f"np.arange({rows}) % {min(count, rows)}"
            )
            body = body.replace(f"num_segments={count}", f"num_segments={min(count, rows)}")
        result.append(
            case(f"{' x '.join(map(str, shape))}, {count} segments", body, {"x": data, "i": indices(ids)},
                 lambda x, i, op=op, count=count: _by_segment(op, x, i, count),
                 is_sum=not largest)
        )  # fmt: skip
    return result


_SEGMENTED: tuple[tuple[tuple[int, ...], int], ...] = (
    ((17, 3), 5), ((129, 33), 16), ((1025, 2), 33), ((1, 7), 1), ((65537, 1), 3), ((33, 2, 5), 40),
)  # fmt: skip


def _by_segment(op: str, x: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    made = []
    for number in range(count):
        rows = x[ids == number]
        made.append(rows.max(0) if op.endswith("Max") else rows.sum(0))
    return np.array(made)


def cumulative(dtype: str) -> list[Case]:
    result = []
    for shape, axis in (((3, 17), 1), ((33, 5), 0), ((2, 1025), 1), ((4, 129, 3), 1), ((1, 4097), 1), ((32769,), 0)):
        for exclusive, reverse in ((False, False), (True, False), (False, True), (True, True)):
            result.append(
                case(f"{' x '.join(map(str, shape))} axis {axis}{', exclusive' * exclusive}{', reverse' * reverse}",
                     f"tf.raw_ops.Cumsum(x=x, axis={axis}, exclusive={exclusive}, reverse={reverse})",
                     {"x": sparse(sum(shape), shape, share_of(shape[axis], dtype, 1))},
                     lambda x, a=axis, e=exclusive, r=reverse: _cumulated(x, a, e, r), is_sum=True)
            )  # fmt: skip
    return result[::3] + result[1::6]


def _cumulated(x: np.ndarray, axis: int, exclusive: bool, reverse: bool) -> np.ndarray:
    turned = np.flip(x, axis) if reverse else x
    sums = np.cumsum(turned, axis)
    sums = sums - turned if exclusive else sums
    return np.flip(sums, axis) if reverse else sums


def batch_means(dtype: str) -> list[Case]:
    """The mean that batch normalization takes while it trains, over a power of two elements; always float32."""
    result = []
    for shape, layout in (((4, 4, 4, 3), "NHWC"), ((1, 8, 16, 17), "NHWC"), ((2, 4, 4, 129), "NHWC"),
                          ((8, 16, 16, 33), "NHWC"), ((1, 2, 2, 1025), "NHWC"), ((2, 5, 8, 8), "NCHW")):  # fmt: skip
        axis = 1 if layout == "NCHW" else 3
        count = int(np.prod(shape)) // shape[axis]
        result.append(
            case(f"{' x '.join(map(str, shape))} {layout}",
                 f"ones, none = tf.ones([{shape[axis]}]), tf.constant([], tf.float32)\n"
                 "return tf.raw_ops.FusedBatchNormV3(x=x, scale=ones, offset=ones, mean=none, variance=none, "
                 f'data_format="{layout}", is_training=True, epsilon=0.001)[1]',
                 {"x": sparse(count, shape, share_of(count, "float32", 1))},
                 lambda x, axis=axis: x.mean(tuple(i for i in range(4) if i != axis)), axes=("channel",),
                 ulps=WELFORD)
        )  # fmt: skip
    return result


def moments(dtype: str) -> list[Case]:
    """Mean and variance of numbers that come with both signs: the mean is 0, squares are integers."""
    return [
        case(f"{' x '.join(map(str, shape))} over {axes}", f"tf.nn.moments(tf.concat([x, -x], 0), {list(axes)})",
             {"x": sparse(sum(shape), shape, share_of(2 * int(np.prod([shape[i] for i in axes])), dtype, 1))},
             lambda x, axes=axes: [np.concatenate([x, -x]).mean(axes), np.concatenate([x, -x]).var(axes)])
        for shape, axes in (((8, 4), (0,)), ((2, 4, 8, 17), (0, 1, 2)), ((1, 16, 16, 33), (0, 1, 2)), ((64, 3), (0,)))
    ]  # fmt: skip
