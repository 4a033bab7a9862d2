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
from diag.engine.truth.format_range import OUT_OF_RANGE, Way, nearest
from diag.engine.truth.naming import propagated_key, tensor_role, where_of
from diag.engine.truth.noise import Noise
from diag.engine.truth.op_truth import Arrays
from diag.engine.truth.own_decisions import OWN_DECISION, has_decisions
from diag.engine.truth.sum_orders import LONG_SUM
from diag.engine.truth.unit_spreads import UnitSpreads
from diag.engine.truth.unit_truth import UnitTruth
from diag.numerics.bits import same_bits
from diag.numerics.bounds import (
    NO_SPREAD,
    RoundingSpread,
    composite_bound_of,
    exact_bound,
    of_orders,
    of_underflow,
    where_both_overflow,
)
from diag.numerics.errors_against_truth import absolute_error
from diag.numerics.figures import AbsoluteError, Bound, PairStatistics, TruthStatistics
from diag.numerics.formats import format_of
from diag.numerics.normwise import of_transforms
from diag.numerics.statistics import against_truth, compare
from diag.verdict.findings import NORMWISE, SHARED_ERROR, Observation, Verdict

FLUSHED = "subnormal-flush"
# Benign layer units of the motivating CNN stayed below 0.2 of their bound in 200 steps, eagerly and under XLA
# (docs/BOUNDS.md); one above a quarter is worth a look: an Exp wrong by 2^-17 at one step brought a layer to 0.33.
# One below it is right whatever its spread, which can only make the bound wider.
NEAR_ITS_BOUND = 1 / 4
# What other algorithms do to a unit, as right as the plain ones, that noise of single roundings does not show.
OTHER_ALGORITHMS = (
    (Noise.TRANSFORMS, of_transforms, NORMWISE),
    (Noise.ORDERS, of_orders, LONG_SUM),
    (Noise.UNDERFLOW, of_underflow, FLUSHED),
)


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
    """One output's bound, the reference's, and their distances from truth where they were computed."""

    bound: Bound
    candidate: TruthStatistics | None = None
    reference: TruthStatistics | None = None
    note: str = ""
    explained_error: float = 0.0
    of_reference: Bound | None = None

    @property
    def num_explained(self) -> int:
        """Of how many lanes rounding explains the errors."""
        return self.bound.is_explained + (self.of_reference is None or self.of_reference.is_explained)

    @property
    def is_explained(self) -> bool:
        """Whether rounding explains both lanes' errors."""
        return self.num_explained == 2

    def or_by(self, own: _OutputJudgement, note: str) -> _OutputJudgement:
        """Each lane by the truth that explains it, this one's or another that the formats' own arithmetic comes to."""
        best = self if self.bound.is_explained or not own.bound.is_explained else replace(own, note=note)
        known = [each for each in (self.of_reference, own.of_reference) if each is not None]
        return replace(best, of_reference=next((each for each in known if each.is_explained), self.of_reference))


_Distance = tuple[AbsoluteError, TruthStatistics]


@dataclass(frozen=True)
class _Distances:
    """Both lanes' distances from truth, whatever rounding explains of them, and how much it may explain.

    candidate, reference: by output, None of integers.  exact: of these, how the candidate's are to be.  kept: the truth
    of some outputs, by their number.
    """

    candidate: Sequence[_Distance | None]
    reference: Sequence[_Distance | None]
    spreads: UnitSpreads
    exact: Mapping[int, Bound]
    kept: Mapping[int, tuple[npt.NDArray[Any], npt.NDArray[Any]]]


