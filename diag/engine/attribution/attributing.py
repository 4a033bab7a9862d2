"""From a divergence of a recorded run to what cures it and whose fault it is: the trials, then their meaning."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diag.engine.attribution.cures import Change, changes_of, workarounds
from diag.engine.attribution.dtypes import DTYPE
from diag.engine.attribution.edits import ON_CPU
from diag.engine.attribution.matrix import Names, OnTrial, TrialRequest, TrialResults, run_trials
from diag.engine.recordings.recorded_run import RecordedRun
from diag.engine.step.program import Program
from diag.machine.places import Place
from diag.machine.switches import REWRITING, switches_for
from diag.verdict.attribution import (
    OP,
    Attribution,
    Trial,
    TrialOutcome,
    blame_of,
    outcome,
    pairs_to_try,
    smallest_cures,
)
from diag.verdict.findings import Divergence

FUSING = ("graph-rewriter", "xla")  # blames of what fuses; a fusion of one dtype may be none of another


@dataclass(frozen=True)
class FlaggedStep:
    """A recorded step and the place to try it at.

    lanes: whose recorded states it may have started from, the likeliest first.  environment: the recorded
    candidate's.  config: the model's, or None.  layers: all that are wrong in the same way as the first, chain: those
    whose ops are wrong together with the first one's.  is_trusted: as of a RecordedRun.
    """

    trace: Path
    step: int
    place: Place
    lanes: tuple[str, ...]
    environment: Mapping[str, Any]
    program: Program
    config: Mapping[str, Any] | None
    layers: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    is_trusted: bool = False


def line_of(trial: Trial) -> str:
    """One line, as soon as a trial has ended."""
    if trial.reason:
        return f"{'not tried' if trial.skipped else 'tried'}: {trial.name}: {trial.reason}"
    largest = max(trial.measured.values(), default=float("nan"))
    return f"tried: {trial.name}: error over bound {largest:.2g}"


def wrong_alike(divergences: Sequence[Divergence]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(layers, chain) of a FlaggedStep, from the divergences of one step."""
    kinds = [(d.blame, d.cause, d.where.unit) for d in divergences]
    alike = [d for d, kind in zip(divergences, kinds, strict=True) if kind == kinds[0]]
    layers = [d.where.layer for d in alike if d.where.layer and d.where.variable is None and d.where.unit == "layer"]
    chain = [layer for d in alike if d.fused is not None for layer in d.fused.layers]
    return tuple(dict.fromkeys(layers)), tuple(dict.fromkeys(chain))


def flagged_step_in(
    trace: Path,
    step: int,
    place: Place | None,
    alike: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
    is_trusted: bool = False,
) -> FlaggedStep:
    """A step of a trace, at a place or where its candidate was recorded; alike: its layers and chain.

    is_trusted: as of a RecordedRun.
    """
    with RecordedRun(trace, is_trusted) as recorded:
        return FlaggedStep(
            trace,
            step,
            place or recorded.place_to_run("candidate"),
            lanes_of(recorded.follow),
            recorded.reader.environment("candidate"),
            recorded.program(step),
            recorded.reader.model_config,
            *alike,
            is_trusted=is_trusted,
        )


def lanes_of(follow: str) -> tuple[str, ...]:
    """Whose state a flagged step started from: each lane's own where none follows the other."""
    return ("reference", "candidate") if follow == "free" else (follow,)


@dataclass(frozen=True)
class Plan:
    """What is to be tried of one step: the singles, the changes to the layer, and what is left out and why."""

    singles: tuple[Names, ...]
    changes: tuple[Change, ...]
    skipped: Mapping[str, str]
    is_of_an_op: bool = False

    @property
    def trials(self) -> list[Names]:
        return [(), *self.singles, *((change.name,) for change in self.changes)]


def plan(
    flagged: FlaggedStep,
    location: Mapping[str, Any] | None,
    only: Collection[str] | None = None,
    is_op: bool | None = None,
) -> Plan:
    """What can be tried of a recorded step; of the switches `only` those named.

    is_op: whether an op is wrong by itself; None: whether the location is one.  A layer's code is changed where the
    unit is in the layer itself, not in the update of its variable.
    """
    is_layer = location is not None and location["variable"] is None and location["layer"]
    layers = dict.fromkeys([location["layer"], *flagged.layers]) if location is not None and is_layer else ()
    if is_op is None:
        is_op = location is not None and location["op_index"] is not None and only is None
    tried, skipped = switches_for(flagged.place, flagged.environment, is_op)
    if only is not None:
        skipped |= {switch.name: "it was not asked for" for switch in tried if switch.name not in only}
        tried = [switch for switch in tried if switch.name in only]
    chain = [] if is_op else list(dict.fromkeys([*flagged.chain, *layers]))
    changes = changes_of(tuple(layers), chain, flagged.program, flagged.config, flagged.place)
    if is_op:  # what is no longer fused is still wrong
        changes = [change for change in changes if change.name.startswith(ON_CPU)]
    return Plan(tuple((switch.name,) for switch in tried), tuple(changes), skipped, is_op)


