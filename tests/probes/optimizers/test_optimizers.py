"""Optimizers: the rules against Keras in float64 and closed forms; the CPU passes; each planted fault is seen."""

from __future__ import annotations

import contextlib
import io
import math
import os

import mpmath
import numpy as np
import pytest

from diag.machine.places import parse_place
from diag.numerics.formats import FLOAT64
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import FAIL, NOTE, PASS
from probes.optimizers import loss_scaling
from probes.optimizers.enclosure import PRECISION, point
from probes.optimizers.judging_steps import judged
from probes.optimizers.known_gradient import KnownGradientSteps
from probes.optimizers.setups import SETUPS, Setup, first_weights, gradients
from probes.optimizers.update_rules import WEIGHT, EnclosingArithmetic, after_step

OWN_FAULT = """
import numpy as np
def fault(call):
    if call.op_type == "AssignSubVariableOp" and call.variable is not None:
        return [call.outputs[0] * np.float32(1 + 2.0**-18)]
"""


def at(place: str) -> DeviceUnderTest:
    return DeviceUnderTest(parse_place(place, "eager"))


def setup_of(name: str, case: str = "default") -> Setup:
    return next(each for each in SETUPS if (each.name, each.case) == (name, case))


def status(place: str, setup: Setup, dtype: str = "float32") -> str:
    return next(iter(judged(at(place), setup, dtype))).status


@pytest.mark.parametrize("setup", SETUPS, ids=lambda each: f"{each.name}-{each.case}")
def test_the_rules_are_those_of_keras(setup):
    """Two steps of Keras's own optimizer in float64; the learning rate is float32, and so in both."""
    x = np.random.default_rng(0).normal(size=12)
    steps = KnownGradientSteps(at("CPU:0"), setup.optimizer(), np.linspace(-1, 1, 12), "float64")
    steps.begin_at(setup.iteration)
    config = setup.optimizer().get_config()
    for number in range(2):
        before = steps.state()
        steps.step(x / (1 + number))
        after = steps.state()
        state = {kind: point(v, FLOAT64) for kind, v in before.items() if kind not in ("iteration", "learning_rate")}
        with mpmath.workprec(PRECISION):
            gradient = point(x / (1 + number), FLOAT64)
            expected = after_step(
                setup.name, EnclosingArithmetic(config, FLOAT64), state, gradient, setup.iteration + number
            )
        assert {*expected} == {*state}
        for kind, enclosure in expected.items():
            found, exact = np.atleast_1d(after[kind]), np.array([float(each) for each in enclosure.exact])
            assert ((enclosure.low <= found) & (found <= enclosure.high)).all(), kind
            # the settings are float32 numbers in places: 1 - beta_2 is 6e-8 / 0.001 off then
            np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-12, err_msg=kind)


def test_the_first_step_of_adam_in_closed_form():
    g = np.array([0.25, -3.0, 1e-9])
    zero = {kind: point(np.zeros(3), FLOAT64) for kind in (WEIGHT, "momentum", "velocity")}
    config = setup_of("Adam").optimizer().get_config()
    with mpmath.workprec(PRECISION):
        made = after_step("Adam", EnclosingArithmetic(config, FLOAT64, rounded=False), zero, point(g, FLOAT64), 0)
    found = [float(each) for each in made[WEIGHT].exact]
    root = math.sqrt(1 - 0.999)
    expected = [-0.001 * root * each / (root * abs(each) + 1e-7) for each in g]
    assert found == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["Adam", "RMSprop", "Ftrl"])
def test_the_cpu_is_within_rounding(name, dtype):
    assert status("CPU:0/graph", setup_of(name), dtype) == PASS


@pytest.mark.parametrize(
    "place, name, case",
    [
        ("sim:skipped-update", "Adam", "default"),
        ("sim:skipped-update", "SGD", "momentum"),
        ("sim:fp16-adam-epsilon", "Adam", "default"),
        ("sim:fused-adam-no-bias-correction/graph", "Adam", "default"),
        ("sim:rsqrt-12bit", "RMSprop", "default"),
        ("sim:rsqrt-12bit", "Adam", "from step 1,000,000"),
    ],
)
def test_simulated_faults_fail(place, name, case):
    assert status(place, setup_of(name, case)) == FAIL


def test_flushed_float16_subnormals_fail():
    assert status("sim:flush-subnormals", setup_of("Adam"), "float16") == FAIL


def test_a_relative_error_of_2_to_the_minus_18_fails(tmp_path):
    (tmp_path / "own.py").write_text(OWN_FAULT)
    assert status(f"sim:{tmp_path / 'own.py'}:fault", setup_of("SGD")) == FAIL
    assert status("CPU:0", setup_of("SGD")) == PASS


def test_a_failure_comes_with_a_program_that_is_right_on_a_cpu(monkeypatch):
    monkeypatch.setattr(os, "popen", lambda command: io.StringIO("a chip"))
    (measurement,) = judged(at("sim:rsqrt-12bit"), setup_of("RMSprop"), "float32")
    assert len(measurement.reproducer.splitlines()) <= 20
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(measurement.reproducer, "program", "exec"), {})
    assert "CPU:0 is right" in printed.getvalue()


def test_bfloat16_has_no_beta_2_and_so_adam_does_not_move():
    _, note = judged(at("CPU:0"), setup_of("Adam"), "bfloat16")
    assert note.status == NOTE
    assert note.figures["beta_2"] == 1.0
    assert note.figures["num_lost"] == note.figures["num_updates"] > 0


def test_float16_enlarges_some_updates_a_thousandfold():
    """g = 2^-8: g^2 / 1000 is below half of the smallest subnormal, and epsilon alone is left of the denominator."""
    _, note = judged(at("CPU:0"), setup_of("Adam"), "float16")
    assert note.figures["epsilon"] == 2.0**-23
    assert 900 < note.figures["largest_ratio"] < 1100


def test_loss_scaling_is_exact_and_what_it_ignores_is_seen():
    assert [each.status for each in loss_scaling._measurements(at("CPU:0"))] == [PASS]
    (ignored,) = loss_scaling._measurements(at("sim:ignored-found-inf"))
    assert ignored.status == FAIL and "infinite" in ignored.says


def test_gradients_are_numbers_of_the_dtype_and_half_of_the_weights_are_zero():
    vectors = gradients(setup_of("Adam"), "float16")
    assert all(np.isfinite(each.astype(np.float64)).all() for each in vectors)
    weights = first_weights(vectors[0].size, "float16")
    assert (weights == 0).mean() == 0.5
