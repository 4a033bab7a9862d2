"""What a computation must not depend on: calls before it, what its memory held, how its inputs lie in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from probes.exact import convolutions, depthwise, oracles, pooling, sums
from probes.exact.case import Case, Data, case, share_of, sparse
from probes.exact.judging import only_some, sweep
from probes.exact.products import ROWS_COLUMNS
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

LARGE, SMALL = 65, 33
PLAIN = oracles.Geometry((1, 1), "SAME", (1, 1))


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in FLOAT_DTYPES:
        for op, cases in (("MatMul", products_of_views(dtype)), ("Conv2D", convolutions_of_views(dtype)),
                          ("Sum", sums_of_views(dtype))):  # fmt: skip
            yield sweep(op, dtype, "reads slices and transposes", only_some(choice, cases, dtype))
    for dtype in ("float32", "float16"):
        for op, cases in after_a_larger_batch(dtype).items():
            yield sweep(op, dtype, "after a larger batch", cases)
        for op, cases in in_used_memory(dtype).items():
            yield sweep(op, dtype, "where memory held NaN", only_some(choice, cases, dtype))


def after_a_larger_batch(dtype: str) -> dict[str, list[Case]]:
    """Ops that sum over the batch, as the last batch of an epoch meets them: full of numbers, then smaller."""
    share = share_of(LARGE * 64, dtype)

    def twice(label: str, body: str, shapes: dict[str, tuple[int, ...]], oracle: object) -> list[Case]:
        small, large = (
            {name: Data(sparse(number, (rows, *shape), share)) for number, (name, shape) in enumerate(shapes.items())}
            for rows in (SMALL, LARGE)
        )
        return [Case(f"{SMALL} rows after {LARGE}{label}", body, small, oracle, is_sum=True, before=[large])]  # type: ignore[arg-type]

    return {
        "MatMul": twice("", "tf.linalg.matmul(x, g, transpose_a=True)", {"x": (17,), "g": (5,)}, lambda x, g: x.T @ g),
        "BiasAddGrad": twice("", "tf.raw_ops.BiasAddGrad(out_backprop=g)", {"g": (5,)}, lambda g: g.sum(0)),
        "Sum": twice("", "tf.reduce_sum(x, 0)", {"x": (17,)}, lambda x: x.sum(0)),
        "Max": twice("", "tf.reduce_max(x, 0)", {"x": (17,)}, lambda x: x.max(0)),
        "Conv2DBackpropFilter": twice(
            "", "tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=[3, 3, 2, 4], out_backprop=g, "
            'strides=[1, 1, 1, 1], padding="SAME")', {"x": (8, 8, 2), "g": (8, 8, 4)},
            lambda x, g: oracles.gradient_to_kernel(x, g, (3, 3, 2, 4), PLAIN)),
        "DepthwiseConv2dNativeBackpropFilter": twice(
            "", "tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(input=x, filter_sizes=[3, 3, 4, 1], out_backprop=g, "
            'strides=[1, 1, 1, 1], padding="SAME")', {"x": (8, 8, 4), "g": (8, 8, 4)},
            lambda x, g: oracles.depthwise_to_kernel(x, g, (3, 3, 4, 1), PLAIN)),
    }  # fmt: skip


def in_used_memory(dtype: str) -> dict[str, list[Case]]:
    """The same op on NaN first, whose results are let go: the memory that the next call is given holds NaN.

    Ops whose results have elements that no term is added to, or that are added up in place.
    """
    forward, to_image, to_kernel = convolutions.kinds(2)
    shape = convolutions.ConvolutionShape(2, (9, 9), 3, 5, (2, 2), strides=(4, 4), padding="VALID")
    wide = replace(shape, sizes=(33, 31), inputs=16, outputs=17)
    by_depth, depth_to_image, depth_to_kernel = depthwise.kinds()
    pool = pooling.Pool(2, (9, 9), 3, (2, 2), (4, 4), "VALID")
    found: dict[str, list[Case]] = {}
    for kind in (forward, to_image, to_kernel):
        found[kind.op] = [convolutions.convolution_case(kind, each, dtype) for each in (shape, wide)]
    for kind in (by_depth, depth_to_image, depth_to_kernel):
        found[kind.op] = [convolutions.convolution_case(kind, replace(shape, outputs=2), dtype)]
    found["MaxPoolGrad"] = [pooling.maximum_gradient("MaxPoolGrad", pool)]
    found["AvgPoolGrad"] = [pooling.mean_gradient("AvgPoolGrad", pool)]
    found["UnsortedSegmentSum"] = sums.segments("UnsortedSegmentSum", dtype)[1:3]
    found["ScatterNd"] = [
        case("2 rows to 129 x 33", "tf.scatter_nd([[5], [17]], g, [129, 33])", {"g": sparse(1, (2, 33))},
             lambda g: _rows(g, (129, 33)), axes=("row", "column"))
    ]  # fmt: skip
    found["PadV2"] = [case("17 x 33", "tf.pad(x, [[3, 5], [1, 0]])", {"x": sparse(1, (17, 33))},
                           lambda x: np.pad(x, [(3, 5), (1, 0)]))]  # fmt: skip
    found["MatMul"] = [
        case("a sum of nothing", "tf.linalg.matmul(x[:, :0], y[:0])",
             {"x": sparse(1, (129, 4)), "y": sparse(2, (4, 65))}, lambda x, y: np.zeros((129, 65))),
        case("33 x 65 by 65 x 31", "tf.linalg.matmul(x, y)",
             {"x": sparse(1, (33, 65), share_of(65, dtype)), "y": sparse(2, (65, 31), share_of(65, dtype))},
             lambda x, y: x @ y, axes=ROWS_COLUMNS),
    ]  # fmt: skip
    return {op: [replace(each, before=[_of_nan(each)] * 2) for each in cases] for op, cases in found.items()}


def _rows(g: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    result = np.zeros(shape)
    result[[5, 17]] = g
    return result


def _of_nan(case: Case) -> dict[str, Data]:
    """Its inputs with every number a NaN; integers stay."""
    return {
        name: Data(f"{each.text} * np.nan", each.dtype) if each.dtype is None else each
        for name, each in case.inputs.items()
    }


VIEWS = {
    "every second column": ("x[:, ::2]", (17, 66)),
    "every third row": ("x[::3]", (51, 33)),
    "rows from the last": ("x[::-1]", (17, 33)),
    "columns from the last": ("x[:, ::-1]", (17, 33)),
    "transposed": ("tf.transpose(x)", (33, 17)),
    "a middle part": ("x[3:20, 5:38]", (31, 65)),
    "from an odd place on": ("tf.reshape(tf.reshape(x, [-1])[1:562], [17, 33])", (17, 34)),
    "broadcast": ("tf.broadcast_to(x, [17, 33])", (1, 33)),
}
"""A text that makes 17 x 33 of x, and the shape of x."""


def _viewed(text: str, x: np.ndarray) -> np.ndarray:
    """What a view is in NumPy."""
    if text.startswith("tf.transpose"):
        return x.T
    if text.startswith("tf.broadcast"):
        return np.broadcast_to(x, (17, 33))
    if text.startswith("tf.reshape"):
        return x.reshape(-1)[1:562].reshape(17, 33)
    return np.asarray(eval(text, {"x": x}))


def products_of_views(dtype: str) -> list[Case]:
    share = share_of(33, dtype)
    return [
        case(name, f"tf.linalg.matmul({text}, y)", {"x": sparse(1, shape, share), "y": sparse(2, (33, 9), share)},
             lambda x, y, text=text: _viewed(text, x) @ y, axes=ROWS_COLUMNS, is_sum=True)
        for name, (text, shape) in VIEWS.items()
    ]  # fmt: skip


def sums_of_views(dtype: str) -> list[Case]:
    return [
        case(name, f"tf.reduce_sum({text}, 1)", {"x": sparse(1, shape, share_of(33, dtype, 1))},
             lambda x, text=text: _viewed(text, x).sum(1), axes=("row",), is_sum=True)
        for name, (text, shape) in VIEWS.items()
    ]  # fmt: skip


def convolutions_of_views(dtype: str) -> list[Case]:
    views = {
        "every second pixel": ("x[:, ::2, ::2]", (2, 16, 18, 3)),
        "mirrored": ("x[:, :, ::-1]", (2, 8, 9, 3)),
        "channels from the last": ("x[..., ::-1]", (2, 8, 9, 3)),
        "height and width swapped": ("tf.transpose(x, [0, 2, 1, 3])", (2, 9, 8, 3)),
        "channels first before": ("tf.transpose(x, [0, 2, 3, 1])", (2, 3, 8, 9)),
        "part of the channels": ("x[..., 1:4]", (2, 8, 9, 5)),
    }
    orders = {"[0, 2, 1, 3]": (0, 2, 1, 3), "[0, 2, 3, 1]": (0, 2, 3, 1)}

    def viewed(text: str, x: np.ndarray) -> np.ndarray:
        order = next((axes for name, axes in orders.items() if name in text), None)
        return np.asarray(eval(text, {"x": x})) if order is None else x.transpose(order)

    share = share_of(27, dtype)
    return [
        case(name, f'tf.nn.conv2d({text}, w, 1, "SAME")',
             {"x": sparse(1, shape, share), "w": sparse(2, (3, 3, 3, 5), share)},
             lambda x, w, text=text: oracles.convolution(viewed(text, x), w, PLAIN),
             axes=convolutions.IMAGE_AXES[2], is_sum=True, tolerates=True)
        for name, (text, shape) in views.items()
    ]  # fmt: skip
