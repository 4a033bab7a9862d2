"""What a run has found so far."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from diag.common.carried import Carried
from diag.numerics.adam import AdamFigures
from diag.numerics.op_classes import ErrorClass
from diag.verdict.advisories import Advisories
from diag.verdict.drift import DriftTally
from diag.verdict.findings import Divergence, Observation, Verdict
from diag.verdict.ladder import amplifying_ops, first_difference, first_nonfinite
from diag.verdict.result import Amplifier
from diag.verdict.weights import WeightComparison

WORST_KEPT = 40


@dataclass
class Findings(Carried):
    """What has been found so far."""

    divergences: list[Divergence] = field(default_factory=list)
    layers: list[Observation] = field(default_factory=list)
    ops: list[Observation] = field(default_factory=list)
    path: list[Observation] = field(default_factory=list)
    zoomed: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    losses: dict[str, list[float]] = field(default_factory=lambda: {"reference": [], "candidate": []})
    num_layer_outputs: int = 0
    num_op_outputs: int = 0
    unjudged: set[str] = field(default_factory=set)
    num_unjudged: int = 0
    fallbacks: set[str] = field(default_factory=set)
    any_bit_differs: bool = False
    first_bit: Observation | None = None
    first_nonfinite: Observation | None = None
    updates: list[AdamFigures] = field(default_factory=list)
    advisories: Advisories = field(default_factory=Advisories)
    amplifying: list[Amplifier] = field(default_factory=list)
    drift: DriftTally = field(default_factory=DriftTally)
    random_streams: list[dict[str, Any]] = field(default_factory=list)
    weights: WeightComparison | None = None  # of two models

    def see_units(self, observations: Sequence[Observation]) -> None:
        """Outputs of units, or of the whole step, that were judged; until a fault is named their step is the path."""
        self.num_layer_outputs += len(observations)
        self.advisories.add_units(observations)
        self.layers = worst_of([*self.layers, *observations])
        if observations and not self.divergences:
            on_path = [o for o in observations if o.propagated is not None or o.verdict is Verdict.DIVERGENCE]
            self.path = sorted(on_path, key=lambda o: o.where.sort_key)
        self.see_firsts(observations)

    def see_ops(self, ops: Sequence[Observation], fallbacks: Collection[str]) -> None:
        """All op outputs of a step; fallbacks: ops that ran on the CPU for want of a kernel."""
        unjudged = [o for o in ops if o.verdict is Verdict.UNJUDGED]
        self.num_op_outputs += len(ops)
        self.num_unjudged += len(unjudged)
        self.unjudged |= {o.where.op_type or "" for o in unjudged}
        self.fallbacks |= set(fallbacks)
        self.advisories.add(ops)
        self.drift.add(ops)
        self.amplifying = self.amplifying or amplifying_ops(ops)
        self.ops = worst_of([*self.ops, *(o for o in ops if o.differs or o.verdict is not Verdict.IDENTICAL)])
        self.see_firsts(ops)

    def see_firsts(self, observations: Sequence[Observation]) -> None:
        """What is the first to differ, and the first not to be finite; what was found before stays."""
        self.first_bit = self.first_bit or first_difference(observations)
        self.first_nonfinite = self.first_nonfinite or first_nonfinite(observations)

    def note(self, text: str) -> None:
        """To be told once, however often it is noted."""
        if text not in self.notes:
            self.notes.append(text)

    def add(self, divergence: Divergence) -> None:
        """One a site; the earliest step stays."""
        if all(known.where.location != divergence.where.location for known in self.divergences):
            self.divergences.append(divergence)
            self.divergences.sort(key=lambda d: d.where.sort_key)


# all of them: fields are known once the class is made
Findings.CARRIED = tuple(each.name for each in fields(Findings))


def worst_of(observations: Sequence[Observation]) -> list[Observation]:
    """The largest excess first."""
    return sorted(observations, key=lambda o: (-telling_excess(o), o.where.sort_key))[:WORST_KEPT]


def telling_excess(observation: Observation) -> float:
    """The excess; 0 for a correctly rounded result: that is always at half an ULP, and no news."""
    bound, excess = observation.bound, observation.excess
    is_correctly_rounded = bound is not None and bound.error_class is ErrorClass.ROUNDED_ONCE
    return 0.0 if is_correctly_rounded and excess <= 1 else excess
