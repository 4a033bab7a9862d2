"""A `train_step` of a model's own as a program: what its losses, gradients, updates and variables are called."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.locations import BACKWARD, FORWARD, OPTIMIZER
from diag.engine.step.batch import Batch
from diag.engine.step.program import Program
from diag.engine.step.tracing import trace
from diag.errors import UserError

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
BARE = Batch(X, num_parts=0)


class Pair(keras.Model):
    """Two networks, neither of them built, with an optimizer each; the second learns twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one = keras.Sequential(
            [keras.layers.Dense(2, name="first"), keras.layers.Dense(1, name="last")], name="one"
        )
        self.two = keras.Sequential([keras.layers.Dense(1, name="last")], name="two")
        self.tracker = keras.metrics.Mean(name="cost")
        self.seen = tf.Variable(0, trainable=False, name="seen")

    def compile(self, a_optimizer: Any, b_optimizer: Any) -> None:
        super().compile()
        self.a_optimizer, self.b_optimizer = a_optimizer, b_optimizer

    def learn(self, network: keras.Model, optimizer: Any, x: Any) -> Any:
        with tf.GradientTape() as tape:
            cost = tf.reduce_mean(tf.square(network(x) - 1.0))
        gradients = tape.gradient(cost, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return cost

    def train_step(self, data: Any) -> dict[str, Any]:
        self.seen.assign_add(1)
        first = self.learn(self.one, self.a_optimizer, data)
        for _ in range(2):
            self.tracker.update_state(self.learn(self.two, self.b_optimizer, data))
        return {"first": first, "cost": self.tracker.result()}


def pair() -> Pair:
    model = Pair()
    model.compile(keras.optimizers.Adam(), keras.optimizers.SGD(momentum=0.9))
    return model


@pytest.fixture(scope="module")
def program() -> Program:
    return trace(pair(), BARE)


def test_what_a_step_holds_is_all_that_it_touches(program: Program) -> None:
    names = [spec.name for spec in program.variables]
    weights = [
        "one/first/kernel",
        "one/first/bias",
        "one/last/kernel",
        "one/last/bias",
        "two/last/kernel",
        "two/last/bias",
    ]
    assert [spec.name for spec in program.variables if spec.kind == "weight"] == weights
    assert "a_optimizer/one/first/kernel/momentum" in names and "b_optimizer/two/last/bias/momentum" in names
    assert {"metrics/cost/total", "metrics/cost/count"} <= set(names)
    assert not any("rmsprop" in name for name in names)  # the one that compile() makes unasked, and nothing uses
    (own,) = [name for name in names if name.startswith("other/")]
    assert own.endswith("seen")
    assert len(names) == len(program.captures)


def test_losses_and_gradients_have_names(program: Program) -> None:
    further = [name for name in program.layer_outputs if name not in program.layers]
    assert further == ["b_optimizer/loss", "b_optimizer/loss_2"]
    assert program.losses[0] == program.loss and len(program.losses) == 3
    assert set(program.losses) <= set(program.watched.ports) | {program.loss}
    assert list(program.gradients) == [spec.name for spec in program.variables if spec.kind == "weight"]
    assert program.without_gradient == ()


def test_every_op_has_its_place(program: Program) -> None:
    places = {(op.location.phase, op.location.layer) for op in program.ops}
    assert {(FORWARD, "first"), (BACKWARD, "first"), (FORWARD, "two/last"), (BACKWARD, "two/last")} <= places
    assert {(OPTIMIZER, "a_optimizer"), (OPTIMIZER, "b_optimizer"), (FORWARD, "loss"), (BACKWARD, "loss")} <= places
    updated = [op.location.variable for op in program.ops if op.op == "AssignSubVariableOp"]
    assert set(updated) >= {"one/first/kernel", "one/last/bias"}
    assert all("lockstep." not in node.name or "lockstep.optimizer" in node.name for node in program.graph)


def test_tracing_it_again_gives_the_same() -> None:
    model = pair()
    names = [[spec.name for spec in trace(model, batch).variables] for batch in (BARE, Batch(X[:2], num_parts=0))]
    assert names[0] == names[1]


class Own(keras.Model):
    """A model whose step is given to it."""

    def __init__(self, step: Any) -> None:
        super().__init__()
        self.dense, self.step = keras.layers.Dense(1), step
        self.compile("sgd", "mse")

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def train_step(self, data: Any) -> dict[str, Any]:
        return self.step(self, data)


def without_gradient(model: Own, data: Any) -> dict[str, Any]:
    return {"loss": tf.reduce_mean(model(data))}


def of_no_number(model: Own, data: Any) -> dict[str, Any]:
    with tf.GradientTape() as tape:
        each = tf.square(model(data))
    model.optimizer.apply_gradients(
        zip(tape.gradient(each, model.trainable_variables), model.trainable_variables, strict=True)
    )
    return {}


@pytest.mark.parametrize("step", [without_gradient, of_no_number])
def test_a_step_that_differentiates_no_number_is_one_line(step: Any) -> None:
    with pytest.raises(UserError, match="takes no gradient of a scalar loss by trainable weights"):
        trace(Own(step), BARE)


def scaled(model: Own, data: Any) -> dict[str, Any]:
    x, y = data
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x))
        to_lower = model.optimizer.scale_loss(loss)
    gradients = tape.gradient(to_lower, model.trainable_variables)
    model.optimizer.apply(gradients, model.trainable_variables)
    return {"loss": loss}


def test_a_loss_is_the_one_before_it_was_scaled() -> None:
    model = Own(scaled)
    model.optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=64.0)
    program = trace(model, Batch(X, X[:, :1]))
    (returned,) = program.graph.outputs
    assert program.graph.by_name[returned.node].inputs == (program.loss,)
    assert {op.location.layer for op in program.ops if op.location.phase == OPTIMIZER and not op.location.variable} == {
        "optimizer"
    }
