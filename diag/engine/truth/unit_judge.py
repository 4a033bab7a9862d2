"""A layer unit's results against float64 truth; the results may come from a lane, a trace or a trial."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.engine.graphs.graph import Port, order_of_ops
from diag.engine.graphs.tf_runtime import FLOATS, to_numpy
from diag.engine.lanes.step_results import UnitInputs, UnitRun
from diag.engine.step.program import Program
from diag.engine.step.units import STEP, Unit
from diag.engine.truth.agreement import Agreement
from diag.engine.truth.naming import propagated_key, tensor_role, where_of
from diag.engine.truth.truth import Arrays, UnitTruth
from diag.numerics.bits import same_bits
from diag.numerics.bounds import Bound, RoundingSpread, composite_bound_of, exact_bound, is_suspect, where_both_overflow
from diag.numerics.errors_against_truth import absolute_error
from diag.numerics.figures import AbsoluteError, PairStatistics, TruthStatistics
from diag.numerics.formats import format_of
from diag.numerics.statistics import against_truth, compare
from diag.verdict.findings import Observation, Verdict

SUSPECT_REFERENCE = "the reference itself is far from truth"
NO_SPREAD = RoundingSpread(0.0, 0.0)
MOST_HELD = 1 << 28  # bytes of one lane's truth beside the other's
# Benign layer units of the motivating CNN stayed below 0.2 of their bound in 200 steps, eagerly and under XLA
# (docs/BOUNDS.md); one above a quarter is worth a look: an Exp wrong by 2^-17 at one step brought a layer to 0.33.
# One below it is right whatever its spread, which can only make the bound wider.
NEAR_ITS_BOUND = 1 / 4


class UnitSpreads:
    """A unit's truth of some inputs, and how far rounding moves each output; measured only where it is asked for."""

    def __init__(self, truth: UnitTruth, inputs: UnitInputs) -> None:
        self._truth, self._inputs = truth, inputs
        self._outputs: Arrays | None = None
        self._measured: dict[bool, dict[int, RoundingSpread]] = {False: {}, True: {}}
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

    def of(self, indices: Collection[int], of_products: bool = False) -> Mapping[int, RoundingSpread]:
        """What rounding of everything does, or of products and sums, which is most of it."""
        if not self._measured[of_products].keys() >= set(indices):
            self._measured[of_products] = self._truth.spreads(self._inputs, self.outputs, indices, of_products)
        return self._measured[of_products]


@dataclass(frozen=True)
class OutputTruth:
    """Float64 truth of one output of a unit: given the reference's own decisions, and given the candidate's.

    explained_error: the largest error of an element that rounding explains, in either lane.
    """

    reference: npt.NDArray[Any]
    candidate: npt.NDArray[Any]
    explained_error: float


@dataclass(frozen=True)
class _OutputJudgement:
    """One output's bound, and its distances from truth where they were computed."""

    bound: Bound
    candidate: TruthStatistics | None = None
    reference: TruthStatistics | None = None
    note: str = ""
    explained_error: float = 0.0


_Distance = tuple[AbsoluteError, TruthStatistics]


@dataclass(frozen=True)
class _Distances:
    """Both lanes' distances from truth, whatever rounding explains of them, and how much it may explain.

    candidate, reference: by output, None of integers, which have no truth but the other lane's.  kept: the truth of
    some outputs, by their number.
    """

    candidate: Sequence[_Distance | None]
    reference: Sequence[_Distance | None]
    spreads: UnitSpreads
    kept: Mapping[int, tuple[npt.NDArray[Any], npt.NDArray[Any]]]


