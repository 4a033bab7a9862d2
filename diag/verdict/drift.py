"""Drift: an error that is small in every op, and in every op on the same side.

Rounding to nearest is as often up as down.  A place that cuts off instead, in every sum and product, is within the
bound of each op where that allows a whole ULP, and its errors add up.  Each op of a program gives one figure, however
often it was judged: its mean signed error, less the reference's on the same inputs.  What that figure's sign is, is a
toss of a coin where both round to nearest; how far all of them together lean one way is an exact test (`sign_test`).

Functions have no part in it: the error of an approximation is the same for the same argument, so that two healthy ones
differ for certain (docs/BOUNDS.md has by how much).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from diag.numerics.figures import TruthStatistics
from diag.numerics.op_classes import ErrorClass, is_product
from diag.numerics.sign_test import chance_of_lean
from diag.verdict.findings import Observation

# In one run of a healthy place, so likely is any finding at all.
FALSE_ALARMS = 1e-6
# What no rounding mode exceeds: an error of more than an ULP is no rounding of a correct result.
DIRECTED_ROUNDING = 1.0
# A mean of a tenth of the errors' rms outgrows chance in a hundred ops; less is not worth a word.  The median was 0.01
# to 0.07 in running sums whose terms have both signs, 0.11 to 0.97 in those that are cut off (docs/BOUNDS.md, Drift).
LEAST_LEAN = 0.1
# An op counts by how many standard errors its mean is from the reference's, up to this: no op decides alone.
MOST_WEIGHT = 8

ROUNDED, SUMMED = "rounded", "summed"
# (towards infinity, away from zero): the words for a positive mean and for a negative one.
DIRECTIONS = (("up", "down"), ("away from zero", "towards zero"))


@dataclass(frozen=True)
class Drift:
    """Ops of one lane whose errors all lie on one side.

    op_types: which ops; num_ops: in how many of them the lanes differ, of which in num_leaning this way.
    direction: `towards zero`, `away from zero`, `up` or `down`.  biases: of each lane the median over these ops of the
    mean error in ULP, positive where it is up or away from zero.  chance: of as much by rounding alone, times the
    number of such questions that were asked.
    """

    lane: str
    op_types: tuple[str, ...]
    direction: str
    num_ops: int
    num_leaning: int
    reference_bias: float
    candidate_bias: float
    chance: float

    def to_dict(self) -> dict[str, Any]:
        """As report.json has it."""
        return {
            "lane": self.lane, "op_types": list(self.op_types), "direction": self.direction, "num_ops": self.num_ops,
            "num_leaning": self.num_leaning, "mean_error_ulp": {
                "reference": self.reference_bias, "candidate": self.candidate_bias,
            }, "chance": self.chance,
        }  # fmt: skip


@dataclass
class OpErrors:
    """The signed errors of one op, in ULP, added up over the steps at which it was judged.

    reference, candidate: (up, away from zero).
    """

    op_type: str
    group: str
    size: int = 0
    squares: float = 0.0  # of both lanes
    reference: list[float] = field(default_factory=lambda: [0.0, 0.0])
    candidate: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, reference: TruthStatistics, candidate: TruthStatistics) -> None:
        size = candidate.num_compared
        self.size += size
        self.squares += size * (reference.rms**2 + candidate.rms**2)
        for totals, of_lane in ((self.reference, reference), (self.candidate, candidate)):
            totals[0] += size * of_lane.bias
            totals[1] += size * of_lane.outward_bias

    def lean(self, direction: int) -> float:
        """By how much the lanes' means differ, of the rms of the errors."""
        return (self.candidate[direction] - self.reference[direction]) / math.sqrt(self.size * self.squares)

    @property
    def figures(self) -> tuple[Any, ...]:
        return self.op_type, self.size, self.squares, *self.reference, *self.candidate

    def weight(self, direction: int) -> int:
        """The difference of the lanes' means in standard errors, a whole number away from zero; 0 where they agree."""
        difference = self.candidate[direction] - self.reference[direction]
        if not difference or not (0 < self.squares < math.inf):
            return 0
        size = min(math.ceil(abs(difference) / math.sqrt(self.squares)), MOST_WEIGHT)
        return size if difference > 0 else -size


