"""Depthwise and transposed convolutions, and those along one axis, of integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from probes.exact import oracles
from probes.exact.case import Case, case, share_of, sparse
from probes.exact.convolutions import (
    IMAGE_AXES,
    ConvolutionShape,
    Kind,
    channels_first,
    convolution_case,
    kernel_laid_out,
    laid_out,
)
from probes.exact.judging import only_some, sweep
from probes.exact.oracles import Geometry
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

KERNEL_AXES = ("kernel height", "kernel width", "input channel", "channel multiplier")

# `outputs` is the multiplier here.
DEPTHWISE = (
    ConvolutionShape(1, (5, 6), 1, 1, (3, 3)),
    ConvolutionShape(2, (15, 17), 16, 1, (3, 3)),
    ConvolutionShape(3, (9, 10), 33, 2, (3, 3), padding="VALID"),
    ConvolutionShape(2, (17, 16), 17, 3, (5, 5), strides=(2, 2)),
    ConvolutionShape(1, (31, 33), 5, 1, (7, 7), strides=(3, 3), padding="VALID"),
    ConvolutionShape(1, (4, 5), 1025, 1, (3, 3)),
    ConvolutionShape(5, (8, 8), 129, 1, (1, 1)),
    ConvolutionShape(2, (9, 9), 8, 1, (3, 3), padding=((1, 2), (0, 1))),
    ConvolutionShape(1, (3, 2), 65537, 1, (2, 2)),
    ConvolutionShape(0, (5, 5), 3, 2, (3, 3)),
)


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in FLOAT_DTYPES:
        for kind in kinds():
            for name, shapes in (("shapes", DEPTHWISE), ("layout NCHW", channels_first(DEPTHWISE[1:5]))):
                if dtype == "float32" or name == "shapes":
                    cases = [replace(convolution_case(kind, each, dtype), axes=_axes(kind, each)) for each in shapes]
                    yield sweep(kind.op, dtype, name, only_some(choice, cases, dtype))
        yield sweep("tf.nn.depthwise_conv2d", dtype, "dilations", only_some(choice, dilated(dtype), dtype))
        yield sweep("tf.nn.conv1d", dtype, "shapes", only_some(choice, along_one_axis(dtype), dtype))
        for num_axes in (1, 2, 3):
            cases = transposed(num_axes, dtype)
            yield sweep(f"tf.nn.conv{num_axes}d_transpose", dtype, "shapes", only_some(choice, cases, dtype))


def _axes(kind: Kind, shape: ConvolutionShape) -> tuple[str, ...]:
    if kind.is_kernel:
        return KERNEL_AXES
    batch, height, width, channel = IMAGE_AXES[2]
    return (batch, channel, height, width) if shape.channels_first else IMAGE_AXES[2]


def _result(shape: ConvolutionShape) -> tuple[int, ...]:
    return shape.stored((*shape.result[:-1], shape.inputs * shape.outputs))


def kinds() -> tuple[Kind, Kind, Kind]:
    """DepthwiseConv2dNative and its gradients."""
    op = "DepthwiseConv2dNative"
    return (
        Kind(op, lambda s: f"tf.raw_ops.{op}(input=x, filter=w, {s.attributes})",
             lambda s: {"x": s.stored(s.image), "w": s.kernel_shape}, lambda s: int(np.prod(s.kernel)),
             lambda s: laid_out(s, lambda x, w: oracles.depthwise(x, w, s.geometry))),
        Kind(f"{op}BackpropInput",
             lambda s: f"tf.raw_ops.{op}BackpropInput(input_sizes={list(s.stored(s.image))}, filter=w, "
             f"out_backprop=g, {s.attributes})",
             lambda s: {"g": _result(s), "w": s.kernel_shape}, lambda s: int(np.prod(s.kernel)) * s.outputs,
             lambda s: laid_out(s, lambda g, w: oracles.depthwise_to_image(g, w, s.image, s.geometry))),
        Kind(f"{op}BackpropFilter",
             lambda s: f"tf.raw_ops.{op}BackpropFilter(input=x, filter_sizes={list(s.kernel_shape)}, out_backprop=g, "
             f"{s.attributes})",
             lambda s: {"x": s.stored(s.image), "g": _result(s)},
             lambda s: s.batch * int(np.prod(s.result[1:-1])),
             lambda s: kernel_laid_out(s, lambda x, g: oracles.depthwise_to_kernel(x, g, s.kernel_shape, s.geometry)),
             is_kernel=True),
    )  # fmt: skip


def dilated(dtype: str) -> list[Case]:
    """As Keras calls it: TensorFlow splits a dilated convolution up by SpaceToBatchND."""
    return [
        case(f"{sizes} dilated by {gaps}, {padding}",
             f'tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "{padding}", dilations={list(gaps)})',
             {"x": sparse(3, (2, *sizes, 5), share_of(9, dtype)), "w": sparse(4, (3, 3, 5, 2), share_of(9, dtype))},
             lambda x, w, p=padding, g=gaps: oracles.depthwise(x, w, Geometry((1, 1), p, g)),
             axes=IMAGE_AXES[2], is_sum=True)
        for sizes, gaps, padding in (
            ((16, 17), (2, 2), "SAME"), ((17, 17), (3, 3), "VALID"), ((9, 12), (2, 2), "VALID"),
        )
    ]  # fmt: skip


def along_one_axis(dtype: str) -> list[Case]:
    result = []
    for batch, length, inputs, outputs, kernel, stride, padding, gap in (
        (2, 17, 3, 4, 3, 1, "SAME", 1),
        (1, 9, 5, 1025, 1, 1, "SAME", 1),
        (2, 129, 15, 17, 5, 2, "SAME", 1),
        (1, 1025, 2, 3, 7, 1, "SAME", 1),
        (2, 31, 4, 8, 3, 1, "VALID", 4),
        (129, 15, 1, 2, 2, 3, "VALID", 1),
        (3, 33, 16, 513, 3, 1, "VALID", 1),
    ):
        share = share_of(inputs * kernel, dtype)
        result.append(
            case(f"{batch} x {length} x {inputs}, kernel {kernel}, {outputs} outputs, stride {stride}, dilation {gap}, "
                 f"{padding}",
                 f'tf.nn.conv1d(x, w, {stride}, "{padding}", dilations={gap})',
                 {"x": sparse(length, (batch, length, inputs), share),
                  "w": sparse(5, (kernel, inputs, outputs), share)},
                 lambda x, w, s=stride, p=padding, g=gap: oracles.convolution(x, w, Geometry((s,), p, (g,))),
                 axes=("batch", "step", "channel"), is_sum=True, tolerates=kernel > 1)
        )  # fmt: skip
    return result


def transposed(num_axes: int, dtype: str) -> list[Case]:
    """An image of the smaller side becomes one of the larger; `w` is (*kernel, outputs, inputs)."""
    made = []
    for number, (batch, side, inputs, outputs, kernel, stride, padding) in enumerate((
        (2, 5, 3, 4, 3, 2, "SAME"),
        (1, 7, 17, 16, 2, 2, "VALID"),
        (3, 4, 5, 33, 3, 1, "SAME"),
        (1, 3, 33, 513 if num_axes < 3 else 65, 1, 3, "SAME"),
        (2, 4, 2, 3, 4, 3, "VALID"),
    )):  # fmt: skip
        larger = side * stride if padding == "SAME" else (side - 1) * stride + kernel
        result = (batch, *[larger] * num_axes, outputs)
        share = share_of(inputs * kernel**num_axes, dtype)
        made.append(
            case(f"{batch} of {side}^{num_axes} x {inputs} to {outputs} outputs, kernel {kernel}, stride {stride}, "
                 f"{padding}",
                 f'tf.nn.conv{num_axes}d_transpose(x, w, {list(result)}, {stride}, "{padding}")',
                 {"x": sparse(number, (batch, *[side] * num_axes, inputs), share),
                  "w": sparse(number + 9, (*[kernel] * num_axes, outputs, inputs), share)},
                 lambda x, w, r=result, s=stride, p=padding: oracles.gradient_to_image(
                     x, w, r, Geometry((s,) * num_axes, p, (1,) * num_axes)),
                 axes=IMAGE_AXES.get(num_axes, ()), is_sum=True, tolerates=kernel > 1)
        )  # fmt: skip
    return made