class UnitJudge:
    """Judges units of one program.

    remembers_reference: truth given the reference's values is computed once a unit, for one step tried again and again.
    """

    def __init__(self, program: Program, remembers_reference: bool = False) -> None:
        self.program = program
        self.order = order_of_ops(program.graph, program.functions)
        self.agreement = Agreement()
        self._truths: dict[tuple[str, bool], UnitTruth] = {}
        self._remembers_reference = remembers_reference
        self._remembered: dict[tuple[str, bool], UnitSpreads] = {}
        self._shadows: dict[int, tf.Variable] = {}

    def truth_of(self, unit: Unit, own_decisions: bool = False) -> UnitTruth:
        """The unit in float64, built once."""
        key = (unit.name, own_decisions)
        if key not in self._truths:
            self._truths[key] = UnitTruth(unit, self.program.variables, self._shadows, own_decisions)
        return self._truths[key]

    def forget(self, name: str) -> None:
        """All that is known of a unit."""
        for key in ((name, False), (name, True)):
            self._truths.pop(key, None)
            self._remembered.pop(key, None)
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
        judgements: Mapping[int, _OutputJudgement]
        if truth_wanted or any(not self.agreement.needs_no_truth(unit_run, i, local[i]) for i in judged):
            judgements, truths = self._by_truth(unit_run, local, kept)
            for index in judged:
                self.agreement.remember_wrong(unit_run, index, local[index], judgements[index].bound)
        else:
            judgements = {i: _OutputJudgement(self.agreement.bound(unit_run, i, local[i])) for i in judged}
            truths = {}
        return [self._observation(unit_run, i, local[i], judgements[i], propagated) for i in judged], truths

    def _by_truth(
        self, unit_run: UnitRun, local: Sequence[PairStatistics], kept: Collection[Port]
    ) -> tuple[dict[int, _OutputJudgement], dict[Port, OutputTruth]]:
        """Every output by float64; what that leaves out of its bound by the formats' own decisions and ranges, too."""
        numbers = {index: port for index, port in enumerate(unit_run.unit.outputs) if port in kept}
        distances = self._distances(unit_run, local, numbers)
        found = dict(enumerate(self._bounds(unit_run, distances)))
        if not all(b.is_explained for b in found.values()) and has_decisions(unit_run.unit.executable.graph):
            by_own = self._bounds(unit_run, self._distances(unit_run, local, (), own_decisions=True))
            found = {index: found[index].or_by(own, OWN_DECISION) for index, own in enumerate(by_own)}
        apart = [index for index, b in found.items() if not b.is_explained and local[index].num_unequal]
        by_range = self._bounds(unit_run, self._distances_in_range(unit_run, distances)) if apart else []
        found |= {index: found[index].or_by(by_range[index], OUT_OF_RANGE) for index in apart}
        truths = {port: OutputTruth(*distances.kept[i], found[i].explained_error) for i, port in numbers.items()}
        return found, truths

    def _observation(
        self,
        unit_run: UnitRun,
        index: int,
        local: PairStatistics,
        judgement: _OutputJudgement,
        propagated: Mapping[Any, PairStatistics],
    ) -> Observation:
        x, bound, note = unit_run.candidate[index], judgement.bound, judgement.note
        verdict = Verdict.ROUNDING if bound.is_explained else Verdict.DIVERGENCE
        if local.num_unequal == 0:
            verdict, note = Verdict.IDENTICAL, note if bound.is_explained else SHARED_ERROR
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
            note,
            reference_bound=judgement.of_reference,
            flipped=_not_finite(unit_run, index) if note == OUT_OF_RANGE else "",
        )

    def _distances(
        self, unit_run: UnitRun, local: Sequence[PairStatistics], kept: Collection[int], own_decisions: bool = False
    ) -> _Distances:
        """By one lane's truth after the other's: both at once would be the most that a run holds."""
        unit_truth = self.truth_of(unit_run.unit, own_decisions)
        spreads = self._spreads_of(unit_run, unit_truth)
        r, x, truth = unit_run.reference, unit_run.candidate, spreads.outputs
        reference = [_distance(r, x, index, each, truth) for index, each in enumerate(local)]
        of_reference = {index: truth[index] for index in kept}
        if _are_given_alike(unit_run, unit_truth):
            known = [
                d if s.num_unequal == s.num_zero_sign == 0 else None for d, s in zip(reference, local, strict=True)
            ]
        else:
            known = [None] * len(local)
            del truth
            spreads.let_go()
            truth = unit_truth.outputs(unit_run.of_candidate)
        candidate = [known[i] or _distance(x, r, i, each, truth) for i, each in enumerate(local)]
        exact = {i: _exact_bound(x[i], r[i], truth[i]) for i, found in enumerate(candidate) if found is None}
        return _Distances(candidate, reference, spreads, exact, {i: (of_reference[i], truth[i]) for i in kept})

    def _distances_in_range(self, unit_run: UnitRun, distances: _Distances) -> _Distances:
        """By the truth that each element is nearest to, of those that the ranges of the formats make."""
        unit_truth = self.truth_of(unit_run.unit)

        def truths_of(inputs: UnitInputs) -> list[Arrays]:
            """All truths of each output."""
            ways = [unit_truth.outputs(inputs), *(unit_truth.outputs_in_range(inputs, way) for way in Way)]
            return list(map(list, zip(*ways, strict=True)))

        reference = truths_of(unit_run.of_reference)
        candidate = reference if _are_given_alike(unit_run, unit_truth) else truths_of(unit_run.of_candidate)
        return replace(
            distances,
            candidate=list(map(_nearer, unit_run.candidate, candidate, distances.candidate)),
            reference=list(map(_nearer, unit_run.reference, reference, distances.reference)),
        )

    def _spreads_of(self, unit_run: UnitRun, unit_truth: UnitTruth) -> UnitSpreads:
        """By the reference's results."""
        key = (unit_run.unit.name, unit_truth.own_decisions)
        if key in self._remembered:
            return self._remembered[key]
        spreads = UnitSpreads(unit_truth, unit_run.of_reference)
        if self._remembers_reference:
            self._remembered[key] = spreads
        return spreads

    def _bounds(self, unit_run: UnitRun, distances: _Distances) -> list[_OutputJudgement]:
        """Of every output.  A smaller spread allows less: more of it is measured only where less leaves a question."""
        bounds = [self._bound(unit_run, index, distances, NO_SPREAD) for index in range(len(unit_run.candidate))]
        spreads, is_step = distances.spreads, unit_run.unit.layer == STEP
        for measure in (partial(spreads.of, noise=Noise.PRODUCTS) if is_step else spreads.of_inputs, spreads.of):
            left = [i for i, b in enumerate(bounds) if not b.is_explained or b.bound.excess > NEAR_ITS_BOUND]
            measured = measure(left) if left else {}
            for index in left:
                bounds[index] = self._bound(unit_run, index, distances, measured[index])
        wrong = [index for index, b in enumerate(bounds) if not b.is_explained and distances.candidate[index]]
        allowed = {index: spreads.of(wrong)[index] for index in wrong}
        for noise, scaled, note in OTHER_ALGORITHMS if wrong else ():
            if not spreads.has(noise):
                continue
            measured = spreads.of(wrong, noise)
            for index in wrong:
                allowed[index] += scaled(measured[index])
                judgement = self._bound(unit_run, index, distances, allowed[index])
                if judgement.num_explained > bounds[index].num_explained:
                    bounds[index] = replace(judgement, note=note)
            wrong = [index for index in wrong if not bounds[index].is_explained]
        return bounds

    def _bound(self, unit_run: UnitRun, index: int, distances: _Distances, spread: RoundingSpread) -> _OutputJudgement:
        of_candidate, of_reference = distances.candidate[index], distances.reference[index]
        if of_candidate is None or of_reference is None:
            return _OutputJudgement(distances.exact[index])
        (error, statistics), (reference_error, reference_statistics) = of_candidate, of_reference
        format = format_of(to_numpy(unit_run.candidate[index]).dtype)
        bound = composite_bound_of(error, format, spread, reference_error)
        self.agreement.calibrate(unit_run, index, reference_error, bound)
        explained = max(reference_error.max, error.max if bound.is_explained else 0.0)
        other = composite_bound_of(reference_error, format, spread, error)
        return _OutputJudgement(bound, statistics, reference_statistics, "", explained, other)

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
    return _from(truth, x)


