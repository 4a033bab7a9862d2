"""Whether the candidate's own path grows away from the reference's as chaos does, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from diag.common.wording import counted, figure, percent
from diag.numerics.envelope import FEWEST_TWINS
from diag.report.curves import BEYOND, CANDIDATE, ENVELOPE, TWINS
from diag.verdict.chaos import Curve, Exit, GrowthOutcome, Trajectories

MORE_TWINS = 9  # one in N + 1 curves of one kind is the largest: with 9, one in ten


def growth_sentence(trajectories: Trajectories) -> str:
    """The outcome, and what it says about the candidate."""
    steps = counted(len(trajectories.candidate.distance), "step")
    explained = f"one rounding explains ({_copies(trajectories)})"
    if trajectories.outcome is GrowthOutcome.IDENTICAL:
        return f"No growth: over {steps} on its own path the candidate has the reference's weights, bit for bit."
    if trajectories.outcome is GrowthOutcome.UNKNOWN:
        return f"Growth is not told from chaos: {_why_unknown(trajectories)}."
    found = trajectories.exit
    if found is None:
        text = f"Grows like chaos: over {steps} the candidate stays as near the reference as {explained}."
    elif trajectories.is_explained:
        text = f"The candidate is further away than {explained} {_exit(found)}: a divergence, not chaos."
    else:
        text = (
            f"Inconclusive: the candidate is further away than {explained} {_exit(found)}, but no unit of that step is "
            "out of its bound, be it from the reference's state or from the candidate's own. Either a rare decision "
            "(a ReLU on the other side of zero, another max-pool winner) that no copy met, or a fault that no unit "
            f"shows: --twins {max(MORE_TWINS, 2 * len(trajectories.twins))} and another --seed tell them apart."
        )
    return f"{text} {_few(trajectories)}".rstrip()


def _copies(trajectories: Trajectories) -> str:
    number = len(trajectories.twins)
    if number == 1:
        return "a copy of the reference, changed by one rounding"
    return f"{number} copies of the reference, each changed by one rounding"


def growth_legend(trajectories: Trajectories) -> str:
    """What the marks of `curves.plot` mean."""
    marks = [f"{CANDIDATE} candidate", f"{TWINS} {_copies(trajectories)}", f"{ENVELOPE} what they explain"]
    if any(d == math.inf for d in trajectories.candidate.distance):
        marks.append(f"{BEYOND} not finite")
    return "   ".join(marks)


def growth_facts(trajectories: Trajectories) -> list[tuple[str, str]]:
    """(what, figures of the candidate and of the twins) at the end of the run."""
    candidate, twins = trajectories.candidate, trajectories.twins
    facts = [
        ("weights apart", _against(candidate.distance[-1], [twin.distance[-1] for twin in twins], figure)),
        ("losses apart", _against(candidate.loss_difference[-1], [twin.loss_difference[-1] for twin in twins], figure)),
    ]
    of_twins = [share for twin in twins if (share := twin.mean_disagreement) is not None]
    of_candidate = candidate.mean_disagreement
    if of_candidate is not None:
        facts.append(("other class", f"{_against(of_candidate, of_twins, percent)} of the samples of all steps"))
    return facts


def _against(of_candidate: float, of_twins: Sequence[float], wording: Callable[[float], str]) -> str:
    low, high = wording(min(of_twins)), wording(max(of_twins))
    return f"candidate {wording(of_candidate)}, copies {low}" + (f" to {high}" if low != high else "")


def _exit(found: Exit) -> str:
    if math.isinf(found.factor):
        return f"at step {found.step}, where its weights are not finite"
    text = f"at step {found.step} by a factor of {figure(found.factor)}"
    if figure(found.largest) == figure(found.factor):
        return text
    if math.isinf(found.largest):
        return f"{text} (its weights are not finite at step {found.largest_at})"
    return f"{text} (at most {figure(found.largest)}, at step {found.largest_at})"


def _why_unknown(trajectories: Trajectories) -> str:
    curves: tuple[Curve, ...] = (trajectories.candidate, *trajectories.twins)
    if any(math.isnan(d) for curve in curves for d in curve.distance):
        return "the reference's own weights are not finite"
    return "no copy ever moved, which happens where every weight is zero"


def _few(trajectories: Trajectories) -> str:
    if len(trajectories.twins) >= FEWEST_TWINS:
        return ""
    return f"Fewer than {FEWEST_TWINS} copies hardly have a spread: take --twins {FEWEST_TWINS} or more."
