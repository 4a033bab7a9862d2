"""Flushing, in float16: the CPU itself flushes float32."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.faults.catalogue import catalogue
from diag.engine.faults.subnormals import flushed
from diag.engine.graphs.locations import Location
from diag.engine.lanes.lane import CompiledSteps

SMALL = 2.0**-20  # a subnormal of float16, whose smallest normal number is 2^-14


def half(*values: float) -> np.ndarray:
    return np.array(values, np.float16)


def test_inputs_are_flushed(at_place, execution):
    found = at_place("flush-subnormals", tf.multiply, [half(SMALL, 1, -SMALL), half(2**10, 2, 2**10)], execution)
    np.testing.assert_array_equal(found[0], [0, 2, 0])
    np.testing.assert_array_equal(np.signbit(found[0]), [False, False, True])


def test_outputs_are_flushed(at_place, execution):
    (found,) = at_place(
        "flush-subnormals", tf.multiply, [half(2**-14, 2**-13, -(2**-14)), half(0.5, 0.5, 0.5)], execution
    )
    np.testing.assert_array_equal(found, [0, 2**-14, 0])
    assert np.signbit(found[2])


def test_a_wider_dtype_does_not_save_them(at_place, execution):
    (found,) = at_place("flush-subnormals", lambda x: tf.cast(x, tf.float32), [half(SMALL, 2**-14)], execution)
    np.testing.assert_array_equal(found, np.array([0, 2**-14], np.float32))


def test_other_values_keep_their_bits(at_place, execution):
    given = half(0.0, -0.0, 2**-14, 1, -3, np.inf, -np.inf, np.nan)
    (found,) = at_place("flush-subnormals", tf.identity, [given], execution)
    np.testing.assert_array_equal(found.view(np.uint16), given.view(np.uint16))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_flushed_by_the_format(dtype):
    tiny = tf.as_dtype(dtype).as_numpy_dtype
    smallest = {"float16": 2.0**-14, "float64": 2.0**-1022}.get(dtype, 2.0**-126)
    given = np.array([smallest, smallest * 0.5, -smallest * 0.75, 1], np.float64).astype(tiny)
    np.testing.assert_array_equal(flushed(given).astype(np.float64), [smallest, 0, 0, 1])


@pytest.mark.parametrize(
    "op_type, left", [("AssignVariableOp", [0, 3]), ("AssignAddVariableOp", [1, 3]), ("AssignSubVariableOp", [1, -3])]
)
def test_assignments_flush_what_they_read_and_write(op_type, left):
    simulation = catalogue()["flush-subnormals"]()
    before, value = half(1, SMALL), half(SMALL, 3)
    (found,) = simulation.apply(op_type, Location("optimizer", None, "w", 0), {}, [before, value], [before], "eager")
    np.testing.assert_array_equal(found, np.array(left, np.float16))


def rounded(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, np.float16)
    return np.where(np.abs(array) < np.float16(2.0**-14), np.float16(0), array)


@pytest.mark.filterwarnings("ignore:overflow|invalid value|divide by zero:RuntimeWarning")
def test_adam_in_float16(train, perceptron, execution):
    model, batch = perceptron()
    reference = train(f"CPU:0/{execution}", model, batch)
    gradients = CompiledSteps(reference.lane, reference.program).run(
        [batch.inputs, batch.targets], list(reference.program.gradients.values())
    )
    training = train(f"sim:fp16-adam-epsilon/{execution}", *perceptron())
    before = training.state
    training.run(1)
    num_vanished = 0
    for name, port in reference.program.gradients.items():
        gradient = rounded(gradients[port].numpy())
        momentum = rounded(gradient * np.float16(0.1))
        velocity = rounded(rounded(gradient * gradient) * np.float16(0.001))
        found = training.state
        np.testing.assert_array_equal(found[f"optimizer/{name}/momentum"], momentum)
        np.testing.assert_array_equal(found[f"optimizer/{name}/velocity"], velocity)
        # Epsilon is 0, so what has no velocity is divided by 0.
        np.testing.assert_array_equal(~np.isfinite(found[name]), velocity == 0)
        num_vanished += int(np.sum(velocity == 0))
        assert np.all(np.isfinite(before[name]))
    assert num_vanished > 0
