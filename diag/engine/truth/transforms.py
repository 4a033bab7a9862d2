"""Convolutions by way of a transform (Winograd, FFT) and fast products of matrices: right in norm, not by element.

A tile of such a convolution multiplies every element of an input tile with every tap of the kernel, so an element
inherits the rounding of what lies near.  Here is how large what lies near is: of single ops, and as nodes of a graph.
A fast product (Strassen's) mixes rows and columns, whatever lies between them.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from diag.engine.graphs.editing import make_node
from diag.engine.graphs.graph import Node
from diag.engine.graphs.tf_runtime import readable_attributes
from diag.numerics.terms import MATRIX_PRODUCTS, are_transposed

# What the inputs of a convolution are.
_IMAGE, _KERNEL = "image", "kernel"
ROLES: dict[str, tuple[str | None, ...]] = {
    f"{kind}{suffix}": roles
    for kind in ("Conv2D", "DepthwiseConv2dNative", "Conv3D")
    for suffix, roles in (
        ("", (_IMAGE, _KERNEL)),
        ("BackpropInput" + "V2" * (kind == "Conv3D"), (None, _KERNEL, _IMAGE)),
        ("BackpropFilter" + "V2" * (kind == "Conv3D"), (_IMAGE, None, _IMAGE)),
    )
}
TILE_REACH = 3  # elements to each side; a tile of F(4x4, 3x3) reads 6 x 6 elements for outputs that read 3 x 3 each


def is_transformable(op_type: str) -> bool:
    """Whether kernels of an op may go by way of a transform."""
    return op_type in ROLES or op_type in MATRIX_PRODUCTS


def is_channels_first(proto: Any) -> bool:
    """Whether the channels of a convolution's images are axis 1, as in NCHW and NCDHW, or its last axis."""
    return bool(proto.attr["data_format"].s.startswith(b"NC"))


def largest_near(absolute: tf.Tensor, role: str, channels_first: bool) -> tf.Tensor:
    """Each element of an image replaced by the largest within reach of a tile, of a kernel by the largest tap."""
    axes = absolute.shape.rank - 2
    if role == _KERNEL:
        return tf.zeros_like(absolute) + tf.reduce_max(absolute, list(range(axes)), keepdims=True)
    order = [0, *range(2, axes + 2), 1] if channels_first else list(range(axes + 2))
    pooled = tf.nn.max_pool(tf.transpose(absolute, order), 2 * TILE_REACH + 1, 1, "SAME")
    return tf.transpose(pooled, [order.index(axis) for axis in range(axes + 2)])


def nodes_of_product_norm(proto: Any, node: Node) -> tuple[str, list[Any]]:
    """Of the factors of a matrix product in a float64 graph: |A||B| / sqrt(mn) in Frobenius norms, (..., 1, 1).

    Returns the output that holds it, and the nodes that compute it.
    """
    added: list[Any] = []

    def add(name: str, op: str, *inputs: str, **attrs: Any) -> str:
        added.append(make_node(f"{node.name}/lockstep_{name}", op, list(inputs), **attrs))
        return f"{added[-1].name}:0"

    def over(axis: int, name: str, op: str, x: str) -> str:
        value = tf.compat.v1.AttrValue(tensor=tf.make_tensor_proto([axis], tf.int32))
        axes = add(f"{name}_axis", "Const", dtype=tf.int32, value=value)
        return add(name, op, x, axes, T=tf.float64, Tidx=tf.int32, keep_dims=True)

    squares = []
    for position, is_transposed in enumerate(are_transposed(readable_attributes(proto))):
        summed = -1 if (position == 0) != is_transposed else -2  # the axis that the product sums over
        square = add(f"square{position}", "Square", proto.input[position], T=tf.float64)
        sums = over(summed, f"sums{position}", "Sum", square)
        squares.append(over(-3 - summed, f"mean{position}", "Mean", sums))
    return add("norm", "Sqrt", add("norms", "Mul", *squares, T=tf.float64), T=tf.float64), added


def nodes_of_mixed_scale(proto: Any, node: Node, rank: int) -> tuple[str, list[Any]]:
    """A convolution of a float64 graph on the largest absolute values near each element of its operands.

    rank: of its images.  Returns the output that holds it, and the nodes that compute it.
    """
    added: list[Any] = []

    def add(name: str, op: str, *inputs: str, **attrs: Any) -> str:
        added.append(make_node(f"{node.name}/lockstep_{name}", op, list(inputs), **attrs))
        return f"{added[-1].name}:0"

    clone = type(proto)()
    clone.CopyFrom(proto)
    clone.name = f"{node.name}/lockstep_mixed"
    for position, role in enumerate(ROLES[node.op]):
        if role is None:
            continue
        absolute = add(f"absolute{position}", "Abs", proto.input[position], T=tf.float64)
        if role == _KERNEL:
            taps = tf.compat.v1.AttrValue(tensor=tf.make_tensor_proto(list(range(rank - 2)), tf.int32))
            axes = add(f"taps{position}", "Const", dtype=tf.int32, value=taps)
            most = add(f"largest{position}", "Max", absolute, axes, T=tf.float64, Tidx=tf.int32, keep_dims=True)
            clone.input[position] = add(f"near{position}", "Maximum", absolute, most, T=tf.float64)
        else:  # in float32, the only format in which volumes are pooled
            narrow = add(f"narrow{position}", "Cast", absolute, SrcT=tf.float64, DstT=tf.float32)
            pool, ones = "MaxPool" if rank == 4 else "MaxPool3D", [1] * rank
            window = [1, *[2 * TILE_REACH + 1] * (rank - 2), 1]
            near = add(f"pool{position}", pool, narrow, T=tf.float32, ksize=window, strides=ones, padding=b"SAME")
            clone.input[position] = add(f"near{position}", "Cast", near, SrcT=tf.float32, DstT=tf.float64)
    added.append(clone)
    return f"{clone.name}:0", added
