"""Where in a step something is computed: phase, layer, variable.

While a step is traced, name scopes with a marker of our own say which layer is being called and
which variable is being updated.  TensorFlow carries the scope of a forward op into the names of
its gradient ops (`gradient_tape/...`), so the backward pass is attributed by the same markers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FORWARD, BACKWARD, OPTIMIZER = "forward", "backward", "optimizer"
PHASES = (FORWARD, BACKWARD, OPTIMIZER)
LOSS_LAYER = "loss"
OPTIMIZER_LAYER = "optimizer"
PREDICT_LAYER = "predict_step"  # what a prediction step computes outside of layers

_MARK = re.compile(r"lockstep\.(layer|update|loss|optimizer|step)(\d*)")
_HIDDEN_MARK = re.compile(r"lockstep\.(?:layer|update|step)\d+(?:/|$)")


@dataclass(frozen=True)
class Location:
    """A place in the step.  `layer` and `variable` are names, None where there is none."""

    phase: str
    layer: str | None
    variable: str | None = None
    index: int | None = None  # of an op in the step, from 0

    @property
    def unit(self) -> tuple[str, str | None]:
        """The layer unit this belongs to: (layer, variable updated)."""
        return (self.layer or "", self.variable)


NOWHERE = Location(FORWARD, None)


def layer_scope(index: int) -> str:
    return f"lockstep.layer{index}"


def update_scope(index: int) -> str:
    return f"lockstep.update{index}"


def optimizer_scope(index: int) -> str:
    return f"lockstep.optimizer{index or ''}"


LOSS_SCOPE = "lockstep.loss"
STEP_SCOPE = "lockstep.step0"


def without_marks(name: str) -> str:
    """A name as it would be had no layer and no update been marked."""
    if "lockstep." not in name:
        return name
    plain = _HIDDEN_MARK.sub("", name)
    return plain if name.endswith("/") else plain.rstrip("/")


@dataclass(frozen=True)
class Mark:
    """The innermost marker in a node's name: `kind` layer, update, loss, optimizer, or step for what is in none."""

    kind: str
    index: int
    backward: bool


def mark_of(name: str) -> Mark | None:
    """The innermost marker of a node's name, None where the name carries none."""
    found = _MARK.findall(name)
    if not found:
        return None
    kind, index = found[-1]
    outer = [number for name, number in found if name == "optimizer"]
    if outer and kind not in ("update", "optimizer"):
        kind, index = "optimizer", outer[0]
    return Mark(kind, int(index or 0), "gradient_tape" in name)
