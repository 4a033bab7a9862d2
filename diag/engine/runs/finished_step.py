"""One step of a run, and what was observed of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from diag.engine.lanes.step_results import StepRun, UnitRun
from diag.engine.lockstep.propagated import Propagated
from diag.engine.lockstep.telescope import Telescope
from diag.verdict.findings import Observation, Verdict


@dataclass
class FinishedStep:
    """One step of the run: what both lanes computed, and what was observed of its units and of its ops.

    wrong_units: those with an output out of its bound; of the others nothing is held.
    """

    run: StepRun
    telescope: Telescope
    observations: list[Observation] = field(default_factory=list)
    ops: list[Observation] = field(default_factory=list)
    wrong_units: list[UnitRun] = field(default_factory=list)

    @property
    def flagged(self) -> list[Observation]:
        """Outputs of units out of their bound."""
        return [o for o in self.observations if o.verdict is Verdict.DIVERGENCE]

    def judge_units(self, truth_wanted: bool, propagated: Propagated) -> None:
        """Every unit by itself, one after the other."""
        for unit_run in self.telescope.run_units(self.run):
            found = self.telescope.judge.judge(unit_run, truth_wanted, propagated)
            self.observations += found
            if any(o.verdict is Verdict.DIVERGENCE for o in found):
                self.wrong_units.append(unit_run)

    @property
    def losses(self) -> tuple[float, float]:
        """Of the reference and of the candidate; in prediction what stands for them (`Program.figure`)."""
        run, figure = self.run, self.telescope.program.figure
        return figure(run.compared.values), figure(run.candidate.values)
