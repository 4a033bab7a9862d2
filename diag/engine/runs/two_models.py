"""Two models of one architecture in the two lanes: how their weights differ, and what comes of it.

The reference's lane has the first model's weights, the candidate's the second's.  Units and ops are judged as ever, on
the reference's values in both lanes.  Besides, each layer whose weights differ is run with the second model's on the
first one's inputs, and what it gives held against truth with the first one's; at the reference's place, where no fault
of the candidate's has a part in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from diag.causes.weights import explain_weight
from diag.engine.graphs.tf_runtime import FLOATS, to_numpy
from diag.engine.lanes.step_results import StepRun
from diag.engine.lockstep.telescope import Telescope
from diag.engine.lockstep.unit_runs import UnitRunner
from diag.engine.runs.findings import Findings
from diag.engine.step.units import Unit
from diag.engine.training.second_model import SecondModel
from diag.engine.truth.unit_judge import UnitJudge
from diag.numerics.bits import same_bits
from diag.numerics.formats import FLOAT32
from diag.numerics.statistics import compare, relative_difference
from diag.verdict.findings import NOBODY, Divergence, Verdict, Where
from diag.verdict.weights import LayerDifference, WeightComparison, WeightDifference, Wide


class TwoModels:
    """Gives the candidate's lane the second model's weights, and adds to the findings what they do."""

    def __init__(self, second: SecondModel, telescope: Telescope, findings: Findings) -> None:
        self.findings = findings
        variables, first = telescope.program.variables, [to_numpy(x) for x in telescope.candidate.state()]
        self.state = [second.values.get(index, value) for index, value in enumerate(first)]
        readers = {index: unit.layer for unit in reversed(telescope.cut.units) for index in _read_by(unit)}
        others = {variables[index].name: first[index] for index in second.values}
        self.differing = {
            index: _difference(variables[index].name, readers.get(index, variables[index].layer), a, b, others)
            for index, b in second.values.items()
            if not same_bits(a := first[index], b)
        }
        self.unjudged = [weight for index, weight in self.differing.items() if index not in readers]
        findings.weights = WeightComparison(
            second.name,
            len(second.values),
            tuple(self.differing.values()),
            unjudged=tuple(weight.variable for weight in self.unjudged),
        )
        findings.any_bit_differs |= bool(self.differing)
        telescope.candidate.load(self.state)

    def see(self, telescope: Telescope, run: StepRun) -> None:
        """What a step shows: the first one each layer, every one the predictions."""
        known = self.findings.weights
        assert known is not None
        if self.differing and not known.layers:
            known = replace(known, layers=tuple(self._layers(telescope, run)))
        pairs = [
            (_wide(run.compared.values[port]), _wide(run.candidate.values[port]))
            for port in telescope.program.predictions
        ]
        self.findings.weights = replace(known, predictions=known.predictions.with_step(pairs))

    def _layers(self, telescope: Telescope, run: StepRun) -> Iterator[LayerDifference]:
        """Every layer in order of execution, both models at the reference's place."""
        program, order, own = telescope.program, telescope.judge.order, self._own(telescope, run)
        ports = {
            layer: made[0] for layer, made in program.layer_outputs.items() if program.graph.dtype(made[0]) in FLOATS
        }
        first, second = (
            telescope.steps.shown(telescope.reference, run, list(ports.values()), state)
            for state in (run.reference.before, self.state)
        )
        inherited = 0.0
        for layer, port in sorted(ports.items(), key=lambda item: order[item[1].node]):
            apart = relative_difference(to_numpy(first[port]), to_numpy(second[port]))
            yield LayerDifference(layer, *own.get(layer, (0.0, 0.0)), apart, inherited)
            inherited = max(inherited, apart)

    def _own(self, telescope: Telescope, run: StepRun) -> dict[str, tuple[float, float]]:
        """Of each layer whose weights differ how far these alone bring its worst output, in norm and over its bound.

        Out of its bound it is a divergence.  Weights of no such layer are held against one rounding of each element.
        """
        units = [unit for unit in telescope.cut.units if not self.differing.keys().isdisjoint(_read_by(unit))]
        judge, found = UnitJudge(telescope.program), {}
        for unit_run in UnitRunner(telescope.reference).run(units, run, self.state):
            worst = max(judge.judge(unit_run, True, {}), key=lambda o: o.excess)
            error = 0.0 if worst.local is None else worst.local.normwise_relative_error
            found[unit_run.unit.layer] = error, worst.excess
            if worst.verdict is Verdict.DIVERGENCE:
                weights = (self.differing[i] for i in _read_by(unit_run.unit) if i in self.differing)
                self._add(worst.where, max(weights, key=lambda weight: weight.difference), worst.excess)
        for weight in self.unjudged:
            where = Where(run.step, "forward", "layer", weight.layer, None)
            self._add(where, weight, weight.difference / FLOAT32.unit_roundoff)
        return found

    def _add(self, where: Where, weight: WeightDifference, excess: float) -> None:
        self.findings.add(Divergence.of(replace(where, variable=weight.variable), weight.cause, NOBODY, excess))


def _read_by(unit: Unit) -> dict[int, None]:
    """The variables that a unit reads, by index, in the order of reading."""
    return dict.fromkeys(unit.executable.captures.values())


def _wide(value: Any) -> Wide:
    return to_numpy(value).astype(np.float64)


def _difference(
    variable: str, layer: str | None, a: np.ndarray, b: np.ndarray, others: Mapping[str, np.ndarray]
) -> WeightDifference:
    """Of a weight `a` and the second model's `b`; others: all of the first model's, by name."""
    apart, num_differing = relative_difference(a, b), compare(a, b).num_unequal
    return WeightDifference(variable, layer, explain_weight(a, b, others), apart, num_differing, a.size)
