"""What a lane says its variables hold is what they hold, whoever wrote them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.step.tracing import flat_batch, trace
from diag.machine.places import Place
from tests import zoo


@pytest.fixture(scope="module")
def program():
    return trace(zoo.made(zoo.mlp), zoo.batch_for(zoo.mlp))


@pytest.fixture(params=["graph", "eager"])
def lane(program, request):
    return Lane.at("candidate", Place("CPU:0", request.param), program, seed=0)


def _held(lane):
    return [variable.numpy() for variable in lane._variables.variables]


def _assert_says_what_it_holds(lane):
    for said, held in zip(lane.state().arrays, _held(lane), strict=True):
        np.testing.assert_array_equal(said, held)


def test_after_a_step_and_from_a_state_loaded_before_it(program, lane):
    steps, batch = CompiledSteps(lane, program), [tf.constant(x) for x in flat_batch(zoo.batch_for(zoo.mlp))]
    before = lane.state()
    first = [array.copy() for array in before.arrays]
    steps.run(batch, ())
    _assert_says_what_it_holds(lane)
    after = lane.state()
    assert not all(map(np.array_equal, after.arrays, first))
    lane.load(before)
    _assert_says_what_it_holds(lane)
    steps.run(batch, ())
    _assert_says_what_it_holds(lane)
    assert all(map(np.array_equal, before.arrays, first))  # as it was, though variables that held it were changed


def test_after_a_variable_is_written_by_itself(lane):
    lane.state()
    lane.variables[0].assign(tf.zeros_like(lane.variables[0]) + 7)
    _assert_says_what_it_holds(lane)
    assert (lane.state().arrays[0] == 7).all()


def test_after_arrays_are_loaded_that_change_later(lane):
    arrays = [np.array(array) for array in lane.state().arrays]
    lane.load(arrays)
    arrays[0][...] = 9
    _assert_says_what_it_holds(lane)


def test_a_failed_load_is_not_believed(lane):
    state = lane.state()
    with pytest.raises(tf.errors.InvalidArgumentError):
        lane.load(type(state)([tf.zeros((1, 2, 3)), *state[1:]]))
    _assert_says_what_it_holds(lane)


def test_what_units_start_from_is_what_was_loaded(lane):
    lane.load_scratch([np.full_like(to_numpy(value), 3) for value in lane.state()])
    assert all((to_numpy(variable) == 3).all() for variable in lane.scratch)
    _assert_says_what_it_holds(lane)
