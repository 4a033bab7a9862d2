"""What one step of each Keras optimizer computes, operation by operation, in any arithmetic.

The order of the operations is that of `update_step` in keras/src/optimizers/*.py (Keras 3.15), since how often a
result is rounded depends on it; what comes before and after (clipping, weight decay, moving averages) is that of
base_optimizer.py.  Papers: Adam, Kingma and Ba 2015; Nadam, Dozat 2016; Adagrad, Duchi et al. 2011; Adadelta, Zeiler
2012; AdamW, Loshchilov and Hutter 2019; Lion, Chen et al. 2023; Ftrl, McMahan et al. 2013.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import mpmath
import numpy as np

from diag.numerics.formats import Format
from probes.optimizers.enclosure import Enclosure, constant, unrounded

State: TypeAlias = "dict[str, Enclosure]"
WEIGHT = "weight"


@dataclass(frozen=True)
class EnclosingArithmetic:
    """Makes the numbers that a formula needs besides the state.

    config: the optimizer's settings, `get_config()`.  rounded: settings are those that the format has; else they are
    the decimal numbers that a person wrote.
    """

    config: Mapping[str, Any]
    format: Format
    rounded: bool = True

    def number(self, value: float) -> Enclosure:
        """A Python number that meets a tensor of the format."""
        if self.rounded:
            return constant(value, self.format)
        return unrounded(mpmath.mpf(repr(float(value))), self.format)

    def complement(self, name: str) -> Enclosure:
        """1 - setting, subtracted in Python's float64."""
        if self.rounded:
            return constant(1 - self.config[name], self.format)
        return unrounded(1 - mpmath.mpf(repr(float(self.config[name]))), self.format)

    def setting(self, name: str) -> Enclosure:
        return self.number(self.config[name])

    @property
    def rate(self) -> Enclosure:
        """The learning rate is a float32 variable, cast to the format."""
        rate = np.float32(self.config["learning_rate"])
        return self.number(float(rate) if self.rounded else float(str(rate)))


def adam(a: EnclosingArithmetic, state: State, g: Enclosure, step: int) -> State:
    local = a.number(step + 1)
    of_first, of_second = a.setting("beta_1").power(local), a.setting("beta_2").power(local)
    one = a.number(1)
    alpha = a.rate * (one - of_second).sqrt() / (one - of_first)
    m, v = state["momentum"], state["velocity"]
    m = m + (g - m) * a.complement("beta_1")
    v = v + (g.square() - v) * a.complement("beta_2")
    result = {"momentum": m, "velocity": v}
    if a.config["amsgrad"]:
        v = result["velocity_hat"] = state["velocity_hat"].maximum(v)
    return result | {WEIGHT: state[WEIGHT] - m * alpha / (v.sqrt() + a.setting("epsilon"))}


def nadam(a: EnclosingArithmetic, state: State, g: Enclosure, step: int) -> State:
    one, half, decay = a.number(1), a.number(0.5), a.number(0.96)
    beta_1, beta_2 = a.setting("beta_1"), a.setting("beta_2")

    def scheduled(exponent: int) -> Enclosure:
        return beta_1 * (one - half * decay.power(a.number(exponent)))

    now, following = scheduled(step + 1), scheduled(step + 2)
    product = state["product"] * beta_1 * (one - half * decay.power(a.number(step + 1)))
    m, v = state["momentum"], state["velocity"]
    m = m + (g - m) * (one - beta_1)
    v = v + (g.square() - v) * (one - beta_2)
    m_hat = following * m / (one - product * following) + (one - now) * g / (one - product)
    v_hat = v / (one - beta_2.power(a.number(step + 1)))
    weight = state[WEIGHT] - m_hat * a.rate / (v_hat.sqrt() + a.setting("epsilon"))
    return {"momentum": m, "velocity": v, "product": product, WEIGHT: weight}


def adamax(a: EnclosingArithmetic, state: State, g: Enclosure, step: int) -> State:
    of_first = a.setting("beta_1").power(a.number(step + 1))
    m = state["momentum"] + (g - state["momentum"]) * a.complement("beta_1")
    norm = (a.setting("beta_2") * state["norm"]).maximum(g.abs())
    weight = state[WEIGHT] - a.rate * m / ((a.number(1) - of_first) * (norm + a.setting("epsilon")))
    return {"momentum": m, "norm": norm, WEIGHT: weight}


def sgd(a: EnclosingArithmetic, state: State, g: Enclosure, step: int) -> State:
    if not a.config["momentum"]:
        return {WEIGHT: state[WEIGHT] - g * a.rate}
    momentum = a.setting("momentum")
    m = state["momentum"] * momentum - g * a.rate
    moved = m * momentum - g * a.rate if a.config["nesterov"] else m
    return {"momentum": m, WEIGHT: state[WEIGHT] + moved}


