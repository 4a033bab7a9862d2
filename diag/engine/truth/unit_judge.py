"""A layer unit's results against float64 truth; the results may come from a lane, a trace or a trial."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

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
# Benign layer units of the motivating CNN stayed below 0.2 of their bound in 200 steps, eagerly and under XLA
# (docs/BOUNDS.md); one above a quarter is worth a look: an Exp wrong by 2^-17 at one step brought a layer to 0.33.
# One below it is right whatever its spread, which can only make the bound wider.
NEAR_ITS_BOUND = 1 / 4


class UnitSpreads:
    """How far rounding moves each output of a unit, by its number; measured only as far as it is asked for."""

    def __init__(self, truth: UnitTruth, inputs: UnitInputs, outputs: Arrays) -> None:
        """outputs: the truth of these inputs."""
        self._truth, self._inputs, self._outputs = truth, inputs, outputs
        self._measured: dict[bool, dict[int, RoundingSpread]] = {False: {}, True: {}}
        self._of_inputs: Sequence[RoundingSpread] | None = None

    def of_inputs(self, indices: Sequence[int]) -> Mapping[int, RoundingSpread]:
        """What rounding of the unit's inputs alone does: a part of the whole, and cheap."""
        if self._of_inputs is None:
            self._of_inputs = self._truth.spreads_of_inputs(self._inputs, self._outputs)
        return {index: self._of_inputs[index] for index in indices}

    def of(self, indices: Collection[int], of_products: bool = False) -> Mapping[int, RoundingSpread]:
        """What rounding of everything does, or of products and sums, which is most of it."""
        if not self._measured[of_products].keys() >= set(indices):
            self._measured[of_products] = self._truth.spreads(self._inputs, self._outputs, indices, of_products)
        return self._measured[of_products]


@dataclass(frozen=True)
class UnitTruths:
    """Float64 truth of a unit's outputs, given the reference's own decisions and given the candidate's.

    spreads: how far rounding moves outputs, by their number.  explained_errors: of each output, once it is judged, the
    largest error of an element that rounding explains: the reference's, and the candidate's if it is within its bound.
    """

    reference: Arrays
    candidate: Arrays
    spreads: UnitSpreads
    explained_errors: Sequence[float] = ()


@dataclass(frozen=True)
class GradientTruth:
    """Float64 truth of a whole step's gradients, by port: given the reference's decisions, given the candidate's.

    errors: the largest error of an element that rounding explains, in either lane.
    """

    of: Mapping[Port, tuple[Any, Any]]
    errors: Mapping[Port, float]

    @classmethod
    def from_step(cls, program: Program, unit_run: UnitRun, truths: UnitTruths) -> GradientTruth:
        gradients = set(program.gradients.values())
        ports = unit_run.unit.outputs  # variables follow them
        values = zip(ports, truths.reference, truths.candidate, strict=False)
        errors = dict(zip(ports, truths.explained_errors, strict=False))
        return cls({port: (r, c) for port, r, c in values if port in gradients}, errors)


@dataclass(frozen=True)
class _OutputJudgement:
    """One output's bound, and its distances from truth where they were computed."""

    bound: Bound
    candidate: TruthStatistics | None = None
    reference: TruthStatistics | None = None
    note: str = ""
    explained_error: float = 0.0


