"""What a study shows: where each candidate leaves what chance does to the reference, and how good each place gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from diag.common.wording import figure, percent
from diag.study.band import Band, Departure, band_of, left_at
from diag.study.request import StudyPlan
from diag.study.table import Curves

JUDGED = {"validation_accuracy": "validation accuracy", "validation_loss": "validation loss"}
"""What decides whether a candidate left; training follows."""


@dataclass(frozen=True)
class Summary:
    """Of one place in one policy: best and last of a measure in each seed's run, and seconds of an epoch, median."""

    place: str
    policy: str
    measure: str
    best: tuple[float, ...]
    last: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class StudyFindings:
    """departures: of each candidate and policy the first, if there is one.  is_judged: whether there was a band."""

    plan: StudyPlan
    curves: tuple[Curves, ...]
    departures: tuple[Departure, ...]
    summaries: tuple[Summary, ...]
    is_judged: bool
    num_validation: int

    @property
    def shown(self) -> str:
        """The measure that is shown first: validation accuracy, or the loss where there is none."""
        accuracy, loss = JUDGED
        return accuracy if any(np.isfinite(c.of[accuracy]).any() for c in self.curves) else loss

    def array(self, place: str, policy: str, measure: str, twins: bool = False) -> np.ndarray:
        """(runs, epochs) of a place in a policy; twins: with those that were perturbed."""
        chosen = [c for c in self.curves if (c.run.place, c.run.policy) == (place, policy)]
        return np.array([c.of[measure] for c in chosen if twins or not c.run.twin])

    def band(self, policy: str, measure: str) -> Band | None:
        """What chance does to the reference's curve."""
        band = self._scaled_band(policy, measure)
        if band is None or not self._is_log(policy, measure):
            return band
        with np.errstate(over="ignore"):
            return Band(np.exp(band.low), np.exp(band.high))

    def departure(self, place: str, policy: str, measure: str) -> Departure | None:
        """Where a candidate's curve leaves; None where it stays, or there is no band."""
        scaled, band = self._scaled_band(policy, measure), self.band(policy, measure)
        if scaled is None or band is None:
            return None
        values = self._scaled(self.array(place, policy, measure), policy, measure)
        at = left_at(values, scaled)
        if at is None:
            return None
        mean = float(values[:, at].mean())
        value = float(np.exp(mean)) if self._is_log(policy, measure) else mean
        return Departure(place, policy, measure, at + 1, value, float(band.low[at]), float(band.high[at]))

    def _scaled_band(self, policy: str, measure: str) -> Band | None:
        plan = self.plan
        questions = plan.epochs * len(JUDGED) * len(plan.policies) * max(1, len(plan.candidates))
        resolution = 1 / max(1, self.num_validation) if measure.endswith("accuracy") else 0.0
        curves = self._scaled(self.array(plan.reference, policy, measure, twins=True), policy, measure)
        return band_of(curves, plan.seeds, questions, resolution)

    def _scaled(self, values: np.ndarray, policy: str, measure: str) -> np.ndarray:
        return np.log(values) if self._is_log(policy, measure) else values

    def _is_log(self, policy: str, measure: str) -> bool:
        """Whether the logarithm is judged: of losses, which chance multiplies, if all are positive."""
        if measure.endswith("accuracy"):
            return False
        values = [self.array(place, policy, measure, twins=True) for place in self.plan.places]
        return not any((each <= 0).any() for each in values)


def findings_of(plan: StudyPlan, curves: Sequence[Curves], num_validation: int) -> StudyFindings:
    bare = StudyFindings(plan, tuple(curves), (), (), False, num_validation)
    keys, shown = dict.fromkeys((c.run.place, c.run.policy) for c in curves), bare.shown
    summaries = []
    for place, policy in keys:
        runs = [c for c in curves if (c.run.place, c.run.policy) == (place, policy) and not c.run.twin]
        best, last = tuple(c.best(shown) for c in runs), tuple(float(c.of[shown][-1]) for c in runs)
        summaries.append(Summary(place, policy, shown, best, last, float(np.median([c.seconds for c in runs]))))
    is_judged = bool(plan.candidates) and bare.band(plan.policies[0], next(iter(JUDGED))) is not None
    departures = []
    for place in plan.candidates:
        for policy in plan.policies:
            found = [left for measure in JUDGED if (left := bare.departure(place, policy, measure)) is not None]
            departures += [min(found, key=lambda each: each.epoch)] if found else []
    return replace(bare, departures=tuple(departures), summaries=tuple(summaries), is_judged=is_judged)


def sentences(findings: StudyFindings) -> list[str]:
    """What there is to say of each candidate, one sentence a policy."""
    plan = findings.plan
    if not plan.candidates:
        return []
    if not findings.is_judged:
        return [
            f"Nothing was judged: {plan.seeds} x {plan.twins + 1} curves of the reference are too few for a band; give "
            "more --seeds or --twins."
        ]
    left = {(each.place, each.policy): each for each in findings.departures}
    said = []
    for place in plan.candidates:
        for policy in plan.policies:
            departure = left.get((place, policy))
            if departure is None:
                said.append(f"{place} in {policy} stays within what chance does to {plan.reference}.")
            else:
                said.append(f"{place} in {policy} {departed(departure, plan.reference)}.")
    return said


def departed(departure: Departure, reference: str) -> str:
    """leaves the band of CPU:0 at epoch 5: ..."""
    is_share = departure.measure.endswith("accuracy")
    number = percent if is_share else figure
    low, high = (max(0.0, departure.low), min(1.0, departure.high)) if is_share else (departure.low, departure.high)
    return (
        f"leaves the band of {reference} at epoch {departure.epoch}: {JUDGED[departure.measure]} "
        f"{number(departure.value)}, where chance explains {number(low)} to {number(high)}"
    )
