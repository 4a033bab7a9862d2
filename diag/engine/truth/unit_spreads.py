"""How far rounding, and other right algorithms, move each output of a unit: measured only where it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from diag.engine.lanes.step_results import UnitInputs
from diag.engine.truth.noise import Noise
from diag.engine.truth.op_truth import Arrays
from diag.engine.truth.unit_truth import UnitTruth
from diag.numerics.bounds import RoundingSpread

MOST_HELD = 1 << 28  # bytes of one lane's truth beside the other's


class UnitSpreads:
    """A unit's truth of some inputs, and how far rounding moves each output; measured only where it is asked for."""

    def __init__(self, truth: UnitTruth, inputs: UnitInputs) -> None:
        self._truth, self._inputs = truth, inputs
        self._outputs: Arrays | None = None
        self._measured: dict[Noise, dict[int, RoundingSpread]] = {}
        self._of_inputs: Sequence[RoundingSpread] | None = None

    @property
    def outputs(self) -> Arrays:
        """The truth of the inputs."""
        if self._outputs is None:
            self._outputs = self._truth.outputs(self._inputs)
        return self._outputs

    def let_go(self) -> None:
        """Large outputs are computed again if they are asked for once more."""
        if sum(x.nbytes for x in self.outputs) > MOST_HELD:
            self._outputs = None

    def of_inputs(self, indices: Sequence[int]) -> Mapping[int, RoundingSpread]:
        """What rounding of the unit's inputs alone does: a part of the whole, and cheap."""
        if self._of_inputs is None:
            self._of_inputs = self._truth.spreads_of_inputs(self._inputs, self.outputs)
        return {index: self._of_inputs[index] for index in indices}

    def of(self, indices: Collection[int], noise: Noise = Noise.ROUNDING) -> Mapping[int, RoundingSpread]:
        """What rounding of everything does, or a part of it."""
        if not self._measured.setdefault(noise, {}).keys() >= set(indices):
            self._measured[noise] = self._truth.spreads(self._inputs, self.outputs, indices, noise)
        return self._measured[noise]

    def has(self, noise: Noise) -> bool:
        """Whether any op of the unit has that noise."""
        executable = self._truth.unit.executable
        graphs = (executable.graph, *executable.functions.values())
        return any(noise.moves(node.op) for graph in graphs for node in graph)
