"""Adam's figures on real steps: Keras's own optimizer is within what they allow, a planted fault is not."""

from __future__ import annotations

from dataclasses import replace

import keras
import pytest
import tensorflow as tf

from diag.engine.graphs.graph import Port
from diag.engine.lanes.lane import Lane
from diag.engine.lanes.step_results import StepRun
from diag.engine.lockstep.telescope import Telescope
from diag.engine.runs.updates import AdamSettings, adam_settings_of, study_updates
from diag.engine.step.tracing import flat_batch, trace
from diag.engine.truth.unit_judge import OutputTruth
from diag.machine.places import parse_place
from tests import zoo


def gradient_truths(telescope: Telescope, run: StepRun) -> dict[Port, OutputTruth]:
    kept = telescope.program.gradients.values()
    return telescope.judge.judge_with_truth(telescope.whole_step_run(run), True, {}, kept)[1]


def studied(model, candidate, num_steps=1, policy="float32"):
    """By variable: what a step made of it that started both lanes from the reference's state."""
    made, batch = zoo.made(model, policy), zoo.batch_for(model, 8, seed=5)
    program = trace(made, batch)
    lanes = [Lane.at(name, parse_place(place), program, 0) for name, place in
             (("reference", "CPU:0"), ("candidate", candidate))]  # fmt: skip
    telescope = Telescope(program, *lanes)
    telescope.steps.share_random_outputs()
    for step in range(num_steps):
        lanes[1].load(lanes[0].state())
        run = telescope.steps.run(step, [tf.constant(value) for value in flat_batch(batch)], with_boundaries=False)
    truth = gradient_truths(telescope, run)
    return {each.variable: each for each in study_updates(adam_settings_of(made), program, run, truth)}


@pytest.mark.parametrize("model, num_steps, num_variables", [(zoo.transformer, 1, 16), (zoo.cnn, 3, 6)])
def test_keras_on_another_execution_is_within(model, num_steps, num_variables):
    """All but the transformer's embedding, whose gradient is sparse."""
    found = studied(model, "CPU:0/eager", num_steps)
    assert len(found) == num_variables
    for each in found.values():
        assert each.momentum <= 1 and each.velocity <= 1 and each.update <= 1, each
        assert each.from_rest == (num_steps == 1)
        assert each.unexplained_sign == 0


def test_a_gradient_that_is_zero_in_exact_arithmetic_is_noise():
    """The bias of a convolution before BatchNormalization: it is subtracted again with the mean."""
    found = studied(zoo.xception_block, "sim:reordered-sums")
    bias = found["separable/bias"]
    assert bias.other_sign > 0 and bias.of_noise == bias.other_sign
    assert found["classes/kernel"].other_sign == 0


def test_a_fault_is_not_noise():
    """The wrong gradient of a fused Dense: signs differ where no rounding could make them."""
    found = studied(zoo.perceptron, "sim:metal-fused-dense")
    hidden = found["hidden/kernel"]
    assert hidden.unexplained_sign > 0.01
    assert hidden.momentum > 100 and hidden.update > 100


def test_only_plain_adam_has_this_formula():
    def settings(optimizer):
        model = zoo.made(zoo.perceptron)
        model.optimizer = optimizer
        return adam_settings_of(model)

    assert settings(keras.optimizers.Adam(beta_1=0.8, epsilon=1e-3)) == AdamSettings(0.8, 0.999, 1e-3)
    for other in (keras.optimizers.SGD(), keras.optimizers.AdamW(), keras.optimizers.Adam(amsgrad=True),
                  keras.optimizers.Adam(clipnorm=1.0), keras.optimizers.Nadam()):  # fmt: skip
        assert settings(other) is None
    assert adam_settings_of(None) is None


def test_a_rate_that_is_no_variable_is_left_alone():
    """A schedule computes the rate inside the step."""
    model, batch = zoo.made(zoo.perceptron), zoo.batch_for(zoo.perceptron)
    program = trace(model, batch)
    named = tuple(replace(v, name="optimizer/rate") if "learning_rate" in v.name else v for v in program.variables)
    lanes = [Lane.at(name, parse_place("CPU:0"), program, 0) for name in ("reference", "candidate")]
    telescope = Telescope(program, *lanes)
    run = telescope.steps.run(0, [tf.constant(value) for value in flat_batch(batch)], with_boundaries=False)
    truth = gradient_truths(telescope, run)
    settings = AdamSettings(0.9, 0.999, 1e-7)
    assert study_updates(settings, program, run, truth)
    assert study_updates(settings, replace(program, variables=named), run, truth) == []


def test_a_gradient_that_is_not_watched_may_have_overflowed():
    """As one that a compiled function of Keras's own gives, of a grouped convolution."""
    model, batch = zoo.made(zoo.perceptron, "mixed_float16"), zoo.batch_for(zoo.perceptron)
    program = trace(model, batch)
    lanes = [Lane.at(name, parse_place("CPU:0"), program, 0) for name in ("reference", "candidate")]
    telescope = Telescope(program, *lanes)
    run = telescope.steps.run(0, [tf.constant(value) for value in flat_batch(batch)], with_boundaries=False)
    truth, settings = gradient_truths(telescope, run), adam_settings_of(model)
    assert study_updates(settings, program, run, truth)
    hidden = program.gradients["hidden/kernel"]
    values = {port: value for port, value in run.candidate.values.items() if port != hidden}
    unwatched = replace(run, candidate=replace(run.candidate, values=values))
    assert study_updates(settings, program, unwatched, truth) == []


def test_under_loss_scaling_the_gradients_are_those_without_the_scale():
    """float16: what is held against the truth is the gradient that Adam is given."""
    found = studied(zoo.cnn, "CPU:0/eager", num_steps=12, policy="mixed_float16")  # the first overflow
    assert len(found) == 6
    for each in found.values():
        assert each.momentum <= 1 and each.velocity <= 1 and each.update <= 1, each
        assert 0 < each.gradient_error < 1  # of losses near 0.7; times the scale it would be thousands
