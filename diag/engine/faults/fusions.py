"""Graph rewriters that fuse a chain of ops into a kernel that computes something else.

They are told no device and no shape, only the GraphDef.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from diag.engine.faults.simulation import Simulation
from diag.engine.graphs.editing import Body, edit
from diag.engine.graphs.graph import parse_input

_ACTIVATIONS = ("Relu", "Relu6", "Elu")
_FUSED_DTYPES = frozenset(dtype.as_datatype_enum for dtype in (tf.float32, tf.float16))


def metal_fused_dense() -> Simulation:
    """MatMul, BiasAdd and an activation become one kernel, which leaves the activation out.

    As reported for tensorflow-metal: in a compiled function, float32 and float16, but not
    bfloat16, not eagerly, and not where an inner tensor is read by anything else.
    """
    return Simulation("metal-fused-dense", rewriter=drop_fused_activations)


def fused_adam_no_bias_correction() -> Simulation:
    """Adam's ops become one kernel, which takes the learning rate itself for its step size."""
    return Simulation("fused-adam-no-bias-correction", rewriter=drop_bias_corrections)


def drop_fused_activations(graph_def: Any) -> Any:
    """Every activation of the pattern becomes an Identity of y = xW + b, under its own name.

    So whoever read the activation reads y, its gradient op among them, which takes the output of
    the activation for its features.  The readers of a tensor are counted by data edges, `fetch/K`
    too.  Only the main graph is changed: bodies of loops and branches, which live in the library,
    are left alone.
    """
    wiring = _Wiring(graph_def.node)
    for node in graph_def.node:
        if node.op in _ACTIVATIONS and node.attr["T"].type in _FUSED_DTYPES:
            bias_add = wiring.only_reader_of(node, 0, "BiasAdd")
            if bias_add is not None and wiring.only_reader_of(bias_add, 0, "MatMul") is not None:
                node.op = "Identity"
    return graph_def


def drop_bias_corrections(graph_def: Any) -> Any:
    """lr * sqrt(1 - beta2^t) / (1 - beta1^t) becomes lr; the ops before it lose their reader.

    In branches as well, since under loss scaling the whole update stands in one.
    """
    return edit(graph_def, _drop_bias_corrections)


def _drop_bias_corrections(body: Body, function_name: str | None) -> Body:
    wiring = _Wiring(body.nodes, body.returns)

    def is_one_minus_power(node: Any, position: int) -> bool:
        difference = wiring.only_reader_of(node, position, "Sub")
        return difference is not None and wiring.only_reader_of(difference, 1, "Pow") is not None

    for node in body.nodes:
        if node.op != "RealDiv" or node.attr["T"].type != tf.float32.as_datatype_enum:
            continue
        product = wiring.only_reader_of(node, 0, "Mul")
        root = wiring.only_reader_of(product, 1, "Sqrt") if product is not None else None
        if root is not None and is_one_minus_power(root, 0) and is_one_minus_power(node, 1):
            node.op = "Identity"
            del node.input[1]
            node.input[0] = product.input[0]  # type: ignore[union-attr]
    return body


class _Wiring:
    """Who makes what a node reads, and how many read it; control edges are no reading."""

    def __init__(self, nodes: Iterable[Any], returns: Iterable[str] = ()) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.num_readers = Counter(name for node in self.nodes.values() for name in _sources(node.input))
        self.num_readers.update(_sources(returns))

    def only_reader_of(self, node: Any, position: int, op: str) -> Any | None:
        """The node that makes an input of `node`, where it is such an op and nothing else reads it."""
        source = _sources(node.input)[position]
        maker = self.nodes.get(source)
        return maker if maker is not None and maker.op == op and self.num_readers[source] == 1 else None


def _sources(inputs: Iterable[str]) -> list[str]:
    return [name for name, output in map(parse_input, inputs) if output is not None]