@dataclass
class DriftTally:
    """The signed errors of every op that rounds, gathered as ops are judged."""

    ops: dict[tuple[Any, ...], OpErrors] = field(default_factory=dict)

    def add(self, observations: Iterable[Observation]) -> None:
        for op in observations:
            group = _group_of(op)
            if group is None or op.local is None or op.reference_local is None:
                continue
            if not op.local.num_compared == op.reference_local.num_compared > 0:
                continue
            known = self.ops.setdefault(_key_of(op), OpErrors(op.where.op_type or "", group))
            known.add(op.reference_local, op.local)

    def found(self) -> tuple[Drift, ...]:
        """What is no chance, if anything: of a group of ops at most one finding."""
        groups = [[op for op in self._different_ops if op.group == group] for group in (ROUNDED, SUMMED)]
        questions = [_questions(ops) for ops in groups]
        num_questions = sum(map(len, questions))
        findings = (_finding(asked, num_questions) for asked in questions if asked)
        return tuple(finding for finding in findings if finding is not None)

    @property
    def _different_ops(self) -> list[OpErrors]:
        """Of ops that err exactly alike one: an optimizer computes the same rate for every variable."""
        return list({op.figures: op for op in self.ops.values()}.values())


@dataclass(frozen=True)
class Question:
    """Whether ops lean one way (`DIRECTIONS`); is_of_all: whether they are a whole group."""

    ops: Sequence[OpErrors]
    direction: int
    is_of_all: bool

    @property
    def chance(self) -> float:
        weights = [op.weight(self.direction) for op in self.ops]
        return chance_of_lean([abs(weight) for weight in weights if weight], abs(sum(weights)))

    @property
    def lean(self) -> float:
        """The median of what the ops' means differ by, of the rms of the errors."""
        return median([op.lean(self.direction) for op in self.ops if op.weight(self.direction)] or [0.0])

    def leaning(self) -> Question:
        """The same of the types alone that lean as all together do."""
        lean = {t: sum(op.weight(self.direction) for op in self.ops if op.op_type == t) for t in _types(self.ops)}
        side = sum(lean.values())
        return replace(self, ops=[op for op in self.ops if lean[op.op_type] * side > 0])


def _questions(ops: Sequence[OpErrors]) -> list[Question]:
    """Of all ops of a group, and of those of each type; away from zero first, as numbers of one sign are both."""
    by_type = [([op for op in ops if op.op_type == each], False) for each in _types(ops)]
    return (
        [Question(those, direction, is_all) for those, is_all in [(ops, True), *by_type] for direction in (1, 0)]
        if ops
        else []
    )


def _types(ops: Sequence[OpErrors]) -> list[str]:
    return sorted({op.op_type for op in ops})


def _finding(questions: Sequence[Question], num_questions: int) -> Drift | None:
    """What all ops of a group do if that is no chance, or else those of one type."""
    found = []
    for number, question in enumerate(questions):
        chance = question.chance * num_questions
        about = question.leaning() if question.is_of_all else question
        if chance <= FALSE_ALARMS and abs(about.lean) >= LEAST_LEAN:
            found.append((not question.is_of_all, chance, number, about))
    if not found:
        return None
    _, chance, _, about = min(found)
    return _drift(about, chance)


def _drift(question: Question, chance: float) -> Drift:
    direction = question.direction
    differing = [op for op in question.ops if op.weight(direction)]
    weights = [op.weight(direction) for op in differing]
    side = sum(weights)
    reference, candidate = (
        median(totals[direction] / op.size for op, totals in each)
        for each in ([(op, op.reference) for op in differing], [(op, op.candidate) for op in differing])
    )
    lane, bias = ("reference", reference) if abs(reference) > abs(candidate) else ("candidate", candidate)
    return Drift(
        lane,
        tuple(_types(differing)),
        DIRECTIONS[direction][bias < 0],
        len(differing),
        sum(weight * side > 0 for weight in weights),
        reference,
        candidate,
        chance,
    )


def _key_of(op: Observation) -> tuple[Any, ...]:
    """What makes one figure: an op; divisions by the same number, which may all share the error of its reciprocal."""
    return op.where.location if op.divisor is None else (op.where.op_type, op.divisor)


def _group_of(op: Observation) -> str | None:
    """Where an op belongs whose errors should be on both sides alike; None of others, and of what is wrong anyway."""
    if op.bound is None or op.local is None:
        return None
    if not op.bound.is_explained and not op.local.max <= DIRECTED_ROUNDING:
        return None
    if op.bound.error_class is ErrorClass.ROUNDED_ONCE:
        return ROUNDED
    # A running sum of one sign, once it is large, loses what is small: too small, and rightly so.  Terms of products
    # have both signs; in a narrow format those stand still, too.
    is_product_of_wide = is_product(op.where.op_type or "") and op.dtype in ("float32", "float64")
    return SUMMED if op.bound.error_class is ErrorClass.CONTRACTION and is_product_of_wide else None
