"""What sums lose whose terms are added one after the other: of single ops, and of chains that a compiler merges.

Terms of one size and sign are rounded one way again and again, so that no noise of single roundings shows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.engine.graphs.editing import make_node
from diag.engine.graphs.graph import Graph, Node, Port
from diag.engine.graphs.tf_runtime import FLOATS, readable_attributes
from diag.numerics.bounds import InOrder, lost_in_order
from diag.numerics.figures import Index
from diag.numerics.formats import FLOAT32, Format, format_of
from diag.numerics.terms import Terms, terms_of, unraveled

LONG_SUM = "long-sum"
# Elements, and terms of all of them, that are summed in order where a bound is exceeded.
SUMMED_IN_ORDER, TERMS_IN_ORDER = 64, 1 << 22
# Sums of their input alone, in its own format: where terms cancel, what they lose is no part of the result.
PLAIN_SUMS = {"Sum", "Mean", "BiasAddGrad", "SegmentSum", "SegmentSumV2", "UnsortedSegmentSum", "Cumsum"}
_REDUCTIONS = ("Sum", "Mean")
_LINEAR = (
    "Cast", "DivNoNan", "ExpandDims", "Identity", "Mul", "Neg", "RealDiv", "Reshape", "Snapshot", "Squeeze",
    "StopGradient",
)  # fmt: skip


def lost_by_op(
    op_type: str, inputs: Sequence[npt.NDArray[Any]], attrs: dict[str, Any], shape: Sequence[int], arithmetic: Format,
    worst: Index | None = None,
) -> InOrder | None:  # fmt: skip
    """What plain sums lose on some elements of an op's output; None for ops not written out, and without elements.

    inputs: float64 where floating.  worst: an element that is to be among them.
    """
    size = math.prod(shape)
    if not size:
        return None
    elements = unraveled(np.linspace(0, size - 1, min(size, SUMMED_IN_ORDER)).astype(int), shape)
    if worst:
        elements = np.concatenate([np.array([worst]), elements])
    first = terms_of(op_type, inputs, attrs, shape, elements[:1])
    if first is None:
        return None
    elements = elements[: max(TERMS_IN_ORDER // max(first.left.shape[1], 1), 1)]
    terms = terms_of(op_type, inputs, attrs, shape, elements)
    assert terms is not None
    return lost_in_order(terms, arithmetic)


def sum_of_sizes(proto: Any, node: Node, graph: Graph) -> list[Any]:
    """Nodes whose last is |A||B| in float64, the op on absolute values: each of its additions may round by u of that.

    proto: the node as it is in the graph in float64.  graph: the graph as it was.
    """
    sizes = type(proto)()
    sizes.CopyFrom(proto)
    sizes.name = f"{proto.name}/lockstep_sizes"
    floats = [position for position, port in enumerate(node.inputs) if graph.dtype(port) in FLOATS]
    absolute = {position: f"{proto.name}/lockstep_absolute{position}" for position in floats}
    made = [make_node(name, "Abs", [proto.input[position]], T=tf.float64) for position, name in absolute.items()]
    for position, name in absolute.items():
        sizes.input[position] = f"{name}:0"
    return [*made, sizes]


def merged_terms(node: Node, graph: Graph) -> Port | None:
    """What a sum of everything adds up if it is merged with the sums that it adds up; None where it adds up none.

    Between them may stand what multiplies all terms alike: XLA makes one accumulator of such a chain.
    """
    if node.op not in _REDUCTIONS or node.shapes[0].num_elements() != 1:
        return None
    port, found = node.inputs[0], None
    while (source := graph.by_name.get(port.node)) is not None:
        if source.op in _REDUCTIONS:
            port = found = source.inputs[0]
        elif source.op in _LINEAR and (next_port := _only_large_input(source, graph)) is not None:
            port = next_port
        else:
            break
    return found


def _only_large_input(node: Node, graph: Graph) -> Port | None:
    """The input of a linear op that has its elements, where all others are single numbers."""
    if len(node.inputs) == 1 or node.op in ("Reshape", "ExpandDims", "Squeeze"):
        return node.inputs[0]
    large = [port for port in node.inputs if graph.shape(port).num_elements() != 1]
    if len(large) == 1:
        return large[0] if node.op == "Mul" or large[0] == node.inputs[0] else None
    return node.inputs[0] if not large else None


def loss_in_order(node: Node, is_merged: bool) -> Callable[..., npt.NDArray[np.float64]]:
    """A function of a float64 op's inputs and of |A||B| that gives what its plain sums lose, in units of u|A||B|.

    is_merged: the one input is what a chain of sums adds up.
    """
    attrs = readable_attributes(node.proto)
    arithmetic = min(format_of(node.dtypes[0].as_numpy_dtype), FLOAT32, key=lambda f: f.unit_roundoff)

    def lost(*arrays: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        *inputs, scale = arrays
        if is_merged:
            terms = inputs[0].reshape(1, -1)
            found: InOrder | None = lost_in_order(Terms(terms, np.ones_like(terms), ()), arithmetic)
        else:
            found = lost_by_op(node.op, inputs, attrs, scale.shape, arithmetic)
        return np.asarray(0.0 if found is None else found.max, np.float64)

    return lost


def num_terms(op: str, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> float:
    """About how many terms each element of a contraction sums, from the shapes alone."""
    sizes = [math.prod(shape) for shape in inputs if len(shape) > 0] or [1]
    size = max(math.prod(output), 1)
    if op in ("Conv2D", "DepthwiseConv2dNative", "Conv3D"):
        return max(math.prod(inputs[1][:-1]), 1)
    if op.endswith("BackpropInput") or op.startswith("Conv3DBackpropInput"):
        kernel = inputs[1]
        return max(math.prod(kernel[:-2]) * kernel[-1], 1)
    if "BackpropFilter" in op:
        return max(math.prod(inputs[2][:-1]), 1)
    if "MatMul" in op or op == "Einsum":
        return max(math.sqrt(math.prod(sizes[:2]) / size), 1.0) if len(sizes) > 1 else 1.0
    return max(max(sizes) / size, 2.0)
