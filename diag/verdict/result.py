"""Everything a run found out: what the reports print and the trace keeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from diag.common.modes import TRAIN
from diag.numerics.adam import AdamFigures
from diag.verdict.attribution import Attribution
from diag.verdict.chaos import Trajectories
from diag.verdict.drift import Drift
from diag.verdict.findings import NOBODY, Divergence, Observation
from diag.verdict.rewrites import Rewrites
from diag.verdict.substitution import Substitution
from diag.verdict.weights import WeightComparison


@dataclass(frozen=True)
class Amplifier:
    """A unit whose output differs far more between the lanes than its inputs did, with no fault of its own."""

    observation: Observation
    inherited: float  # largest norm-wise relative difference of its inputs
    produced: float  # norm-wise relative difference of its output
    flipped: str = ""  # what the lanes decided differently in it, in words

    @property
    def factor(self) -> float:
        return self.produced / self.inherited if self.inherited else 0.0


@dataclass(frozen=True)
class Judged:
    """How much was looked at, so that an empty list of faults is worth something."""

    layer_outputs: int = 0
    op_outputs: int = 0
    unjudged: int = 0
    microscope_steps: tuple[int, ...] = ()
    fallback_ops: tuple[str, ...] = ()  # op types that have no kernel on the candidate and ran on the CPU
    unjudged_ops: tuple[str, ...] = ()
    benign: tuple[dict[str, Any], ...] = ()  # ops with a cause that is no fault, one a location
    inconclusive: tuple[dict[str, Any], ...] = ()  # ops that differ by themselves and have no truth
    reference_less_accurate: dict[str, Any] | None = None  # how often, of how many that differ; the worst


@dataclass(frozen=True)
class LaneInfo:
    """A lane's place, as written, and its environment as name -> value."""

    name: str
    place: str
    is_simulated: bool
    environment: dict[str, Any] = field(default_factory=dict)


SIMULATED, UNFINISHED, NOTE = "simulated", "unfinished", "note"


@dataclass(frozen=True)
class Notice:
    """What a run says besides its verdict: one of kind SIMULATED stands above the report, others below it."""

    kind: str
    text: str


def as_notes(texts: Iterable[str]) -> tuple[Notice, ...]:
    return tuple(Notice(NOTE, text) for text in texts)


@dataclass(frozen=True)
class RunResult:
    """The outcome of one run of lockstep.

    verdict: identical, rounding or divergence.  path: the layer units of the step of the first
    divergence (or of the last step checked), in execution order; propagated and local errors of
    each.  microscope: op observations of the step that was zoomed into, those that differ or
    diverge.  worst: the units and ops of the whole run with the largest excess.
    losses: per lane, one value a step, of what `diag.common.modes.FIGURE` says.  twins: how the candidate's own path
    grows, against chaos.
    updates: what Adam made of each variable's gradient in the first step that was held against truth as
    a whole.  shared_errors: where both lanes are wrong alike.  reference_errors: where the reference is wrong and the
    candidate is not.  drift: errors within their bounds that are all on one side.  random_streams: random ops that
    draw other numbers than the reference's.  weights: of two models, which differ.  command: that was given; created:
    when the run began, ISO 8601 in UTC; seconds: that it took.  cure_seconds: about how long looking for a cure will
    take, 0 where that is not known.
    """

    verdict: str
    first_divergence: Divergence | None
    divergences: tuple[Divergence, ...]
    first_bit_difference: Observation | None
    first_nonfinite: Observation | None
    amplifiers: tuple[Amplifier, ...]
    steps: int
    lanes: tuple[LaneInfo, ...]
    losses: dict[str, list[float]]
    path: tuple[Observation, ...]
    microscope: tuple[Observation, ...]
    worst: tuple[Observation, ...]
    judged: Judged
    notes: tuple[Notice, ...] = ()
    twins: Trajectories | None = None
    updates: tuple[AdamFigures, ...] = ()
    shared_errors: tuple[dict[str, Any], ...] = ()
    reference_errors: tuple[dict[str, Any], ...] = ()
    drift: tuple[Drift, ...] = ()
    random_streams: tuple[dict[str, Any], ...] = ()
    weights: WeightComparison | None = None
    attribution: Attribution | None = None  # of the first divergence
    substitution: Substitution | None = None
    rewrites: Rewrites | None = None  # of the layers of the first divergence, where the rewriter is to blame
    model: str = ""
    data: str = ""
    command: tuple[str, ...] = ()
    created: str = ""
    seconds: float = 0.0
    cure_seconds: float = 0.0
    mode: str = TRAIN
    first_step: int = 0
    numbers: Sequence[int] = ()  # of its steps, where they do not follow each other
    files: dict[str, str] = field(default_factory=dict)

    @property
    def first_fault(self) -> Divergence | None:
        """The first divergence that a part of the stack is to blame for: weights are nobody's fault."""
        first = self.first_divergence
        if first is None or first.blame != NOBODY:
            return first
        return next((each for each in self.divergences if each.blame != NOBODY), None)

    @property
    def step_numbers(self) -> Sequence[int]:
        """Of each of its steps, as it is told of."""
        return self.numbers or range(self.first_step, self.first_step + self.steps)
