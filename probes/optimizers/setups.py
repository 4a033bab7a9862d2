"""The optimizers that are probed, each with the settings it is made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import ml_dtypes
import numpy as np

FAMILY = "optimizers"
NARROW = ("float16", "bfloat16")
DTYPES = ("float32", *NARROW)
FACTORS = (1.0, 0.75, -0.125)  # one step each: the same gradients, smaller, against their momentum
LARGE = 1_000_000


@dataclass(frozen=True)
class Setup:
    """An optimizer with settings, and the iteration it starts from; `case` names it in a card."""

    name: str
    case: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    iteration: int = 0

    def optimizer(self) -> Any:
        return getattr(keras.optimizers, self.name)(**self.settings)


SETUPS = (
    Setup("Adam", "default"),
    Setup("Adam", "from step 1,000,000", iteration=LARGE),
    Setup("Adam", "amsgrad", {"amsgrad": True}),
    Setup("AdamW", "default"),
    Setup("Nadam", "default"),
    Setup("Adamax", "default"),
    Setup("SGD", "default"),
    Setup("SGD", "momentum", {"momentum": 0.9}),
    Setup("SGD", "nesterov", {"momentum": 0.9, "nesterov": True}),
    Setup("SGD", "weight decay", {"weight_decay": 0.01}),
    Setup("SGD", "clipvalue", {"clipvalue": 0.3}),
    Setup("SGD", "clipnorm", {"clipnorm": 1.5}),
    Setup("SGD", "global_clipnorm", {"global_clipnorm": 1.5}),
    Setup("SGD", "moving average", {"use_ema": True}),
    Setup("RMSprop", "default"),
    Setup("RMSprop", "centered, momentum", {"centered": True, "momentum": 0.9}),
    Setup("Adagrad", "default"),
    Setup("Adadelta", "default"),
    Setup("Lion", "default"),
    Setup("Ftrl", "default"),
)


QUICK = {("Adam", "default"), ("SGD", "momentum"), ("RMSprop", "default")}


def numpy_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def gradients(setup: Setup, dtype: str) -> list[np.ndarray]:
    """One vector a step: each magnitude with both signs, for a weight of 0 and one near 1.

    Where norms are taken they must not overflow: magnitudes stay near 1 there.
    """
    random = np.random.default_rng(7)
    plain = [0.0, 1.0, 0.5, 0.25, 3.0, 2.0**-7, *random.normal(size=6)]
    if "clipnorm" in setup.case:
        magnitudes = plain
    elif dtype == "float16":  # squares: 2^-8 underflows times 0.001, 2^-13 by itself, 300 overflows
        magnitudes = [*plain, 2.0**-8, 2.0**-10, 2.0**-13, 2.0**-24, 1e-4, 30.0, 300.0, 3e4]
    else:  # squares: 1e-20 is subnormal and may be flushed, 1e25 overflows
        magnitudes = [*plain, 1e-4, 1e-8, 1e-15, 1e-20, 1e-30, 1e4, 1e15, 1e25]
    signed = np.array([*magnitudes, *(-x for x in magnitudes)])
    first = np.concatenate([signed, signed])
    return [(factor * first).astype(numpy_dtype(dtype)) for factor in FACTORS]


def first_weights(num: int, dtype: str) -> np.ndarray:
    """The first half 0, the second normal deviates."""
    values = np.random.default_rng(8).normal(size=num)
    values[: num // 2] = 0
    return values.astype(numpy_dtype(dtype))
