"""Names of the axes of an op's output, as people call them."""

from __future__ import annotations

from diag.engine.graphs.graph import Node

_IMAGES = (
    "Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative", "DepthwiseConv2dNativeBackpropInput", "MaxPool",
    "MaxPoolGrad", "AvgPool", "AvgPoolGrad", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3",
    "FusedBatchNormGrad", "FusedBatchNormGradV2", "FusedBatchNormGradV3", "BiasAdd",
)  # fmt: skip
_KERNELS = ("Conv2DBackpropFilter", "DepthwiseConv2dNativeBackpropFilter")
_KERNEL_AXES = ("kernel height", "kernel width", "input channel", "output channel")


def axis_names(node: Node, num_axes: int) -> tuple[str, ...]:
    """One name an axis of the op's outputs of that many axes; () where the op does not say what they are."""
    attr = node.proto.attr
    channels_first = attr["data_format"].s.startswith(b"NC") if "data_format" in attr else False
    if node.op in _KERNELS and num_axes == 4:
        return (*_KERNEL_AXES[:3], "channel multiplier") if node.op.startswith("Depthwise") else _KERNEL_AXES
    if node.op in _IMAGES and num_axes == 4:
        return ("batch", "channel", "height", "width") if channels_first else ("batch", "height", "width", "channel")
    if node.op in ("BiasAddGrad", *_IMAGES) and num_axes == 1:
        return ("channel",)
    if node.op == "BiasAdd" and num_axes == 2:
        return ("row", "column")
    if node.op in ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        return (*(f"matrix axis {axis}" for axis in range(num_axes - 2)), "row", "column")
    return ("row", "column") if num_axes == 2 else ()