def rmsprop(a: EnclosingArithmetic, state: State, g: Enclosure, step: int) -> State:
    rho, rest = a.setting("rho"), a.complement("rho")
    result = {"velocity": rho * state["velocity"] + rest * g.square()}
    denominator = result["velocity"]
    if a.config["centered"]:
        mean = result["average_gradient"] = rho * state["average_gradient"] + rest * g
        denominator = denominator - mean.square()
    moved = a.rate * g / (denominator + a.setting("epsilon")).sqrt()
    if a.config["momentum"]:
        moved = result["momentum"] = a.setting("momentum") * state["momentum"] + moved
    return result | {WEIGHT: state[WEIGHT] - moved}


def adagrad(a: EnclosingArithmetic, state: State, g: Enclosure, step: int) -> State:
    total = state["accumulator"] + g.square()
    return {"accumulator": total, WEIGHT: state[WEIGHT] - a.rate * g / (total + a.setting("epsilon")).sqrt()}


def adadelta(a: EnclosingArithmetic, state: State, g: Enclosure, step: int) -> State:
    rho, rest, epsilon = a.setting("rho"), a.complement("rho"), a.setting("epsilon")
    gradients = rho * state["accumulated_grad"] + rest * g.square()
    moved = -((state["accumulated_delta_var"] + epsilon).sqrt() * g / (gradients + epsilon).sqrt())
    deltas = rho * state["accumulated_delta_var"] + rest * moved.square()
    weight = state[WEIGHT] + a.rate * moved
    return {"accumulated_grad": gradients, "accumulated_delta_var": deltas, WEIGHT: weight}


def lion(a: EnclosingArithmetic, state: State, g: Enclosure, step: int) -> State:
    one, m = a.number(1), state["momentum"]
    beta_1, beta_2 = a.setting("beta_1"), a.setting("beta_2")
    weight = state[WEIGHT] - a.rate * (m * beta_1 + g * (one - beta_1)).sign()
    return {"momentum": m * beta_2 + g * (one - beta_2), WEIGHT: weight}


def ftrl(a: EnclosingArithmetic, state: State, g: Enclosure, step: int) -> State:
    """With no regularization, beta or shrinkage, Keras's defaults, and its learning rate power of -1/2."""
    power, total = a.number(-a.config["learning_rate_power"]), state["accumulator"] + g.square()
    grown = (total.power(power) - state["accumulator"].power(power)) / a.rate
    linear = state["linear"] + (g - grown * state[WEIGHT])
    return {"accumulator": total, "linear": linear, WEIGHT: (a.number(0) - linear) / (total.power(power) / a.rate)}


RULES: dict[str, Callable[[EnclosingArithmetic, State, Enclosure, int], State]] = {
    "Adam": adam, "AdamW": adam, "Nadam": nadam, "Adamax": adamax, "SGD": sgd, "RMSprop": rmsprop,
    "Adagrad": adagrad, "Adadelta": adadelta, "Lion": lion, "Ftrl": ftrl,
}  # fmt: skip


def after_step(name: str, a: EnclosingArithmetic, state: State, gradient: Enclosure, step: int) -> State:
    """All variables after a step: clipping, weight decay, the rule, the moving average, in that order."""
    gradient = _clipped(a, gradient)
    if a.config.get("weight_decay"):
        decayed = state[WEIGHT] - state[WEIGHT] * a.setting("weight_decay") * a.rate
        state = state | {WEIGHT: decayed}
    result = RULES[name](a, state, gradient, step)
    if a.config.get("use_ema"):
        momentum = a.setting("ema_momentum") if step else a.number(0)
        result["average"] = momentum * state["average"] + (a.number(1) - momentum) * result[WEIGHT]
    return result


def _clipped(a: EnclosingArithmetic, g: Enclosure) -> Enclosure:
    """By value; by the norm of the variable (tf.clip_by_norm); by that of all of them (there is one)."""
    if a.config.get("clipnorm"):
        norm = g.square().sum().sqrt()
        return g * a.setting("clipnorm") / norm.maximum(a.setting("clipnorm"))
    if a.config.get("global_clipnorm"):
        limit, one = a.setting("global_clipnorm"), a.number(1)
        norm = g.square().sum().sqrt()
        return g * (limit * (one / norm).minimum(one / limit))
    if a.config.get("clipvalue"):
        limit = a.setting("clipvalue")
        return g.minimum(limit).maximum(-limit)
    return g
