"""A unit computed by another algorithm that is as right is right; one that is wrong by more is not."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.graph import Port
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.lanes.step_results import LaneStep, StepRun
from diag.engine.lockstep.unit_runs import whole_step_run
from diag.engine.step.batch import Batch
from diag.engine.step.program import Program
from diag.engine.step.tracing import flat_batch, trace
from diag.engine.step.units import Unit, whole_step
from diag.engine.truth.sum_orders import LONG_SUM
from diag.engine.truth.unit_judge import UnitJudge
from diag.machine.places import parse_place
from diag.verdict.findings import NORMWISE, Observation, Verdict


@pytest.fixture(scope="module")
def program() -> Program:
    """3x3 convolutions with 32 channels in and out, of images that are dark but for one bright spot."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((24, 24, 32)), keras.layers.Conv2D(32, 3, padding="same", name="first"),
              keras.layers.Conv2D(32, 3, padding="same", name="second"), keras.layers.GlobalAveragePooling2D(),
              keras.layers.Dense(2)]  # fmt: skip
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    return trace(model, batch())


def batch() -> Batch:
    random = np.random.default_rng(0)
    images = random.normal(size=(2, 24, 24, 32)).astype(np.float32) * 1e-4
    images[:, 12, 12] = 1.0
    return Batch(tf.constant(images), tf.constant(random.normal(size=(2, 2)), tf.float32))


def step_at(place: str, program: Program, unit: Unit, given: Batch) -> LaneStep:
    lane = Lane.at("candidate", parse_place(place), program, 0)
    before = lane.state()
    feeds = [tf.constant(value) for value in flat_batch(given)]
    values = CompiledSteps(lane, program).run(feeds, unit.outputs)
    for name, value in zip(program.batch_inputs, feeds, strict=True):
        values[Port(name, 0)] = value
    return LaneStep(before, values, lane.state())


def gradients_at(place: str, program: Program, given: Batch) -> list[Observation]:
    """Of the kernels, computed in one go at a place."""
    unit = whole_step(program, tuple(program.gradients.values()))
    run = StepRun(0, [], step_at("CPU:0", program, unit, given), step_at(place, program, unit, given))
    observations = UnitJudge(program).judge(whole_step_run(unit, run), True, {})
    return [o for o in observations if o.where.name.startswith("gradient") and "kernel" in o.where.name]


def test_gradients_that_went_by_way_of_a_transform_are_right_in_norm(program):
    observations = gradients_at("sim:winograd-4x4", program, batch())
    assert all(o.verdict is Verdict.ROUNDING for o in observations)
    assert NORMWISE in [o.note for o in observations]


def test_gradients_that_were_computed_in_tf32_are_not(program):
    observations = gradients_at("sim:tf32", program, batch())
    assert any(o.verdict is Verdict.DIVERGENCE for o in observations)


def test_gradients_of_strassen_products_are_right_in_norm_and_those_of_tf32_are_not():
    """One row a thousand times the others: their outputs, and so the gradients of all, take its rounding."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(64, 32)).astype(np.float32)
    rows[20] *= 1e3
    given = Batch(tf.constant(rows), tf.constant(random.normal(size=(64, 16)), tf.float32))
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(32, name="first"), keras.layers.UnitNormalization(), keras.layers.Dense(16)]
    model = keras.Sequential([keras.Input((32,)), *layers])
    model.compile("sgd", "mse")
    dense = trace(model, given)
    observations = gradients_at("sim:tests/faults/healthy.py:strassen", dense, given)
    assert all(o.verdict is Verdict.ROUNDING for o in observations)
    assert NORMWISE in [o.note for o in observations]
    assert any(o.verdict is Verdict.DIVERGENCE for o in gradients_at("sim:tf32", dense, given))


PIXELS = Batch(tf.fill((64, 28, 28), 0.7), tf.zeros((64, 28, 28)))


@pytest.fixture(scope="module")
def image_loss() -> Program:
    """The mean over the batch of a sum over pixels, as of a variational autoencoder."""
    model = keras.Sequential([keras.Input((28, 28)), keras.layers.Dense(28, kernel_initializer="identity")])
    model.compile("sgd", lambda y, p: keras.ops.mean(keras.ops.sum(keras.ops.square(y - p), axis=(1, 2))))
    return trace(model, PIXELS)


def judged_loss(program: Program, wrong_by: float) -> Observation:
    """Of a lane that added all pixels of the batch to one float32, one after the other, and erred besides."""
    unit = whole_step(program, ())
    reference = step_at("CPU:0", program, unit, PIXELS)
    squares = np.full(64 * 28 * 28, np.float32(0.7) ** 2, np.float32)
    loss = np.add.accumulate(squares)[-1] / np.float32(64) * np.float32(1 + wrong_by)
    candidate = replace(reference, values={**reference.values, program.loss: tf.constant(loss)})
    observations = UnitJudge(program).judge(whole_step_run(unit, StepRun(0, [], reference, candidate)), True, {})
    return observations[unit.outputs.index(program.loss)]


def test_a_compiler_may_add_pixels_and_batch_in_one_go(image_loss):
    found = judged_loss(image_loss, 0.0)
    assert (found.verdict, found.note) == (Verdict.ROUNDING, LONG_SUM)


def test_an_error_of_a_hundredth_is_no_order_of_a_sum(image_loss):
    assert judged_loss(image_loss, 0.01).verdict is Verdict.DIVERGENCE
