"""Driving simulated places: one function, or whole training steps of a small model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.faults.catalogue import catalogue
from diag.engine.faults.simulation import Call, Simulation
from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import graph_of
from diag.engine.graphs.locations import Location
from diag.engine.lanes.compiled import build
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.step.batch import Batch
from diag.engine.step.program import Program
from diag.engine.step.tracing import trace
from diag.machine.places import parse_place

EXECUTIONS = ("graph", "eager")


@pytest.fixture(params=EXECUTIONS)
def execution(request) -> str:
    return request.param


@pytest.fixture
def at_place() -> Callable[..., list[np.ndarray]]:
    """`at_place(simulation, function, arrays, execution, step)`: what the function returns at a place."""

    def run(simulation, function, arrays, execution="graph", step=0) -> list[np.ndarray]:
        if isinstance(simulation, str):
            simulation = catalogue()[simulation]()
        specs = [tf.TensorSpec(np.shape(array), np.asarray(array).dtype) for array in arrays]
        concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
        graph = graph_of(concrete.graph)
        locations = {node.name: Location("forward", "layer", None, i) for i, node in enumerate(graph)}
        returned = tuple(graph.by_name[port.node].inputs[0] for port in graph.outputs)
        executable = Executable(
            graph.with_locations(locations), {}, concrete.graph.as_graph_def(), graph.inputs, {}, {}, returned
        )
        place = parse_place(f"CPU:0/{execution}")
        simulation.step = step
        return [x.numpy() for x in build(executable, place, simulation, [])(*map(tf.constant, arrays))]

    return run


@dataclass
class Changed:
    """One call whose outputs the fault changed."""

    call: Call
    outputs: list[np.ndarray]

    @property
    def elements(self) -> list[tuple[int, int]]:
        """(output, position) of every element with other bits."""
        pairs = zip(self.call.outputs, self.outputs, strict=True)
        return [
            (number, int(position))
            for number, (old, new) in enumerate(pairs)
            for position in np.flatnonzero(words(old) != words(new))
        ]


@dataclass
class Training:
    """A lane at a simulated place, with a record of what its fault changed."""

    program: Program
    lane: Lane
    batch: Any
    changed: list[Changed] = field(default_factory=list)

    @classmethod
    def at(cls, place: str, model: keras.Model, batch: Any, seed: int = 0) -> Training:
        program = trace(model, batch)
        training = cls(program, Lane.at("candidate", parse_place(place), program, seed), batch)
        if training.lane.simulation is not None and training.lane.simulation.fault is not None:
            training._record(training.lane.simulation)
        return training

    def _record(self, simulation: Simulation) -> None:
        inner = simulation.fault

        def recorded(call: Call) -> list[np.ndarray] | None:
            outputs = inner(call)
            if outputs is not None:
                kept = [np.array(x) for x in call.outputs]
                self.changed.append(Changed(SimpleNamespace(**{**vars(call), "outputs": kept}), outputs))
            return outputs

        simulation.fault = recorded

    def run(self, num_steps: int) -> None:
        steps = CompiledSteps(self.lane, self.program)
        for step in range(num_steps):
            self.lane.enter_step(step)
            steps.run([self.batch.inputs, self.batch.targets], [])

    @property
    def state(self) -> dict[str, np.ndarray]:
        values = [value.numpy() for value in self.lane.state()]
        return {spec.name: value for spec, value in zip(self.program.variables, values, strict=True)}


@pytest.fixture
def train() -> Callable[..., Training]:
    return Training.at


@pytest.fixture
def perceptron() -> Callable[..., tuple[keras.Model, Any]]:
    """`perceptron(optimizer or its maker, policy, layers between)`: a model ready to train, and a batch."""

    def make(optimizer: Any = "adam", policy: str = "float32", between: Sequence[Any] = ()) -> tuple[keras.Model, Any]:
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(7)
        layers = [keras.layers.Dense(6, activation="relu", dtype=policy), *between, keras.layers.Dense(3, dtype=policy)]
        model = keras.Sequential([keras.Input((4,)), *layers])
        scaled = "float16" in policy and policy != "mixed_bfloat16"
        optimizer = optimizer() if callable(optimizer) else keras.optimizers.get(optimizer)
        model.compile(
            keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer,
            keras.losses.MeanSquaredError(),
            jit_compile=False,
        )
        random = np.random.default_rng(3)
        inputs = random.normal(size=(8, 4)).astype("float32")
        return model, Batch(inputs, random.normal(size=(8, 3)).astype("float32"))

    return make


def words(array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array).reshape(-1)
    return array.view(f"u{array.dtype.itemsize}")
