"""Exactly one variable stays behind; what belongs to it moves as it should."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from diag.engine.faults.updates import SkippedUpdate
from diag.engine.step.tracing import trace

OPTIMIZERS = {
    "adam": (keras.optimizers.Adam, 2),
    "sgd": (keras.optimizers.SGD, 0),
    "momentum": (lambda: keras.optimizers.SGD(momentum=0.9), 1),
    "nesterov": (lambda: keras.optimizers.SGD(momentum=0.9, nesterov=True), 1),
    "rmsprop": (keras.optimizers.RMSprop, 1),
    "adamw": (lambda: keras.optimizers.AdamW(weight_decay=0.0), 2),
}


def check_one_behind(training, reference, initial, num_slots):
    (behind,) = {
        spec.name
        for spec in training.program.variables
        if spec.kind == "weight" and np.array_equal(training.state[spec.name], initial[spec.name])
    }
    slots = [spec.name for spec in training.program.variables if spec.of == behind]
    assert len(slots) == num_slots
    for name in slots:
        assert np.any(training.state[name] != 0)
    # In the first step nothing has read the stale variable yet: all else is what it should be.
    for name, value in reference.state.items():
        if name != behind:
            np.testing.assert_array_equal(training.state[name], value)
        else:
            assert np.any(value != initial[name])


# None, one and two slots a variable; the others differ in what they compute of as many.
FEW = ("sgd", "momentum", "adam")


@pytest.mark.parametrize("name", [pytest.param(x, marks=() if x in FEW else pytest.mark.slow) for x in OPTIMIZERS])
def test_slots_move_and_the_variable_does_not(train, perceptron, execution, name):
    make, num_slots = OPTIMIZERS[name]
    reference, training = (
        train(f"{place}/{execution}", *perceptron(make), seed=3) for place in ("CPU:0", "sim:skipped-update")
    )
    initial = training.state
    reference.run(1)
    training.run(1)
    check_one_behind(training, reference, initial, num_slots)


def test_under_loss_scaling(train, perceptron, execution):
    reference, training = (
        train(f"{place}/{execution}", *perceptron("adam", "mixed_float16"), seed=1)
        for place in ("CPU:0", "sim:skipped-update")
    )
    initial = training.state
    reference.run(1)
    training.run(1)
    check_one_behind(training, reference, initial, 2)


def test_it_stays_behind_for_good(train, perceptron):
    training = train("sim:skipped-update", *perceptron())
    initial = training.state
    training.run(3)
    unmoved = [name for name, value in training.state.items() if np.array_equal(value, initial[name])]
    assert len([name for name in unmoved if name.startswith("dense")]) == 1


def test_seeds_choose_every_variable(perceptron):
    program = trace(*perceptron())
    chosen = set()
    for seed in range(40):
        fault = SkippedUpdate()
        fault.bind(program, seed)
        chosen.add(fault.variable)
    assert chosen == {spec.name for spec in program.variables if spec.kind == "weight"}


def test_unbound_it_says_so():
    with pytest.raises(RuntimeError, match="not bound"):
        SkippedUpdate()(None)


@pytest.mark.parametrize("place, finite", [("CPU:0", True), ("sim:ignored-found-inf", False)])
def test_infinite_gradients_are_applied(train, perceptron, execution, place, finite):
    model, batch = perceptron("sgd", "mixed_float16")
    batch = replace(batch, inputs=batch.inputs * np.float32(1e30))
    training = train(f"{place}/{execution}", model, batch)
    initial = training.state
    training.run(1)
    weights = [spec.name for spec in training.program.variables if spec.kind == "weight"]
    assert all(np.all(np.isfinite(training.state[name])) for name in weights) == finite
    assert all(np.array_equal(training.state[name], initial[name]) for name in weights) == finite
