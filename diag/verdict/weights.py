"""Two saved models of one architecture: which weights differ and how, and what that does to layers and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diag.verdict.findings import AMPLIFIES, Cause

Wide = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WeightDifference:
    """A variable in which the candidate's model holds other numbers.

    layer: that reads it.  difference: ||b - a|| / ||a||.  cause: how b follows from a; `unknown` where no hypothesis
    gives its numbers.
    """

    variable: str
    layer: str | None
    cause: Cause
    difference: float
    num_differing: int
    size: int


@dataclass(frozen=True)
class LayerDifference:
    """What the weights do to a layer's first output in the first step; relative and in norm.

    own: by its own weights alone, on the reference's inputs; excess: that error over what rounding explains.
    apart: with what comes from the layers before.  inherited: the largest `apart` of those.
    """

    layer: str
    own: float
    excess: float
    apart: float
    inherited: float

    @property
    def amplifies(self) -> bool:
        """Whether its output differs far more than its own weights and its inputs do."""
        explained = max(self.own, self.inherited)
        return explained > 0 and self.apart > AMPLIFIES * explained


@dataclass(frozen=True)
class PredictionDifference:
    """Of all predictions of all steps.

    largest: of |b - a|.  num_classified: rows of scores of several classes; num_other_class: those whose largest score
    is another one's.
    """

    squares: float = 0.0
    reference_squares: float = 0.0
    largest: float = 0.0
    num_classified: int = 0
    num_other_class: int = 0

    @property
    def relative(self) -> float:
        """||b - a|| / ||a||."""
        if not self.reference_squares:
            return float("inf") if self.squares else 0.0
        return float(np.sqrt(self.squares / self.reference_squares))

    def with_step(self, pairs: Sequence[tuple[Wide, Wide]]) -> PredictionDifference:
        """With the outputs of one more step, the reference's and the candidate's of each."""
        apart = [_distances(a, b) for a, b in pairs]
        classes = [a.argmax(-1) != b.argmax(-1) for a, b in pairs if a.ndim >= 2 and a.shape[-1] > 1]
        return PredictionDifference(
            self.squares + sum(float(np.square(each).sum()) for each in apart),
            self.reference_squares + sum(float(np.square(a[np.isfinite(a)]).sum()) for a, _ in pairs),
            max(self.largest, *(float(each.max(initial=0.0)) for each in apart)),
            self.num_classified + sum(each.size for each in classes),
            self.num_other_class + sum(int(each.sum()) for each in classes),
        )


def _distances(a: Wide, b: Wide) -> Wide:
    """|b - a|; infinite where one side alone is not finite."""
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(b - a))
    return np.where(np.isnan(apart), np.inf, apart)


@dataclass(frozen=True)
class WeightComparison:
    """The candidate's model against the reference's.

    model: as it was named.  num_compared: variables that prediction reads.  unjudged: weights that differ and that only
    layers read which cannot be run by themselves.
    """

    model: str
    num_compared: int
    differing: tuple[WeightDifference, ...] = ()
    layers: tuple[LayerDifference, ...] = ()
    predictions: PredictionDifference = PredictionDifference()
    unjudged: tuple[str, ...] = ()

    @property
    def wrong_layers(self) -> list[LayerDifference]:
        """Those that their own weights bring out of what rounding explains, in order of execution."""
        return [layer for layer in self.layers if not layer.excess <= 1]
