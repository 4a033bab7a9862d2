"""One place executing one op at a time, its simulated fault included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.faults.simulation import Simulation
from diag.engine.graphs.graph import ASSIGN_OPS, OPAQUE, Node
from diag.engine.graphs.pinning import is_pinned
from diag.engine.graphs.runtime_functions import execute_by_xla
from diag.engine.graphs.tf_runtime import KnownAttributes, as_array, execute, readable_attributes
from diag.engine.graphs.variables import write
from diag.machine.places import Place


@dataclass(frozen=True)
class VariableRef:
    """The value of a resource edge: which variable of the state, whatever lane holds it."""

    index: int


class EagerPlace:
    """Executes single ops at a place; knows nothing of other lanes."""

    def __init__(self, place: Place, simulation: Simulation | None, attributes: KnownAttributes | None = None) -> None:
        """attributes: shared with who else looks at the same nodes."""
        self.place = place
        self.simulation = simulation
        self.attributes = attributes or KnownAttributes()

    def device(self, node: Node) -> str:
        return "CPU:0" if is_pinned(node.proto) else self.place.device

    def is_faulty(self, node: Node) -> bool:
        """Whether the place's fault is asked about this op."""
        return self.simulation is not None and self.simulation.touches(node.op) and not is_pinned(node.proto)

    def reads_lists_of(self, device: str) -> bool:
        """Whether ops here can read a list of tensors that lies on a device.

        TensorFlow copies lists between its own devices (`testCPUGPUCopy`, list_ops_test.py); a plug-in's need not.
        """
        scalar = np.zeros(0, np.int32)
        with tf.device(device):
            made = tf.raw_ops.TensorListFromTensor(tensor=tf.zeros(1), element_shape=scalar)
        try:
            with tf.device(self.place.device):
                tf.raw_ops.TensorListGetItem(input_handle=made, index=0, element_shape=scalar, element_dtype=tf.float32)
        except tf.errors.OpError:
            return False
        return True

    def constant(self, node: Node) -> tf.Tensor:
        with tf.device(self.place.device):
            return tf.constant(tf.make_ndarray(node.proto.attr["value"].tensor))

    def run(self, node: Node, inputs: Sequence[Any], variables: Sequence[tf.Variable]) -> list[Any]:
        """Outputs of an op that writes nothing.  `inputs` are tensors or VariableRefs."""
        handles = [variables[x.index].handle if isinstance(x, VariableRef) else x for x in inputs]
        outputs = self._executed(node, handles)
        if node.location.index is None or not self.is_faulty(node):
            return outputs
        if not node.dtypes or any(dtype in OPAQUE for dtype in node.dtypes):
            return outputs
        visible = [variables[x.index] if isinstance(x, VariableRef) else x for x in inputs]
        arrays = [as_array(x) for x in visible if x.dtype not in OPAQUE]
        return self._faulty(node, arrays, [as_array(output) for output in outputs])

    def _executed(self, node: Node, inputs: Sequence[Any]) -> list[Any]:
        """By XLA where the place has no kernel for it: the CPU has none for the gradients of a grouped convolution in
        float16, and Keras leaves those to XLA.
        """
        device = self.device(node)
        try:
            return execute(node.op, inputs, self.attributes.of(node.proto), len(node.dtypes), device)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            try:
                return execute_by_xla(node.proto, inputs, len(node.dtypes), device)
            except tf.errors.OpError:
                raise error from None

    def write(self, node: Node, inputs: Sequence[Any], variable: tf.Variable) -> None:
        """Execute an op that assigns to a variable; a fault decides the value it leaves."""
        touched = self.is_faulty(node)
        before = as_array(variable).copy() if touched else None
        execute(node.op, [variable.handle, *inputs[1:]], self.attributes.of(node.proto), 0, self.device(node))
        if before is not None:
            arrays = [before, *(as_array(x) for x in inputs[1:])]
            after = as_array(variable)
            (left,) = self._faulty(node, arrays, [after], variable.dtype)
            write(variable, left)

    def _faulty(
        self, node: Node, inputs: list[np.ndarray], outputs: list[np.ndarray], dtype: tf.DType | None = None
    ) -> list[Any]:
        assert self.simulation is not None
        changed = self.simulation.apply(
            node.op, node.location, readable_attributes(node.proto), inputs, outputs, "eager"
        )
        dtypes = [dtype] if dtype is not None else list(node.dtypes)
        with tf.device(self.place.device):
            return [tf.constant(array, kind) for array, kind in zip(changed, dtypes, strict=True)]


class SingleLane:
    """The walker's handler for one place and one set of variables."""

    def __init__(self, place: EagerPlace, variables: Sequence[tf.Variable]) -> None:
        self.place = place
        self.variables = variables

    def constant(self, node: Node) -> Any:
        return self.place.constant(node)

    def truth(self, value: Any) -> bool:
        return bool(value)

    def compute(self, node: Node, inputs: Sequence[Any]) -> list[Any]:
        if node.op in ASSIGN_OPS or not node.dtypes:
            if inputs and isinstance(inputs[0], VariableRef):
                self.place.write(node, inputs, self.variables[inputs[0].index])
            return []
        if all(isinstance(x, VariableRef) for x in inputs) and node.dtypes == (tf.resource,):
            return list(inputs)  # an Identity of a handle inside a loop
        return self.place.run(node, inputs, self.variables)
