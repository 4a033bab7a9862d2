"""Twins on real models: what is moved, what is shared, and what is measured."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.lanes.step_results import LaneStep
from diag.engine.lockstep.telescope import Telescope
from diag.engine.runs import twins as module
from diag.engine.runs.predictions import Predictions, prediction_of
from diag.engine.runs.twins import Twins, perturbed, weights_of
from diag.engine.step.batch import Batch
from diag.engine.step.program import Program
from diag.engine.step.tracing import flat_batch, trace
from diag.machine.places import parse_place
from diag.numerics.ulp import ulp_distance
from tests import zoo

CPU = parse_place("CPU:0")


@cache
def traced(model, policy="float32") -> tuple[Program, tuple[tf.Tensor, ...]]:
    batch = zoo.batch_for(model)
    return trace(zoo.made(model, policy), batch), tuple(tf.constant(value) for value in flat_batch(batch))


def ran(model, candidate="CPU:0", num_steps=3, count=2):
    """Twins after some steps of the free lockstep, and the last step's run."""
    program, batch = traced(model)
    lanes = [Lane.at(name, parse_place(place), program, 0) for name, place in
             (("reference", "CPU:0"), ("candidate", candidate))]  # fmt: skip
    telescope = Telescope(program, *lanes)
    telescope.steps.share_random_outputs()
    found = Twins(CPU, 0, count)
    for step in range(num_steps):
        run = telescope.steps.run(step, batch, with_boundaries=False)
        found.step(run, program, tuple(lanes))
    return found, run, program


@pytest.mark.parametrize("model", [zoo.cnn, zoo.xception_block])
def test_every_weight_moves_by_one_ulp_and_nothing_else_moves(model):
    program, _ = traced(model)
    before = program.initial_state()
    after = perturbed(program, before, np.random.default_rng(0))
    num_weights = 0
    for spec, old, new in zip(program.variables, before, after, strict=True):
        steps = np.unique(ulp_distance(to_numpy(old), np.asarray(new))) if spec.kind == "weight" else None
        if steps is None:
            assert new is old, spec.name
        else:
            num_weights += 1
            assert list(steps) == [1], spec.name
    assert num_weights == {zoo.cnn: 6, zoo.xception_block: 11}[model]  # kernels, biases, gamma and beta


def test_under_a_mixed_policy_one_rounding_is_that_of_the_arithmetic():
    """float32 weights that are used in float16: 2^-10 of their power of two."""
    program, _ = traced(zoo.mlp, "mixed_float16")
    before = program.initial_state()
    after = perturbed(program, before, np.random.default_rng(0))
    kernel = program.variables.index(next(v for v in program.variables if v.name == "dense/kernel"))
    old, new = to_numpy(before[kernel]), np.asarray(after[kernel])
    assert old.dtype == np.float32
    assert np.array_equal(np.abs(new - old), 2.0 ** (np.floor(np.log2(np.abs(old))) - 10).astype(np.float32))


def test_a_twin_that_is_not_moved_is_the_reference(monkeypatch):
    """Same place, batches and random draws: dropout included, not a bit differs."""
    monkeypatch.setattr(module, "moved_by_one_ulp", lambda x, generator, format: x)
    found, _, _ = ran(zoo.cnn)
    for curve in found.curves:
        assert [curve.start, *curve.distance, *curve.loss_difference, *curve.disagreement] == [0.0] * 10


def test_twins_differ_from_each_other_and_start_one_ulp_away():
    """Of a relative step between 2^-24 and 2^-23 each; zeros move by nothing that counts."""
    found, _, _ = ran(zoo.mlp)
    first, second = found.curves
    for curve in (first, second):
        assert 2**-24 < curve.start < 2**-23
        assert all(2**-25 < d < 2**-20 for d in curve.distance)
    assert first.distance != second.distance


def test_the_candidates_figures_are_those_of_its_state():
    found, run, program = ran(zoo.mlp, "sim:tf32")
    mine, theirs = (
        np.concatenate([to_numpy(state[i]).ravel().astype(float) for i in weights_of(program)])
        for state in (run.reference.after, run.candidate.after)
    )
    assert found.candidate.start == 0.0
    expected = np.linalg.norm(theirs - mine) / np.linalg.norm(mine)
    assert found.candidate.distance[-1] == pytest.approx(expected, rel=1e-12)
    losses = [float(lane.values[program.loss]) for lane in (run.reference, run.candidate)]
    assert found.candidate.loss_difference[-1] == pytest.approx(abs(losses[1] - losses[0]) / losses[0], rel=1e-6)


def test_the_envelope_is_left_by_tf32_and_not_by_the_reference_itself():
    found, _, _ = ran(zoo.mlp, "sim:tf32", num_steps=4)
    assert found.candidate_has_left
    seen = found.trajectories(is_explained=True)
    assert seen.exit is not None and seen.exit.step > 0  # in the first step Adam hides it
    assert len(seen.envelope) == len(seen.candidate.distance) == 4
    assert not ran(zoo.mlp)[0].candidate_has_left


def test_predictions_are_the_last_layers_scores():
    program, _ = traced(zoo.cnn)
    assert prediction_of(program) == program.layer_outputs["classes"][0]
    program, _ = traced(zoo.mlp)
    assert prediction_of(program) == program.layer_outputs["dense_2"][0]


def test_one_number_a_sample_is_no_class():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    model.compile("adam", "mean_squared_error")
    random = np.random.default_rng(0)
    batch = Batch(random.normal(size=(4, 5)).astype(np.float32), random.normal(size=(4, 1)).astype(np.float32))
    assert prediction_of(trace(model, batch)) is None


def test_a_forward_pass_of_its_own_gives_the_prediction_that_the_step_would():
    """Where it is not watched: dropout's masks are the step's, and nothing is trained."""
    program, batch = traced(zoo.cnn)
    lane = Lane.at("reference", CPU, program, 0)
    before, port = lane.state(), prediction_of(program)
    found = Predictions(program)
    assert found.watched == () and port is not None
    values = CompiledSteps(lane, program).run(batch, (port, *program.random_ports))
    draws = {each: values[each] for each in program.random_ports}
    after = [to_numpy(value).copy() for value in lane.state()]
    mine = found.of(lane, LaneStep(before, {}, ()), batch, draws)
    np.testing.assert_allclose(to_numpy(mine), to_numpy(values[port]), rtol=1e-6)
    assert all(np.array_equal(a, to_numpy(b)) for a, b in zip(after, lane.state(), strict=True))
