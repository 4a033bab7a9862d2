"""Two models of one architecture in the two lanes: how their weights differ, and what comes of it.

The reference's lane has the first model's weights, the candidate's the second's.  Units and ops are judged as ever, on
the reference's values in both lanes.  Besides, each layer whose weights differ is run with the second model's on the
first one's inputs, and what it gives held against truth with the first one's; at the reference's place, where no fault
of the candidate's has a part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diag.causes.weights import explain_weight, relative_difference
from diag.engine.graphs.graph import Port
from diag.engine.graphs.tf_runtime import FLOATS, to_numpy
from diag.engine.lanes.lane import Lane
from diag.engine.lanes.step_results import StepRun
from diag.engine.lockstep.telescope import Telescope
from diag.engine.lockstep.unit_runs import UnitRunner
from diag.engine.runs.findings import Findings
from diag.engine.step.program import Program
from diag.engine.step.units import Unit
from diag.engine.training.second_model import SecondModel
from diag.engine.truth.unit_judge import UnitJudge
from diag.numerics.bits import same_bits
from diag.numerics.formats import FLOAT32
from diag.verdict.findings import NOBODY, Divergence, Observation, Verdict, Where
from diag.verdict.weights import LayerDifference, WeightComparison, WeightDifference, Wide


class TwoModels:
    """Gives the candidate's lane the second model's weights, and adds to the findings what they do."""

    def __init__(self, second: SecondModel, program: Program, candidate: Lane, findings: Findings) -> None:
        self.findings = findings
        first = [to_numpy(value) for value in candidate.state()]
        self.state = [second.values.get(index, value) for index, value in enumerate(first)]
        self.differing = _differences(program, first, second.values)
        findings.weights = WeightComparison(second.name, len(second.values), tuple(self.differing.values()))
        findings.any_bit_differs |= bool(self.differing)
        candidate.load(self.state)

    def see(self, telescope: Telescope, run: StepRun) -> None:
        """What a step shows: the first one each layer, every one the predictions."""
        known = self.findings.weights
        assert known is not None
        if self.differing and not known.layers:
            known = self._with_layers(known, telescope, run)
        pairs = [
            (_wide(run.compared.values[port]), _wide(run.candidate.values[port]))
            for port in telescope.program.predictions
        ]
        self.findings.weights = replace(known, predictions=known.predictions.with_step(pairs))

    def _with_layers(self, known: WeightComparison, telescope: Telescope, run: StepRun) -> WeightComparison:
        readers: dict[int, str] = {}
        for unit in telescope.cut.units:
            for index in unit.executable.captures.values():
                readers.setdefault(index, unit.layer)
        unjudged = [weight for index, weight in self.differing.items() if index not in readers]
        self.differing = {i: replace(w, layer=readers.get(i, w.layer)) for i, w in self.differing.items()}
        own = self._own(telescope, run)
        for weight in unjudged:  # held against one rounding of each element
            where = Where(run.step, "forward", "layer", weight.layer, weight.variable)
            self.findings.add(Divergence.of(where, weight.cause, NOBODY, weight.difference / FLOAT32.unit_roundoff))
        layers = tuple(self._layers(telescope, run, own))
        names = tuple(weight.variable for weight in unjudged)
        return replace(known, differing=tuple(self.differing.values()), layers=layers, unjudged=names)

    def _own(self, telescope: Telescope, run: StepRun) -> dict[str, Observation]:
        """Of each layer whose weights differ the worst output, by those alone; out of its bound it is a divergence."""
        units = [unit for unit in telescope.cut.units if self._weights_of(unit)]
        judge, worst = UnitJudge(telescope.program), {}
        for unit_run in UnitRunner(telescope.reference).run(units, run, self.state):
            observation = max(judge.judge(unit_run, True, {}), key=lambda o: o.excess)
            worst[unit_run.unit.layer] = observation
            if observation.verdict is Verdict.DIVERGENCE:
                largest = max(self._weights_of(unit_run.unit), key=lambda weight: weight.difference)
                where = replace(observation.where, variable=largest.variable)
                self.findings.add(Divergence.of(where, largest.cause, NOBODY, observation.excess))
        return worst

    def _weights_of(self, unit: Unit) -> list[WeightDifference]:
        """Those that differ, of the ones a unit reads."""
        read = dict.fromkeys(unit.executable.captures.values())
        return [self.differing[index] for index in read if index in self.differing]

    def _layers(self, telescope: Telescope, run: StepRun, own: Mapping[str, Observation]) -> list[LayerDifference]:
        """Every layer in order of execution, both models at the reference's place."""
        program = telescope.program
        ports = {
            layer: made[0] for layer, made in program.layer_outputs.items() if program.graph.dtype(made[0]) in FLOATS
        }
        values = [
            _values(telescope.reference, program, run, list(ports.values()), state)
            for state in (run.reference.before, self.state)
        ]
        order, inherited, found = telescope.judge.order, 0.0, []
        for layer in sorted(ports, key=lambda layer: order[ports[layer].node]):
            apart = relative_difference(*(each[ports[layer]] for each in values))
            by_weights = own.get(layer)
            alone = 0.0 if by_weights is None or by_weights.local is None else by_weights.local.normwise_relative_error
            excess = 0.0 if by_weights is None else by_weights.excess
            found.append(LayerDifference(layer, alone, excess, apart, inherited))
            inherited = max(inherited, apart)
        return found


def _values(
    lane: Lane, program: Program, run: StepRun, ports: Sequence[Port], weights: Sequence[Any]
) -> dict[Port, Any]:
    """Of the step with these weights, given what the reference drew."""
    random = program.random_ports
    lane.load_scratch(weights)
    function = lane.build(program.step(ports, random), on_scratch=True)
    outputs = function(*lane.place_feeds([*run.batch, *(run.reference.values[port] for port in random)]))
    return dict(zip(ports, map(to_numpy, outputs), strict=True))


def _wide(value: Any) -> Wide:
    return to_numpy(value).astype(np.float64)


def _differences(
    program: Program, first: Sequence[np.ndarray], second: Mapping[int, np.ndarray]
) -> dict[int, WeightDifference]:
    """The variables with other bits, by index, and how each came to be."""
    others = {program.variables[index].name: first[index] for index in second}
    found = {}
    for index, b in second.items():
        a, spec = first[index], program.variables[index]
        if not same_bits(a, b):
            cause, apart = explain_weight(a, b, others), relative_difference(a, b)
            num_differing = int(np.count_nonzero((a != b) & ~((a != a) & (b != b))))
            found[index] = WeightDifference(spec.name, spec.layer, cause, apart, num_differing, a.size)
    return found
