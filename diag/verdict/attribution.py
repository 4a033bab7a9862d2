"""From a table of switches and what came of the step under each: what cures it, and whose fault it is.

A trial runs the flagged step once more from its recorded state, under some switches, and holds three things
against float64 truth: the flagged op by itself, the layer unit that was flagged or holds the op, and the whole
step.  The baseline is the same with no switch: only what is wrong there can be cured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import combinations

MEASURES = OP, UNIT, STEP = ("op", "unit", "step")


class TrialOutcome(str, Enum):
    """Of one trial, against the baseline."""

    CURES = "cures"  # what was wrong is within its bound, and nothing else is out of it
    HELPS = "helps"  # the flagged unit is right, and the step is still wrong somewhere
    DIVERGES = "diverges"
    UNDECIDED = "undecided"  # what was wrong cannot be seen in this trial
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Trial:
    """One trial: excess is error over bound, more than 1 where rounding does not explain it.

    switches: by name, none for the baseline.  op: the flagged op alone; unit: the largest of its layer
    unit's outputs; step: the same of the whole step.  None: not looked at.  step_seconds: one step of the
    candidate.  reason: why it was not run; empty where it was.  skipped: nothing went wrong, it was left out.
    """

    switches: tuple[str, ...]
    op: float | None = None
    unit: float | None = None
    step: float | None = None
    step_seconds: float | None = None
    reason: str = ""
    skipped: bool = False

    @property
    def name(self) -> str:
        return " + ".join(self.switches) or "as recorded"

    @property
    def measured(self) -> dict[str, float]:
        found = ((name, getattr(self, name)) for name in MEASURES)
        return {name: excess for name, excess in found if excess is not None}

    @property
    def wrong(self) -> frozenset[str]:
        """What is out of its bound."""
        return frozenset(name for name, excess in self.measured.items() if not excess <= 1)  # NaN is wrong too


@dataclass(frozen=True)
class Workaround:
    """A cure as code to paste, which was run: `why` says what it changes and what it costs."""

    name: str
    code: str
    why: str
    trial: Trial


@dataclass(frozen=True)
class Attribution:
    """What the trials of one divergence say.

    cures: the smallest sets of switches that cure it, each a trial's name.  skipped: switch -> why it was not
    tried.  blame: None where the trials do not say.
    """

    baseline: Trial
    trials: tuple[Trial, ...] = ()
    cures: tuple[str, ...] = ()
    blame: str | None = None
    why_blamed: str = ""
    workarounds: tuple[Workaround, ...] = ()
    failed_workarounds: tuple[Workaround, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_reproduced(self) -> bool:
        """Whether the step diverges again in a fresh process, so that there is something to cure."""
        return bool(self.baseline.wrong)

    @property
    def is_flagged_right(self) -> bool:
        """Whether what was flagged, the first that is measured, is right by chance of the process, and not all is."""
        return self.is_reproduced and next(iter(self.baseline.measured)) not in self.baseline.wrong

    @property
    def wrong(self) -> tuple[str, ...]:
        """What is out of its bound with no switch touched, the smallest first."""
        return tuple(name for name in MEASURES if name in self.baseline.wrong)


def outcome(trial: Trial, baseline: Trial) -> TrialOutcome:
    """What a trial says of what is wrong in the baseline."""
    if trial.reason:
        return TrialOutcome.NOT_RUN
    seen = baseline.wrong & trial.measured.keys()
    if not seen:
        return TrialOutcome.UNDECIDED
    if not trial.wrong:
        return TrialOutcome.CURES
    first = next(name for name in MEASURES if name in seen)
    return TrialOutcome.DIVERGES if first in trial.wrong or first == "step" else TrialOutcome.HELPS


def smallest_cures(trials: Sequence[Trial], baseline: Trial) -> tuple[str, ...]:
    """The names of the curing trials with the fewest switches, in the order in which they were tried."""
    curing = [trial for trial in trials if outcome(trial, baseline) is TrialOutcome.CURES]
    fewest = min((len(trial.switches) for trial in curing), default=0)
    return tuple(trial.name for trial in curing if len(trial.switches) == fewest)


def pairs_to_try(trials: Sequence[Trial], baseline: Trial) -> list[tuple[str, ...]]:
    """Pairs of single switches, where no single one cures; those that left the least error come first.

    Eager execution stands for all that takes the rewriter away: no two passes of grappler off do more than all
    of it off, and that no more than eager.  So a pair is two switches of kernels, or one of them and eager.
    """
    singles = [trial for trial in trials if len(trial.switches) == 1 and not trial.reason]
    if any(outcome(trial, baseline) is TrialOutcome.CURES for trial in singles):
        return []
    paired = [trial for trial in singles if trial.switches[0] in (EAGER, *KERNEL_SWITCHES)]
    promising = sorted(paired, key=_remaining)
    return [(a.switches[0], b.switches[0]) for a, b in combinations(promising, 2)]


def implied(name: str, rewriting: Sequence[str], trials: Sequence[Trial], baseline: Trial) -> str:
    """Why a switch need not be tried after these trials; empty where it must.

    No pass of grappler off does more than all of it off, and that no more than eager execution, where ops are by
    themselves.
    """
    weaker = {GRAPPLER: (EAGER,), **dict.fromkeys(rewriting, (GRAPPLER, EAGER))}
    stronger = [t for t in trials if len(t.switches) == 1 and t.switches[0] in weaker.get(name, ())]
    failed = [t for t in stronger if outcome(t, baseline) in (TrialOutcome.DIVERGES, TrialOutcome.HELPS)]
    return f"{failed[0].name} does not cure it, and does more" if failed else ""


def _remaining(trial: Trial) -> float:
    """The largest excess that is left."""
    return max(trial.measured.values(), default=float("inf"))


# Switches that take the graph rewriter away and leave the kernels as they are.
EAGER, GRAPH, GRAPPLER = "execution=eager", "execution=graph", "grappler=off"
TF32 = "tf32=off"
KERNEL_SWITCHES = (TF32, "deterministic=on", "onednn=off")  # other kernels, the same graph


def blame_of(
    trials: Sequence[Trial], baseline: Trial, execution: str, rewriting: Sequence[str]
) -> tuple[str | None, str]:
    """(blame, why), from single switches; (None, why) where they leave it open.

    `rewriting` are the names of the switches of grappler's passes.  Where an op is out of its bound by
    itself, no rewriter made it wrong, whatever else cures it.
    """
    cures = [t.switches[0] for t in trials if len(t.switches) == 1 and outcome(t, baseline) is TrialOutcome.CURES]
    kernel = [switch for switch in KERNEL_SWITCHES if switch in cures]
    if not cures:
        return None, "no switch that was tried cures it"
    if OP in baseline.wrong:
        return ("kernel", f"the op is wrong by itself, and {kernel[0]} is enough") if kernel else (None, OP_ALONE)
    if TF32 in cures:  # a fusion chooses the kernel, but what is wrong is the kernel's arithmetic
        return "kernel", f"{TF32} is enough, which changes nothing but how products round"
    passes = [switch for switch in cures if switch in (GRAPPLER, *rewriting)]
    if execution == "xla" and not passes and (GRAPH in cures or EAGER in cures):
        return "xla", f"its ops are right by themselves, and {next(s for s in (GRAPH, EAGER) if s in cures)} is enough"
    if passes or EAGER in cures:
        cure = next((switch for switch in passes if switch != GRAPPLER), (*passes, EAGER)[0])
        return "graph-rewriter", f"its ops are right by themselves, and {cure} is enough"
    if kernel:
        return "kernel", f"{kernel[0]}, which chooses other kernels, is enough"
    return None, f"{cures[0]} cures it, which points at no part of the stack by itself"


OP_ALONE = "the op is wrong by itself, so no graph rewriter is to blame"