@dataclass(frozen=True)
class _Distances:
    """One output's distances from truth in both lanes, whatever rounding explains of them."""

    candidate: tuple[AbsoluteError, TruthStatistics]
    reference: tuple[AbsoluteError, TruthStatistics]


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
        self._remembered: dict[str, tuple[Arrays, UnitSpreads]] = {}
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
        self, unit_run: UnitRun, truth_wanted: bool, propagated: Mapping[Any, PairStatistics]
    ) -> tuple[list[Observation], UnitTruths | None]:
        """As `judge`, with the truth where it was needed."""
        pairs = zip(unit_run.reference, unit_run.candidate, strict=True)
        local = [compare(to_numpy(a), to_numpy(b)) for a, b in pairs]
        judged = [index for index in range(len(local)) if unit_run.is_judged(index)]
        needed = truth_wanted or any(not self.agreement.needs_no_truth(unit_run, i, local[i]) for i in judged)
        truths = self._truths_of(unit_run) if needed else None
        bounds = None
        if truths is not None:
            bounds = self._bounds(unit_run, truths, local)
            truths = replace(truths, explained_errors=[each.explained_error for each in bounds])
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

    def _truths_of(self, unit_run: UnitRun) -> UnitTruths:
        unit_truth = self.truth_of(unit_run.unit)
        reference, spreads = self._of_reference(unit_truth, unit_run)
        pairs = [(to_numpy(unit_run.reference[i]), to_numpy(unit_run.candidate[i])) for i in unit_truth.given]
        is_same = all(same_bits(a, b) for a, b in pairs)
        candidate = reference if is_same else unit_truth.outputs(unit_run.of_candidate)
        return UnitTruths(reference, candidate, spreads)

    def _of_reference(self, unit_truth: UnitTruth, unit_run: UnitRun) -> tuple[Arrays, UnitSpreads]:
        name = unit_run.unit.name
        if name in self._remembered:
            return self._remembered[name]
        outputs = unit_truth.outputs(unit_run.of_reference)
        known = outputs, UnitSpreads(unit_truth, unit_run.of_reference, outputs)
        if self._remembers_reference:
            self._remembered[name] = known
        return known

    def _bounds(self, unit_run: UnitRun, truths: UnitTruths, local: Sequence[PairStatistics]) -> list[_OutputJudgement]:
        """Of every output.  A smaller spread allows less: more of it is measured only where less leaves a question."""
        distances = [_distances(unit_run, index, truths, each) for index, each in enumerate(local)]
        bounds = [self._bound(unit_run, index, each, NO_SPREAD) for index, each in enumerate(distances)]
        spreads, is_step = truths.spreads, unit_run.unit.layer == STEP
        for measure in (partial(spreads.of, of_products=True) if is_step else spreads.of_inputs, spreads.of):
            left = [index for index, b in enumerate(bounds) if b.note or b.bound.excess > NEAR_ITS_BOUND]
            measured = measure(left) if left else {}
            for index in left:
                bounds[index] = self._bound(unit_run, index, distances[index], measured[index])
        return bounds

    def _bound(
        self, unit_run: UnitRun, index: int, distances: _Distances | None, spread: RoundingSpread
    ) -> _OutputJudgement:
        x = to_numpy(unit_run.candidate[index])
        if distances is None:
            return _OutputJudgement(exact_bound(x, to_numpy(unit_run.reference[index])))
        (error, statistics), (reference_error, of_reference) = distances.candidate, distances.reference
        format = format_of(x.dtype)
        bound = composite_bound_of(error, format, spread, reference_error)
        self.agreement.calibrate(unit_run, index, reference_error, bound)
        unit = format.unit_roundoff * reference_error.truth_rms
        note = SUSPECT_REFERENCE if is_suspect(reference_error, spread, unit) else ""
        explained = max(reference_error.max, error.max if bound.is_explained else 0.0)
        return _OutputJudgement(bound, statistics, of_reference, note, explained)

    def output_of(self, port: Port, step: Unit, observations: Sequence[Observation]) -> Observation | None:
        """Of a whole step's observations that of one port, said of the layer whose port it is."""
        name = tensor_role(self.program, step, port).in_unit(step)
        found = next((o for o in observations if o.where.name == name), None)
        if found is None:
            return None
        layer = self.program.graph.by_name[port.node].location.layer
        return replace(found, where=replace(found.where, unit="layer", layer=layer))


def _distances(unit_run: UnitRun, index: int, truths: UnitTruths, local: PairStatistics) -> _Distances | None:
    """None where the output has no truth but what the other lane has: integers."""
    x, r = to_numpy(unit_run.candidate[index]), to_numpy(unit_run.reference[index])
    if x.dtype.kind in "biu":
        return None
    truth_x, truth_r = truths.candidate[index], truths.reference[index]
    is_same = truth_x is truth_r and local.num_unequal == local.num_zero_sign == 0
    if local.classes.num_without_distance:
        truth_x, truth_r = where_both_overflow(x, r, truth_x), where_both_overflow(r, x, truth_r)
    reference = absolute_error(r, truth_r), against_truth(r, truth_r, flushed=True)
    if is_same:
        return _Distances(reference, reference)
    return _Distances((absolute_error(x, truth_x), against_truth(x, truth_x, flushed=True)), reference)


def _became_nonfinite(unit_run: UnitRun, x: tf.Tensor, local: PairStatistics) -> bool:
    """Whether finite inputs gave an output that is not finite; its statistics know whether any number is not."""
    if local.classes.num_without_distance == 0 or x.dtype not in FLOATS or _is_finite(x):
        return False
    return all(_is_finite(t) for t in unit_run.boundary if t.dtype in FLOATS)


def _is_finite(tensor: tf.Tensor) -> bool:
    return bool(tf.reduce_all(tf.math.is_finite(tensor)))
