"""An op with no kernel on a device runs on the CPU, in silence; a probe must not take that for the device's answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.graphs.graph import Graph, Node
from diag.engine.graphs.tf_runtime import FLOATS, attributes, has_kernel, is_on_host, type_attributes
from probes.frame.device import Computation, DeviceUnderTest

HAND_ON = ("Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims", "StopGradient")  # they compute nothing


def check_placed(
    device: DeviceUnderTest,
    computation: Computation,
    arrays: Sequence[np.ndarray],
    dtype: str = "",
    matters: Callable[[Node], bool] = lambda node: True,
) -> None:
    """Raises UnimplementedError, naming the op, where an op of a computation would not run on the place's device.

    Under XLA all of it does.  dtype: ops with results of this dtype that a device keeps in host memory, as those of
    int32, are computed by the CPU as well.  matters: of which ops it is asked; what makes keys or counts steps may run
    anywhere.
    """
    kind = device.place.device.partition(":")[0]
    if kind != "CPU" and device.place.execution != "xla":
        found = computed_elsewhere(computation.graph(*arrays), kind, dtype, matters)
        if found:
            raise tf.errors.UnimplementedError(None, None, found)


def computed_elsewhere(
    graph: Graph, kind: str, dtype: str = "", matters: Callable[[Node], bool] = lambda node: True
) -> str:
    """What would run on the CPU instead of a device of this kind; "" where nothing would."""
    for node in graph:
        if node.is_silent or not matters(node):
            continue
        attrs: dict[str, Any] = attributes(node.proto)
        types = ", ".join(sorted({each.name for each in node.dtypes}))
        if not has_kernel(node.op, attrs, kind):
            return f"no {kind} kernel of {node.op} {types}; it would run on the CPU"
        is_judged = node.op not in HAND_ON and any(each.name == dtype for each in node.dtypes)
        if is_judged and is_on_host(node.op, attrs, kind):
            return f"the {kind} kernel of {node.op} {types} computes on the CPU"
    return ""


def touches_floats(node: Node) -> bool:
    """Whether an op reads, makes or writes numbers of a float dtype."""
    floats = {dtype.as_datatype_enum for dtype in FLOATS}
    attrs, types = attributes(node.proto), type_attributes(node.op)
    values = [attrs[name] for name in types if name in attrs]
    return any(each in floats for value in values for each in (value if isinstance(value, list) else [value]))
