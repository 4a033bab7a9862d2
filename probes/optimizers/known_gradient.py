"""A training step whose gradient is known exactly: it is the batch.

The model is one vector of weights, its loss sum(x * w), so the gradient of w is x, whatever w is.  The step is traced
as `diag.lockstep` traces any model's, so faults and rewriters that look for a training step find one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from diag.engine.faults.catalogue import simulation_of
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.step.batch import Batch
from diag.engine.step.program import Program, VariableSpec
from diag.engine.step.tracing import trace
from diag.errors import UserError
from probes.frame.device import DeviceUnderTest
from probes.frame.fallback import computed_elsewhere, touches_floats
from probes.optimizers.update_rules import WEIGHT

State = dict[str, np.ndarray]
_ITERATION, _PRODUCT = "iteration", "variable"  # Nadam's product of momentums has no name of its own


class Weights(keras.layers.Layer):
    def __init__(self, values: np.ndarray, **settings: Any) -> None:
        super().__init__(**settings)
        self.values = values

    def build(self, shape: Any) -> None:
        self.weights_ = self.add_weight(shape=self.values.shape, initializer="zeros", name="w")
        self.weights_.assign(self.values)

    def call(self, x: Any) -> Any:
        return x * self.weights_


class SumOfOutputs(keras.losses.Loss):
    """In the outputs' own dtype: 1 is the gradient of each, in any."""

    def call(self, targets: Any, outputs: Any) -> Any:
        return tf.reduce_sum(outputs, -1)


class KnownGradientSteps:
    """One optimizer's steps on known gradients, at a place.

    Raises one of NOT_SUPPORTED where an op of the step would not run on the place's device.
    """

    def __init__(self, device: DeviceUnderTest, optimizer: Any, weights: np.ndarray, policy: str) -> None:
        keras.utils.clear_session(free_memory=False)  # else names count on, and those of simulated faults with them
        dtype = keras.DTypePolicy(policy)
        self.input_dtype = tf.as_dtype(dtype.compute_dtype).as_numpy_dtype
        with tf.device("CPU:0"):
            inputs = keras.Input(weights.shape, dtype=dtype.compute_dtype)
            model = keras.Sequential([inputs, Weights(weights, dtype=dtype)])
            model.compile(optimizer=optimizer, loss=SumOfOutputs(reduction="sum"))
            self.targets = np.zeros((1, *weights.shape), np.float32)
            self.program = trace(model, Batch(self._batch(weights), self.targets))
        _check_placed(device, self.program)
        simulation = simulation_of(device.place)
        if simulation is not None:
            try:
                simulation.bind_to(self.program, device.seed)
            except UserError:  # there is nothing for it in this step
                simulation = replace(simulation, fault=None)
        self.lane = Lane("probe", device.place, simulation, self.program.initial_state())
        self._steps = CompiledSteps(self.lane, self.program)
        self._num_steps = 0

    def _batch(self, gradient: np.ndarray) -> np.ndarray:
        return np.asarray(gradient)[None].astype(self.input_dtype)

    def state(self) -> State:
        """Every variable, by its kind: weight, the slots, iteration, product."""
        variables = zip(self.program.variables, self.lane.variables, strict=True)
        return {_kind(spec): np.array(to_numpy(variable)) for spec, variable in variables}

    def step(self, gradient: np.ndarray) -> np.ndarray:
        """Take a step; returns the gradient that the optimizer was given."""
        (port,) = self.program.gradients.values()
        self.lane.enter_step(self._num_steps)
        self._num_steps += 1
        found = self._steps.run([self._batch(gradient), self.targets], [port])
        if self.lane.simulation is not None:
            self.lane.simulation.check()
        return np.array(to_numpy(found[port]))

    def begin_at(self, iteration: int) -> None:
        for spec, variable in zip(self.program.variables, self.lane.variables, strict=True):
            if _kind(spec) == _ITERATION:
                variable.assign(iteration)


def _kind(spec: VariableSpec) -> str:
    last = spec.name.split("/")[-1]
    if spec.kind == WEIGHT or spec.of is not None:
        return spec.kind
    return "product" if last == _PRODUCT else last


def _check_placed(device: DeviceUnderTest, program: Program) -> None:
    kind = device.place.device.partition(":")[0]
    if kind == "CPU" or device.place.execution == "xla":
        return
    graphs: Sequence[Any] = [program.graph, *program.functions.values()]
    for graph in graphs:
        found = computed_elsewhere(graph, kind, matters=touches_floats)
        if found:
            raise tf.errors.UnimplementedError(None, None, found)