class UnitJudge:
    """Judges units of one program.

    remembers_reference: truth given the reference's values is computed once a unit, for one step tried again and again.
    """

    def __init__(self, program: Program, remembers_reference: bool = False) -> None:
        self.program = program
        self.order = order_of_ops(program.graph, program.functions)
        self.agreement = Agreement()
        self._truths: dict[str, UnitTruth] = {}
        self._remembers_reference = remembers_reference
        self._remembered: dict[str, UnitSpreads] = {}
        self._shadows: dict[int, tf.Variable] = {}

    def truth_of(self, unit: Unit) -> UnitTruth:
        """The unit in float64, built once."""
        if unit.name not in self._truths:
            self._truths[unit.name] = UnitTruth(unit, self.program.variables, self._shadows)
        return self._truths[unit.name]

    def forget(self, name: str) -> None:
        """All that is known of a unit."""
        self._truths.pop(name, None)
        self._remembered.pop(name, None)
        self.agreement.forget(name)

    def judge(
        self, unit_run: UnitRun, truth_wanted: bool, propagated: Mapping[Any, PairStatistics]
    ) -> list[Observation]:
        """One observation an output.

        Without `truth_wanted`, lanes that agree within what truth allowed before need no new truth.
        """
        return self.judge_with_truth(unit_run, truth_wanted, propagated)[0]

    def judge_with_truth(
        self, unit_run: UnitRun, truth_wanted: bool, propagated: Mapping[Any, PairStatistics],
        kept: Collection[Port] = (),
    ) -> tuple[list[Observation], dict[Port, OutputTruth]]:  # fmt: skip
        """As `judge`, with the truth of the outputs that are to be kept, where it was needed."""
        pairs = zip(unit_run.reference, unit_run.candidate, strict=True)
        local = [compare(to_numpy(a), to_numpy(b)) for a, b in pairs]
        judged = [index for index in range(len(local)) if unit_run.is_judged(index)]
        needed = truth_wanted or any(not self.agreement.needs_no_truth(unit_run, i, local[i]) for i in judged)
        bounds: list[_OutputJudgement] | None = None
        truths: dict[Port, OutputTruth] = {}
        if needed:
            numbers = {index: port for index, port in enumerate(unit_run.unit.outputs) if port in kept}
            distances = self._distances(unit_run, local, numbers)
            bounds = self._bounds(unit_run, distances)
            for index, port in numbers.items():
                truths[port] = OutputTruth(*distances.kept[index], bounds[index].explained_error)
        observations = []
        for index in judged:
            if bounds is None:
                judgement = _OutputJudgement(self.agreement.bound(unit_run, index, local[index]))
            else:
                judgement = bounds[index]
                self.agreement.remember_wrong(unit_run, index, local[index], judgement.bound)
            observations.append(self._observation(unit_run, index, local[index], judgement, propagated))
        return observations, truths

    def _observation(
        self,
        unit_run: UnitRun,
        index: int,
        local: PairStatistics,
        judgement: _OutputJudgement,
        propagated: Mapping[Any, PairStatistics],
    ) -> Observation:
        x, bound = unit_run.candidate[index], judgement.bound
        verdict = Verdict.IDENTICAL if local.num_unequal == 0 else Verdict.ROUNDING
        if not bound.is_explained:
            verdict = Verdict.DIVERGENCE
        is_new = not unit_run.unit.joined or verdict is Verdict.DIVERGENCE  # else its layers say the same
        return Observation(
            where_of(self.program, self.order, unit_run, index),
            tuple(x.shape),
            x.dtype.name,
            verdict,
            bound,
            propagated.get(propagated_key(self.program, unit_run, index)) if is_new else None,
            judgement.candidate,
            judgement.reference,
            _became_nonfinite(unit_run, x, local),
            judgement.note,
        )

    def _distances(self, unit_run: UnitRun, local: Sequence[PairStatistics], kept: Collection[int]) -> _Distances:
        """By one lane's truth after the other's: both at once would be the most that a run holds."""
        unit_truth, spreads = self.truth_of(unit_run.unit), self._spreads_of(unit_run)
        r, x, truth = unit_run.reference, unit_run.candidate, spreads.outputs
        reference = [_distance(r, x, index, each, truth) for index, each in enumerate(local)]
        of_reference = {index: truth[index] for index in kept}
        pairs = [(to_numpy(r[i]), to_numpy(x[i])) for i in unit_truth.given]
        if all(same_bits(a, b) for a, b in pairs):
            known = [
                d if s.num_unequal == s.num_zero_sign == 0 else None for d, s in zip(reference, local, strict=True)
            ]
        else:
            known = [None] * len(local)
            del truth
            spreads.let_go()
            truth = unit_truth.outputs(unit_run.of_candidate)
        candidate = [known[i] or _distance(x, r, i, each, truth) for i, each in enumerate(local)]
        return _Distances(candidate, reference, spreads, {i: (of_reference[i], truth[i]) for i in kept})

    def _spreads_of(self, unit_run: UnitRun) -> UnitSpreads:
        """By the reference's results."""
        name = unit_run.unit.name
        if name in self._remembered:
            return self._remembered[name]
        spreads = UnitSpreads(self.truth_of(unit_run.unit), unit_run.of_reference)
        if self._remembers_reference:
            self._remembered[name] = spreads
        return spreads

    def _bounds(self, unit_run: UnitRun, distances: _Distances) -> list[_OutputJudgement]:
        """Of every output.  A smaller spread allows less: more of it is measured only where less leaves a question."""
        bounds = [self._bound(unit_run, index, distances, NO_SPREAD) for index in range(len(unit_run.candidate))]
        spreads, is_step = distances.spreads, unit_run.unit.layer == STEP
        for measure in (partial(spreads.of, of_products=True) if is_step else spreads.of_inputs, spreads.of):
            left = [index for index, b in enumerate(bounds) if b.note or b.bound.excess > NEAR_ITS_BOUND]
            measured = measure(left) if left else {}
            for index in left:
                bounds[index] = self._bound(unit_run, index, distances, measured[index])
        return bounds

    def _bound(self, unit_run: UnitRun, index: int, distances: _Distances, spread: RoundingSpread) -> _OutputJudgement:
        x, of_candidate, of_reference = (
            unit_run.candidate[index],
            distances.candidate[index],
            distances.reference[index],
        )
        if of_candidate is None or of_reference is None:
            return _OutputJudgement(exact_bound(to_numpy(x), to_numpy(unit_run.reference[index])))
        (error, statistics), (reference_error, reference_statistics) = of_candidate, of_reference
        format = format_of(to_numpy(x).dtype)
        bound = composite_bound_of(error, format, spread, reference_error)
        self.agreement.calibrate(unit_run, index, reference_error, bound)
        unit = format.unit_roundoff * reference_error.truth_rms
        note = SUSPECT_REFERENCE if is_suspect(reference_error, spread, unit) else ""
        explained = max(reference_error.max, error.max if bound.is_explained else 0.0)
        return _OutputJudgement(bound, statistics, reference_statistics, note, explained)

    def output_of(self, port: Port, step: Unit, observations: Sequence[Observation]) -> Observation | None:
        """Of a whole step's observations that of one port, said of the layer whose port it is."""
        name = tensor_role(self.program, step, port).in_unit(step)
        found = next((o for o in observations if o.where.name == name), None)
        if found is None:
            return None
        layer = self.program.graph.by_name[port.node].location.layer
        return replace(found, where=replace(found.where, unit="layer", layer=layer))


def _distance(
    results: Sequence[Any], others: Sequence[Any], index: int, local: PairStatistics, truths: Arrays
) -> _Distance | None:
    """Of one lane's output from its truth, others being the other lane's results; None of integers."""
    x, truth = to_numpy(results[index]), truths[index]
    if x.dtype.kind in "biu":
        return None
    if local.classes.num_without_distance:
        truth = where_both_overflow(x, to_numpy(others[index]), truth)
    return absolute_error(x, truth), against_truth(x, truth, flushed=True)


def _became_nonfinite(unit_run: UnitRun, x: tf.Tensor, local: PairStatistics) -> bool:
    """Whether finite inputs gave an output that is not finite; its statistics know whether any number is not."""
    if local.classes.num_without_distance == 0 or x.dtype not in FLOATS or _is_finite(x):
        return False
    return all(_is_finite(t) for t in unit_run.boundary if t.dtype in FLOATS)


def _is_finite(tensor: tf.Tensor) -> bool:
    return bool(np.isfinite(to_numpy(tensor)).all())
