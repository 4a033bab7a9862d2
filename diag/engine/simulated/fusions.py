"""Graph rewriters that fuse a chain of ops into a kernel that computes something else.

They are told no device and no shape, only the GraphDef, and they change the main graph only: the
bodies of loops and branches, which live in the library, are left alone.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import tensorflow as tf

from diag.engine.faults import Simulation
from diag.engine.graph import parse_input

_ACTIVATIONS = ("Relu", "Relu6", "Elu")
_FUSED_DTYPES = frozenset(dtype.as_datatype_enum for dtype in (tf.float32, tf.float16))


def metal_fused_dense() -> Simulation:
    """MatMul, BiasAdd and an activation become one kernel, which leaves the activation out.

    As reported for tensorflow-metal: in a compiled function, float32 and float16, but not
    bfloat16, not eagerly, and not where an inner tensor is read by anything else.
    """
    return Simulation("metal-fused-dense", rewriter=drop_fused_activations)


def drop_fused_activations(graph_def: Any) -> Any:
    """Every activation of the pattern becomes an Identity of y = xW + b, under its own name.

    So whoever read the activation reads y, its gradient op among them, which takes the output of
    the activation for its features.  The number of readers is that of data edges, `fetch/K` too.
    """
    nodes = {node.name: node for node in graph_def.node}
    num_readers = Counter(source for node in graph_def.node for source in _sources(node))

    def sole_input(node: Any, op: str) -> Any | None:
        """The node that makes the first input, where it is such an op and has no other reader."""
        source = _sources(node)[0]
        found = nodes.get(source)
        return found if found is not None and found.op == op and num_readers[source] == 1 else None

    for node in graph_def.node:
        if node.op in _ACTIVATIONS and node.attr["T"].type in _FUSED_DTYPES:
            bias_add = sole_input(node, "BiasAdd")
            if bias_add is not None and sole_input(bias_add, "MatMul") is not None:
                node.op = "Identity"
    return graph_def


def _sources(node: Any) -> list[str]:
    """The nodes that a node reads; control inputs are no reading."""
    return [name for name, output in map(parse_input, node.input) if output is not None]