def _nearer(result: Any, truths: Arrays, known: _Distance | None) -> _Distance | None:
    """Of an output, each element from the truth that it is nearest to; as it is known, where all truths are one."""
    if known is None or all(np.array_equal(truths[0], each) for each in truths[1:]):
        return known
    x = to_numpy(result)
    return _from(nearest(x, truths), x)


def _from(truth: npt.NDArray[Any], x: npt.NDArray[Any]) -> _Distance:
    return absolute_error(x, truth), against_truth(x, truth, flushed=True)


def _are_given_alike(unit_run: UnitRun, unit_truth: UnitTruth) -> bool:
    """Whether truth given the one lane's forward results is that given the other's."""
    pairs = ((unit_run.reference[i], unit_run.candidate[i]) for i in unit_truth.given)
    return all(same_bits(to_numpy(a), to_numpy(b)) for a, b in pairs)


def _exact_bound(x: Any, other: Any, truth: npt.NDArray[Any]) -> Bound:
    """Integers and decisions are the other lane's, or truth's: a lane may keep what the other flushes to zero.

    Truth of numbers that are found may be of more or fewer of them, and is none.
    """
    x, other = to_numpy(x), to_numpy(other)
    return exact_bound(x, np.where(x == truth, x, other) if x.shape == truth.shape else other)


def _became_nonfinite(unit_run: UnitRun, x: tf.Tensor, local: PairStatistics) -> bool:
    """Whether finite inputs gave an output that is not finite; its statistics know whether any number is not."""
    if local.classes.num_without_distance == 0 or x.dtype not in FLOATS or _is_finite(x):
        return False
    return all(_is_finite(t) for t in unit_run.boundary if t.dtype in FLOATS)


def _not_finite(unit_run: UnitRun, index: int) -> str:
    """How many elements of an output are NaN or infinite, in words."""
    r, x = (int((~np.isfinite(to_numpy(t[index]))).sum()) for t in (unit_run.reference, unit_run.candidate))
    if not r and not x:
        return "finite at both places, and not what float64 gives"
    return f"not finite in {r:,} elements of the reference and {x:,} of the candidate"


def _is_finite(tensor: tf.Tensor) -> bool:
    return bool(np.isfinite(to_numpy(tensor)).all())
