"""From a divergence of a recorded run to what cures it and whose fault it is: the trials, then their meaning."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diag.engine.attribution.cures import Change, changes_of, workarounds
from diag.engine.attribution.matrix import Answers, Names, Question, run_trials
from diag.engine.attribution.switches import REWRITING, switches_for
from diag.engine.places import Place
from diag.engine.recorded import RecordedRun
from diag.verdict.attribution import Attribution, Trial, blame_of, pairs_to_try, smallest_cures
from diag.verdict.findings import Divergence

Said = Callable[[Trial], None]


@dataclass(frozen=True)
class Plan:
    """What is to be tried of one step: the singles, the changes to the layer, and what is left out and why."""

    singles: tuple[Names, ...]
    changes: tuple[Change, ...]
    skipped: Mapping[str, str]

    @property
    def trials(self) -> list[Names]:
        return [(), *self.singles, *((change.name,) for change in self.changes)]


def plan(trace: Path, step: int, place: Place, layer: str | None, only: Collection[str] | None = None) -> Plan:
    """What can be tried of a recorded step at a place; of the switches `only` those named."""
    with RecordedRun(trace) as recorded:
        environment = recorded.reader.environment("candidate")
        tried, skipped = switches_for(place, environment)
        if only is not None:
            skipped |= {switch.name: "it was not asked for" for switch in tried if switch.name not in only}
            tried = [switch for switch in tried if switch.name in only]
        changes = changes_of(layer, recorded.program(step), recorded.reader.model_config, place)
    return Plan(tuple((switch.name,) for switch in tried), tuple(changes), skipped)


def states_of(trace: Path) -> tuple[str, ...]:
    """The lanes whose states a flagged step may have started from, the likeliest first."""
    with RecordedRun(trace) as recorded:
        return ("reference", "candidate") if recorded.follow == "free" else (recorded.follow,)


def attribute(
    trace: Path,
    step: int,
    place: Place,
    site: dict[str, Any] | None = None,
    said: Said = lambda trial: None,
    only: Collection[str] | None = None,
) -> tuple[Attribution, dict[str, Any] | None]:
    """Try everything on one recorded step; also the site that was judged, None where nothing is wrong.

    site: what was flagged (`bench.Site.to_dict`), None to take the first unit out of its bound.  only: the
    switches to try, None for all.

    Raises:
      UserError: the trace cannot answer.
    """
    begun = time.monotonic()
    planned = plan(trace, step, place, site["layer"] if site else None, only)
    for lane in states_of(trace):
        question = Question(trace, step, lane, place, site)
        answers = run_trials(question, planned.trials, said)
        if not answers.trials.get((), Trial(())).wrong:
            continue  # not from this lane's state
        planned = _with_layer(planned, question, answers, said)
        baseline = answers.trials[()]
        pairs = pairs_to_try(_of(answers, planned.singles), baseline)
        if pairs:
            question = Question(trace, step, lane, place, answers.site)
            answers.trials.update(run_trials(question, pairs, said).trials)
        found = _meaning(planned, answers, place, pairs)
        return _timed(found, begun), answers.site
    baseline = answers.trials.get((), Trial((), reason="it gave no result"))
    return _timed(Attribution(baseline, skipped=planned.skipped), begun), answers.site


def _with_layer(planned: Plan, question: Question, answers: Answers, said: Said) -> Plan:
    """Where the site had to be looked for, its layer's changes are tried once it is known."""
    if question.site is not None or answers.site is None:
        return planned
    again = plan(question.trace, question.step, question.place, answers.site["layer"])
    again = replace(planned, changes=again.changes)
    if again.changes:
        known = Question(question.trace, question.step, question.lane, question.place, answers.site, question.limit)
        answers.trials.update(run_trials(known, [(change.name,) for change in again.changes], said).trials)
    return again


def _of(answers: Answers, wanted: Sequence[Names]) -> list[Trial]:
    return [answers.trials[names] for names in wanted if names in answers.trials]


def _meaning(planned: Plan, answers: Answers, place: Place, pairs: Sequence[Names]) -> Attribution:
    baseline, switches = answers.trials[()], _of(answers, [*planned.singles, *pairs])
    changed = _of(answers, [(change.name,) for change in planned.changes])
    blame, why = blame_of(switches, baseline, place.execution, REWRITING)
    verified, failed = workarounds([*switches, *changed], baseline, planned.changes)
    return Attribution(
        baseline, (*switches, *changed), smallest_cures(switches, baseline), blame, why, verified, failed,
        planned.skipped,
    )  # fmt: skip


def _timed(found: Attribution, begun: float) -> Attribution:
    return replace(found, seconds=time.monotonic() - begun)


def refined(divergence: Divergence, found: Attribution) -> Divergence:
    """The divergence with what the trials showed: cures that were run, and the blame where they decide it.

    A blame that says more than kernel or rewriter (a random stream, a state update) is not touched.
    """
    if not found.is_reproduced:
        return divergence
    blame = found.blame if found.blame and divergence.blame in ("kernel", "graph-rewriter", "xla") else None
    return replace(divergence, cured_by=found.cures, blame=blame or divergence.blame)
