"""Which steps and units deserve a closer look, and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from diag.common.carried import Carried
from diag.engine.lockstep.propagated import Propagated
from diag.engine.runs.findings import Findings
from diag.engine.truth.unit_judge import NEAR_ITS_BOUND
from diag.verdict.findings import Observation, Verdict

# Full looks with the microscope in one run, at units out of bound and as many at others that call for one: each
# costs a few eager steps.
MAX_ZOOMS = 3
# A whole step that differs this much more than checked steps did, innocent ones or of a fault that was named by then,
# is looked at closely.
SUSPICIOUS_GROWTH = 8.0


class Attention(Carried):
    """What has been seen of a run so far, and what in a step is new."""

    CARRIED = ("_near_bound", "_has_differed", "_num_curious", "_explained", "_worst_explained")

    def __init__(self, findings: Findings, follow: str, units: str) -> None:
        self.findings, self.follow, self.units = findings, follow, units
        self._near_bound: set[Any] = set()
        self._has_differed: dict[Any, bool] = {}  # by output
        self._num_curious = 0
        self._explained: set[Any] = set()  # locations of units whose fault was named, across layers maybe
        self._worst_explained: dict[tuple[str, str], float] = {}

    def is_suspicious(self, propagated: Propagated) -> bool:
        """Whether a whole step differs more than steps did that are explained."""
        if self.follow == "free":
            return any(s.num_mismatched for s in propagated.glances.values())
        return any(
            s.num_mismatched
            or s.normwise_relative_error > SUSPICIOUS_GROWTH * max(self._worst_explained.get(key, 0.0), 2.0**-20)
            for key, s in propagated.glances.items()
            if key[0] in ("activations", "gradients", "loss")
            or (key[0] == "weight" and ("gradients", key[1]) not in propagated)
        )

    def learn(self, propagated: Propagated, is_checked: bool, is_clean: bool) -> None:
        """How much a step differs that is explained: by rounding, or by a fault that was named."""
        if (is_clean and not self._worst_explained) or (is_checked and (is_clean or self.findings.divergences)):
            for key, s in propagated.glances.items():
                self._worst_explained[key] = max(self._worst_explained.get(key, 0.0), s.normwise_relative_error)

    def calls_for_microscope(self, observations: Sequence[Observation]) -> bool:
        """A unit out of bound and not explained yet; the first step that differs; a unit that has not differed before.

        The bound on a single op is tighter than that on a layer: an op may be wrong by little, at one step.
        """
        flagged = [o for o in observations if o.verdict is Verdict.DIVERGENCE]
        if self.units == "step" and not flagged:
            return False
        if len(self.findings.zoomed) - self._num_curious < MAX_ZOOMS and any(
            not self._is_explained(o) for o in flagged
        ):
            return True
        if flagged or self._num_curious >= MAX_ZOOMS:
            return False
        differing = [o for o in observations if o.verdict is Verdict.ROUNDING]
        if differing and not self.findings.zoomed:
            return True
        if any(self._has_differed.get(_output_of(o)) is False for o in differing):
            return True
        return any(o.excess > NEAR_ITS_BOUND and o.where.location not in self._near_bound for o in differing)

    def looked(self, observations: Sequence[Observation]) -> None:
        """The microscope was used on a step with these observations."""
        self._num_curious += all(o.verdict is not Verdict.DIVERGENCE for o in observations)
        self._near_bound |= {o.where.location for o in observations if o.excess > NEAR_ITS_BOUND}

    def explain(self, locations: Collection[Any]) -> None:
        """The faults of the units at these locations are named."""
        self._explained.update(locations)

    def saw(self, observations: Sequence[Observation]) -> None:
        """Remember which outputs of a finished step differed."""
        for o in observations:
            key = _output_of(o)
            self._has_differed[key] = self._has_differed.get(key, False) or o.verdict is not Verdict.IDENTICAL

    def _is_explained(self, observation: Observation) -> bool:
        """One fault is looked at once."""
        if observation.where.location in self._explained:
            return True
        unit = (observation.where.layer, observation.where.variable)
        return any((d.where.layer, d.where.variable) == unit for d in self.findings.divergences)


def _output_of(observation: Observation) -> Any:
    """One output of a unit, whatever the step: a layer's location does not say which of its outputs."""
    return (*observation.where.location, observation.where.output)
