"""Switch by verdict: what was tried on the flagged step, what cured it, and what to paste."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from diag.common.text import as_text
from diag.common.wording import figure
from diag.report.words import over_bound
from diag.verdict.attribution import Attribution, Trial, TrialOutcome, Workaround, outcome

WORDS = {
    TrialOutcome.CURES: "cures it",
    TrialOutcome.HELPS: "the unit is right, the step is not",
    TrialOutcome.DIVERGES: "still wrong",
    TrialOutcome.UNDECIDED: "cannot be told",
    TrialOutcome.NOT_RUN: "could not be run",
}
STYLES = {
    TrialOutcome.CURES: "green",
    TrialOutcome.HELPS: "yellow",
    TrialOutcome.DIVERGES: "",
    TrialOutcome.NOT_RUN: "dim",
}
LONGEST_REASON = 400  # characters: that of an op that TensorFlow lacks is half as long
MAX_CODES = 3


class Code(Text):
    """To be pasted, so not to be broken, however wide the console."""


def render(found: Attribution, console: Console) -> None:
    for part in sections(found):
        console.print(part, soft_wrap=isinstance(part, Code))


def sections(found: Attribution) -> Iterator[RenderableType]:
    """The table, the sentence, and the verified workarounds."""
    if not found.is_reproduced:
        yield Text(not_reproduced(found), style="yellow")
        return
    yield _table(found)
    if found.is_flagged_right:
        yield Text(flagged_right(found), style="yellow")
    for trial in found.trials:
        if trial.reason:
            yield Text(f"{trial.name} could not be run: {_shortened(trial.reason)}", style="dim")
    if found.skipped:
        yield Text(f"not tried: {_by_reason(found.skipped)}", style="dim")
    yield Text(as_text(sentence(found)), style="bold")
    yield from _workarounds(found)


def not_reproduced(found: Attribution) -> str:
    if found.baseline.reason:
        return f"Not attributed: the step could not be run again: {found.baseline.reason}"
    return (
        "Not attributed: run again in a fresh process from its recorded state, the step is within its bounds. What "
        "was wrong depends on something that the state does not hold, such as earlier steps or chance."
    )


def flagged_right(found: Attribution) -> str:
    flagged = "The flagged op" if found.baseline.op is not None else "The layer unit that was flagged"
    return (
        f"{flagged} is right in this process, where the {' and the '.join(found.wrong)} is not: "
        "on a GPU the code for an op may be chosen anew in every process. What cures, cures what is wrong here."
    )


def sentence(found: Attribution) -> str:
    """The smallest cures and what they say of the blame."""
    if not found.cures:
        return "No switch that was tried cures it; the blame stays as it was."
    ways = " or ".join(found.cures)
    blame = f"blame the {found.blame}" if found.blame else "the blame stays as it was"
    return f"Cured by {ways}: {blame}, since {found.why_blamed}."


def _table(found: Attribution) -> Table:
    title = Text(f"The flagged step under switches, errors over their bounds ({found.seconds:.0f} s)", style="bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0),
                  pad_edge=False, header_style="dim")  # fmt: skip
    table.add_column("switch", overflow="fold")
    measures = [m for m in ("op", "unit", "step") if any(m in t.measured for t in (found.baseline, *found.trials))]
    for measure in (*measures, "ms a step"):
        table.add_column(measure, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    table.add_row(*_cells(found.baseline, measures), "as recorded: wrong", style="bold")
    for trial in found.trials:
        seen = outcome(trial, found.baseline)
        table.add_row(*_cells(trial, measures), WORDS[seen], style=STYLES.get(seen, ""))
    return table


def _cells(trial: Trial, measures: list[str]) -> list[str]:
    figures = [trial.measured.get(measure) for measure in measures]
    seconds = "" if trial.step_seconds is None else figure(1000 * trial.step_seconds)
    return [trial.name if trial.switches else "none", *("" if x is None else over_bound(x) for x in figures), seconds]


def _workarounds(found: Attribution) -> Iterator[RenderableType]:
    if not found.workarounds:
        return
    yield Text("Workarounds, each run on this step; the cheapest first", style="bold")
    for number, made in enumerate(found.workarounds[:MAX_CODES]):
        yield Text(f"{number + 1}. {made.name}: {made.why}")
        yield Code("\n".join(f"   {line}" for line in made.code.splitlines()), style="cyan")
    more = found.workarounds[MAX_CODES:]
    if more:
        yield Text(f"also: {', '.join(made.name for made in more)}", style="dim")
    for made in found.failed_workarounds:
        yield Text(f"run, and no cure: {made.name}", style="dim")


def _by_reason(skipped: Mapping[str, str]) -> str:
    names: dict[str, list[str]] = {}
    for name, why in skipped.items():
        names.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(those)} ({why})" for why, those in names.items())


def _shortened(text: str) -> str:
    return textwrap.shorten(as_text(text), LONGEST_REASON, placeholder=" ...")


def report(found: Attribution) -> dict[str, Any]:
    """The same for report.json: every trial with its outcome."""
    return {
        "reproduced": found.is_reproduced,
        "flagged_is_right": found.is_flagged_right,
        "baseline": _trial(found.baseline, found.baseline),
        "trials": [_trial(trial, found.baseline) for trial in found.trials],
        "skipped": dict(found.skipped),
        "cures": list(found.cures),
        "blame": found.blame,
        "why": found.why_blamed,
        "workarounds": [_workaround(made) for made in found.workarounds],
        "failed_workarounds": [made.name for made in found.failed_workarounds],
        "seconds": found.seconds,
    }


def _trial(trial: Trial, baseline: Trial) -> dict[str, Any]:
    return {**dataclasses.asdict(trial), "outcome": outcome(trial, baseline).value}


def _workaround(made: Workaround) -> dict[str, Any]:
    return {"name": made.name, "code": made.code, "why": made.why, "step_seconds": made.trial.step_seconds}
