"""The place under test: small TensorFlow functions run there, eagerly or compiled, with its faults planted.

A function is traced once for each signature into the same records that the training step is made of
(diag/engine/graphs/graph.py), so a simulated place, a graph rewriter and XLA treat it as they treat a step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.faults.catalogue import simulation_of
from diag.engine.faults.simulation import Simulation
from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import Graph, graph_of
from diag.engine.graphs.locations import BACKWARD, FORWARD, Location
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.compiled import build
from diag.engine.lanes.lane import check_device
from diag.engine.step.keras_calls import body_graph
from diag.engine.step.program import Program
from diag.errors import UserError
from diag.machine.environment import environment_of
from diag.machine.places import Place

Signature = tuple[tuple[str, tuple[int, ...]], ...]
NOT_SUPPORTED = (
    tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.NotFoundError, tf.errors.InternalError,
    tf.errors.UnknownError,
)  # fmt: skip
"""What TensorFlow raises where a place has no kernel for an op, a dtype, a layout or a shape (cuDNN: UnknownError)."""


class DeviceUnderTest:
    """A place that answers questions.

    Raises UserError where this machine has no such device, or the simulation does not exist.
    """

    def __init__(self, place: Place, seed: int = 0) -> None:
        check_device(place)
        simulation = simulation_of(place)
        if simulation is not None and simulation.fault is not None and place.execution == "xla":
            raise UserError(f"{place}: a simulated op fault cannot run inside XLA; use the execution eager or graph")
        self.place = place
        self.seed = seed

    def __str__(self) -> str:
        return str(self.place)

    def environment(self) -> dict[str, Any]:
        return {"place": str(self), **environment_of(self.place), "seed": self.seed}

    def saw(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """Told of everything that is computed here; for those who keep the bits."""

    def computation(self, function: Callable[..., Any]) -> Computation:
        """A function of tensors, to be run here any number of times; it returns a tensor or a list of them."""
        return Computation(self, function)

    def run(self, function: Callable[..., Any], *inputs: Any) -> list[np.ndarray]:
        """Run a function of tensors here, once.  Inputs and outputs are numpy arrays."""
        return self.computation(function)(*inputs)


class Computation:
    """One function at one place.  A simulated place keeps its memory from call to call, as a device would.

    Each call counts as a step of its own.  Variables that the function reads or writes are those it captures; make
    them under `tf.device(device.place.device)`.  It is traced anew for other shapes and dtypes.
    """

    def __init__(self, device: DeviceUnderTest, function: Callable[..., Any]) -> None:
        self.device = device
        self.function = function
        self.simulation: Simulation | None = simulation_of(device.place)
        self.num_calls = 0
        self._built: dict[Signature, Callable[..., list[Any]]] = {}
        self._executables: dict[Signature, Executable] = {}
        self._traces: list[Any] = []

    def __call__(self, *inputs: Any) -> list[np.ndarray]:
        """Raises one of NOT_SUPPORTED where the place cannot compute this, UserError where a fault goes wrong itself.

        Arrays are read only, and the caller's own.
        """
        arrays = [np.asarray(x) for x in inputs]
        signature = _signature(arrays)
        if signature not in self._built:
            self._built[signature] = self._build(arrays)
        if self.simulation is not None:
            self.simulation.enter_step(self.num_calls)
        self.num_calls += 1
        with tf.device(self.device.place.device):
            feeds = [tf.constant(array) for array in arrays]
        results = self._built[signature](*feeds)
        if self.simulation is not None:
            self.simulation.check()
        outputs = [to_numpy(result) for result in results]
        self.device.saw(arrays, outputs)
        return outputs

    def graph(self, *inputs: Any) -> Graph:
        """The records of the function for these inputs, as it was traced."""
        return self.executable(*inputs).graph

    def executable(self, *inputs: Any) -> Executable:
        """The function for these inputs, as it was traced and before any fault is planted."""
        arrays = [np.asarray(x) for x in inputs]
        signature = _signature(arrays)
        if signature not in self._executables:
            self._executables[signature] = self._traced(arrays)
        return self._executables[signature]

    def _build(self, arrays: Sequence[np.ndarray]) -> Callable[..., list[Any]]:
        executable = self.executable(*arrays)
        self._bind(executable)
        return build(executable, self.device.place, self.simulation, self._variables)

    def _bind(self, executable: Executable) -> None:
        """A fault that chooses where it strikes chooses here; where there is nothing for it, it does nothing."""
        if self.simulation is None or self.simulation.bind is None:
            return
        program = Program(
            executable.graph, executable.functions, executable.graph_def, executable.feeds, dict(executable.captures),
            dict(executable.constants), (), (), (), executable.fetches[:1], {}, {}, (),
        )  # fmt: skip
        try:
            self.simulation.bind(program, self.device.seed)
        except UserError:
            self.simulation = replace(self.simulation, fault=None)

    def _traced(self, arrays: Sequence[np.ndarray]) -> Executable:
        @tf.function(autograph=False)
        def traced(*tensors: tf.Tensor) -> list[tf.Tensor]:
            return tf.nest.flatten(self.function(*tensors))  # type: ignore[no-any-return]

        with tf.device(None):
            concrete = traced.get_concrete_function(*(tf.TensorSpec(a.shape, a.dtype) for a in arrays))
        self._traces.append(concrete)  # TensorFlow forgets the functions that it calls when it goes
        outer: Any = concrete.graph
        self._variables: list[tf.Variable] = list(outer.variables)
        by_handle = {id(variable.handle): index for index, variable in enumerate(self._variables)}
        captures: dict[str, int] = {}
        constants: dict[str, Any] = {}
        for value, placeholder in outer.captures:
            if id(value) in by_handle:
                captures[placeholder.op.name] = by_handle[id(value)]
            else:
                constants[placeholder.op.name] = value
        graph = _numbered(graph_of(outer))
        graph_def = outer.as_graph_def()
        functions = {f.signature.name: body_graph(f, outer) for f in graph_def.library.function}
        feeds = graph.inputs[: len(arrays)]
        return Executable(graph, functions, graph_def, feeds, captures, constants, graph.outputs)


def _signature(arrays: Sequence[np.ndarray]) -> Signature:
    return tuple((array.dtype.name, array.shape) for array in arrays)


def _numbered(graph: Graph) -> Graph:
    """Every op with an index; what a tape added is of the backward phase."""
    numbers = itertools.count()
    return graph.with_locations(
        {
            node.name: Location(
                BACKWARD if "gradient_tape" in node.name else FORWARD,
                None,
                None,
                None if node.is_silent else next(numbers),
            )
            for node in graph
        }
    )