def attribute(
    flagged: FlaggedStep,
    location: dict[str, Any] | None = None,
    on_trial: OnTrial = lambda trial: None,
    only: Collection[str] | None = None,
    seconds: float = math.inf,
    is_brief: bool = False,
) -> tuple[Attribution, dict[str, Any] | None]:
    """Try everything on one recorded step; also the location that was judged, None where nothing is wrong.

    location: what was flagged (`FlaggedUnit.to_dict`), None to take the first unit out of its bound.  only: the
    switches to try, None for all.  seconds: what has not been tried by then is left out, and said to be.  is_brief:
    no trial goes on once it is known to be no cure, so that it has fewer figures.

    Raises:
      UserError: the trace cannot answer.
    """
    begun = time.monotonic()
    planned = plan(flagged, location, only)
    results = TrialResults()
    for lane in flagged.lanes:
        request = TrialRequest(
            flagged.trace, flagged.step, lane, flagged.place, location, deadline=begun + seconds, is_brief=is_brief,
            is_trusted=flagged.is_trusted,
        )  # fmt: skip
        results = run_trials(request, planned.trials, on_trial)
        if not _baseline(results).wrong:
            continue  # not from this lane's state
        request = replace(request, location=results.location, known=tuple(results.trials.values()))
        if location is not None and planned.is_of_an_op and OP not in _baseline(results).wrong:
            more = plan(flagged, location, only, is_op=False)  # run again, the op is right by itself
            left = [names for names in more.singles if names not in results.trials]
            results.trials.update(run_trials(request, left, on_trial).trials)
            planned = more
        if location is None and results.location is not None:
            planned = _with_changes(planned, flagged, request, results, on_trial)
        pairs = pairs_to_try(_of(results, planned.singles), _baseline(results)) if only is None else []
        if pairs:
            results.trials.update(run_trials(request, pairs, on_trial).trials)
        return _timed(_meaning(planned, results, flagged.place, pairs), begun), results.location
    return _timed(Attribution(_baseline(results), skipped=planned.skipped), begun), results.location


def _baseline(results: TrialResults) -> Trial:
    return results.trials.get((), Trial((), reason="it gave no result"))


def _with_changes(
    planned: Plan, flagged: FlaggedStep, request: TrialRequest, results: TrialResults, on_trial: OnTrial
) -> Plan:
    """Where the location had to be looked for, its layer's changes are tried once it is known."""
    assert request.location is not None
    changes = plan(flagged, request.location).changes
    if changes:
        results.trials.update(run_trials(request, [(change.name,) for change in changes], on_trial).trials)
    return replace(planned, changes=changes)


def _of(results: TrialResults, wanted: Sequence[Names]) -> list[Trial]:
    return [results.trials[names] for names in wanted if names in results.trials]


def _meaning(planned: Plan, results: TrialResults, place: Place, pairs: Sequence[Names]) -> Attribution:
    baseline, wanted = results.trials[()], [*planned.singles, *pairs]
    switches = [trial for trial in _of(results, wanted) if not trial.skipped]
    changed = [t for t in _of(results, [(change.name,) for change in planned.changes]) if not t.skipped]
    left_out = {trial.name: trial.reason for trial in results.trials.values() if trial.skipped}
    blame, why = blame_of(switches, baseline, place.execution, REWRITING)
    if blame not in FUSING:
        coarse = [trial for trial in changed if trial.switches[0].startswith(f"{DTYPE}:")]
        changed = [trial for trial in changed if trial not in coarse]
        left_out |= {trial.name: "fewer digits may hide what is wrong, where no fusion is to blame" for trial in coarse}
    verified, failed = workarounds([*switches, *changed], baseline, planned.changes)
    return Attribution(
        baseline,
        (*switches, *changed),
        smallest_cures(switches, baseline),
        blame,
        why,
        verified,
        failed,
        {**planned.skipped, **left_out},
    )


def _timed(found: Attribution, begun: float) -> Attribution:
    return replace(found, seconds=time.monotonic() - begun)


def refined(divergence: Divergence, found: Attribution) -> Divergence:
    """The divergence with what the trials showed: cures that were run, and the blame where they decide it.

    A cure of the op alone, found while the run went on, stays where nothing cures all of it.  A blame that says more
    than kernel or rewriter (a random stream, a state update) is not touched.
    """
    if not found.is_reproduced:
        return divergence
    helps = {t.name for t in found.trials if outcome(t, found.baseline) in (TrialOutcome.CURES, TrialOutcome.HELPS)}
    cures = found.cures or tuple(name for name in divergence.cured_by if name in helps)
    blame = found.blame if found.blame and divergence.blame in ("kernel", "graph-rewriter", "xla") else None
    return replace(divergence, cured_by=cures, blame=blame or divergence.blame)
