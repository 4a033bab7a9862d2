"""The untapped step is the judge: what watching changes, and whether it hides what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from diag.engine.step_run import StepRun
from diag.engine.telescope import Telescope


def is_hidden_by_watching(
    telescope: Telescope, run: StepRun, own_state: Sequence[Any], note: Callable[[str], None]
) -> bool:
    """Both lanes' step once more with nothing fetched, bit for bit; whether what is wrong showed only then.

    own_state: the candidate's before the step.  note: told what watching changes.  Leaves both lanes in the state
    after the step as it was watched; if it is hidden, the telescope watches no more.
    """
    is_hidden = False
    for lane, before, after in (
        (telescope.reference, run.before, run.after_reference),
        (telescope.candidate, own_state, run.after_candidate),
    ):
        changed = telescope.differs_again(lane, run.batch, before, run, tapped=False)
        if changed:
            untapped = lane.state()
            again = set(telescope.differs_again(lane, run.batch, before, run, tapped=True))
            for text in _changes(lane.name, changed, again):
                note(text)
            if lane is telescope.candidate and not set(changed) <= again:
                is_hidden = telescope.stop_watching_if_it_hides(run, untapped)
        lane.load(after)
    if is_hidden:
        note(
            "what is wrong with the candidate's step vanishes when its tensors are watched: from here on only its loss "
            "and its state are"
        )
    return is_hidden


def _changes(lane: str, changed: Sequence[str], unstable: Collection[str]) -> list[str]:
    """Which bits depend on being watched, and which on nothing that a step is given."""
    watched, found = [name for name in changed if name not in unstable], []
    if unstable:
        found.append(
            f"the {lane} is not deterministic: the same step run again leaves other bits in {len(unstable)} variables "
            f"({_some(sorted(unstable))})"
        )
    if watched:
        found.append(
            f"watching changes the {lane}: without taps the step leaves other bits in {len(watched)} variables "
            f"({_some(watched)})"
        )
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
