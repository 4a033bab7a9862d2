"""Adam's update of each variable in one step, both lanes from one state, against float64 truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from diag.engine.graphs.graph import Port
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.step_results import StepRun
from diag.engine.step.keras_steps import has_own_step
from diag.engine.step.program import Program
from diag.engine.truth.unit_judge import OutputTruth
from diag.numerics.adam import Adam, AdamFigures, AdamLane, judge_adam
from diag.numerics.bounds import COMPOSITE

# What Adam can be asked to do besides; its update is another formula then.
EXTRAS = (
    "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "loss_scale_factor",
    "gradient_accumulation_steps", "amsgrad",
)  # fmt: skip


@dataclass(frozen=True)
class AdamSettings:
    """What a plain Adam was made with; its rate is a variable of the training state."""

    beta_1: float
    beta_2: float
    epsilon: float
    is_loss_scaled: bool = False


def adam_settings_of(model: keras.Model | None) -> AdamSettings | None:
    """None where the model is not trained with plain Adam, under loss scaling or without, or by a step of its own."""
    optimizer: Any = None if model is None or has_own_step(model) else model.optimizer
    if type(optimizer) is keras.optimizers.LossScaleOptimizer:
        inner = _plain_adam(optimizer.inner_optimizer)
        return None if inner is None else replace(inner, is_loss_scaled=True)
    return _plain_adam(optimizer)


def _plain_adam(optimizer: Any) -> AdamSettings | None:
    if type(optimizer) is not keras.optimizers.Adam or any(getattr(optimizer, name, None) for name in EXTRAS):
        return None
    return AdamSettings(optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)


def study_updates(
    settings: AdamSettings, program: Program, run: StepRun, truths: Mapping[Port, OutputTruth]
) -> list[AdamFigures]:
    """The figures of every variable with a dense, finite gradient of which there is truth.

    `run` started both lanes from one state.
    """
    rate_and_iteration = _rate_and_iteration(program, run.reference.before)
    scale = _loss_scale(program, run.reference.before) if settings.is_loss_scaled else 1.0
    if rate_and_iteration is None or scale is None:
        return []
    if settings.is_loss_scaled and not _is_applied(program, run):
        return []
    before = run.reference.before
    slots = {(variable.of, variable.kind): index for index, variable in enumerate(program.variables)}
    weights = {variable.name: index for index, variable in enumerate(program.variables)}
    result = []
    for name, port in program.gradients.items():
        if port not in truths:  # not watched
            continue
        truth = truths[port]
        gradient, own_gradient = truth.reference / scale, truth.candidate / scale
        weight, momentum, velocity = weights[name], slots.get((name, "momentum")), slots.get((name, "velocity"))
        is_dense = gradient.shape == program.variables[weight].shape
        if momentum is None or velocity is None or not is_dense or not np.isfinite([gradient, own_gradient]).all():
            continue
        adam = Adam(
            _wide(before[momentum]), _wide(before[velocity]), settings.beta_1, settings.beta_2,
            settings.epsilon, *rate_and_iteration,
        )  # fmt: skip
        reference, candidate = (
            AdamLane(to_numpy(after[momentum]), to_numpy(after[velocity]), to_numpy(after[weight]), given)
            for after, given in ((run.reference.after, gradient), (run.candidate.after, own_gradient))
        )
        allowed = COMPOSITE * truth.explained_error / scale
        result.append(judge_adam(name, adam, allowed, to_numpy(before[weight]), reference, candidate))
    return result


def _loss_scale(program: Program, state: Sequence[Any]) -> float | None:
    """What the loss was multiplied by; None where the step holds no such variable."""
    scales = [
        state[i] for i, spec in enumerate(program.variables)
        if spec.kind == "optimizer" and spec.name.split("/")[-1].startswith("dynamic_scale")
    ]  # fmt: skip
    return float(scales[-1]) if scales else None


def _is_applied(program: Program, run: StepRun) -> bool:
    """Whether loss scaling is known to have applied the gradients, in both lanes.

    One that is not finite leaves all weights alone, and one that is not watched may not be finite.
    """
    lanes = (run.reference.values, run.candidate.values)
    return all(
        port in lane and np.isfinite(to_numpy(lane[port])).all()
        for lane in lanes
        for port in program.gradients.values()
    )


def _rate_and_iteration(program: Program, state: Sequence[Any]) -> tuple[float, int] | None:
    """The learning rate and the number of this step, from 1; None where the rate is no variable."""
    known = {spec.name.split("/")[-1]: state[i] for i, spec in enumerate(program.variables) if spec.kind == "optimizer"}
    if not {"learning_rate", "iteration"} <= set(known):
        return None
    return float(known["learning_rate"]), int(known["iteration"]) + 1


def _wide(tensor: Any) -> np.ndarray:
    return to_numpy(tensor).astype(np.float64)
