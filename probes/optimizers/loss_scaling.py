"""Loss scaling: gradients that are not finite are refused, and the scale moves as it should.  All of it is exact.

The rules are those of keras/src/optimizers/loss_scale_optimizer.py: a step with any gradient that is infinite or NaN
changes no weight and halves the scale; after `dynamic_growth_steps` steps with finite ones it doubles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from probes.frame.device_report import FAIL, PASS, Measurement
from probes.frame.plan import Choice, Probe
from probes.optimizers.known_gradient import KnownGradientSteps

OP, DTYPE, POLICY = "LossScaleOptimizer", "float16", "mixed_float16"
FAMILY = "optimizers"
SCALE, GROWTH_STEPS, RATE = 4096.0, 2, 0.5
UNIT = np.array([1.0, -0.5, 0.25, 0.0, 2.0**-8, -3.0, 2.0, 0.125], np.float16)
"""With SCALE and RATE every product and every difference from the weights below is exact."""
WEIGHTS = np.array([1.0, 2.0, -4.0, 8.0, 0.0, 1.0, 0.5, -1.0], np.float32)


def probes(choice: Choice) -> Iterator[Probe]:
    yield Probe(FAMILY, OP, DTYPE, POLICY, _measurements)


def _measurements(device: Any) -> Iterator[Measurement]:
    """Finite, infinite, NaN, finite, finite: the scale goes s, s/2, s/4, s/4, s/2."""
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(RATE), initial_scale=SCALE, dynamic_growth_steps=GROWTH_STEPS
    )
    steps = KnownGradientSteps(device, optimizer, WEIGHTS, POLICY)
    finite, failures = _Expected(), []
    for number, (what, gradient) in enumerate(_gradients()):
        before = steps.state()["weight"]
        steps.step(gradient)
        after = steps.state()
        finite.step(gradient)
        wrong = finite.differences(after, before)
        if wrong:
            failures.append(f"step {number}, {what}: {'; '.join(wrong)}")
    figures = {"num_steps": len(_gradients()), "num_wrong": len(failures)}
    if failures:
        yield Measurement(FAMILY, OP, DTYPE, POLICY, FAIL, failures[0], figures)
    else:
        says = "steps with infinite or NaN gradients are skipped, the scale halves and doubles as it should: all exact"
        yield Measurement(FAMILY, OP, DTYPE, POLICY, PASS, says, figures)


def _gradients() -> list[tuple[str, np.ndarray]]:
    infinite, nan = UNIT.copy(), UNIT.copy()
    infinite[3] = 30000.0  # times the scale: beyond float16
    nan[5] = np.nan
    return [("finite gradients", UNIT), ("a gradient that is infinite", infinite), ("a gradient that is NaN", nan),
            ("finite gradients", UNIT), ("finite gradients", UNIT)]  # fmt: skip


class _Expected:
    """What the rules say, in float64; every number is exact in float32 as well."""

    def __init__(self) -> None:
        self.weight = WEIGHTS.astype(np.float64)
        self.scale, self.counter, self.iteration = SCALE, 0, 0

    def step(self, gradient: np.ndarray) -> None:
        scaled = gradient.astype(np.float64) * self.scale
        if np.all(np.abs(scaled) <= float(np.finfo(np.float16).max)):  # NaN is not
            self.weight = self.weight - RATE * gradient.astype(np.float64)
            self.iteration += 1
            self.counter += 1
            if self.counter == GROWTH_STEPS:
                self.scale, self.counter = 2 * self.scale, 0
        else:
            self.scale, self.counter = self.scale / 2, 0

    def differences(self, state: dict[str, np.ndarray], before: np.ndarray) -> list[str]:
        result = []
        if not np.array_equal(state["weight"].astype(np.float64), self.weight):
            at = int(np.argmax(state["weight"] != self.weight))
            result.append(f"weight {at} is {state['weight'][at]:g} and should be {self.weight[at]:g}")
        for name, expected in (("dynamic_scale", self.scale), ("step_counter", self.counter),
                               ("iteration", self.iteration)):  # fmt: skip
            if float(state[name]) != expected:
                result.append(f"{name} is {float(state[name]):g} and should be {expected:g}")
        return result
