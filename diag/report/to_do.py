"""What to do now: at most three things, each with a command or code to paste."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from diag.common.wording import duration, flag_of
from diag.verdict.findings import Divergence
from diag.verdict.result import RunResult

MOST = 3
MOST_SECONDS = 600
"""What diag.attribute takes where --seconds does not say otherwise."""


@dataclass(frozen=True)
class Action:
    """text: what it is for, one line.  code: a command line, or lines of Python."""

    text: str
    code: str


def to_do(result: RunResult, next_commands: Sequence[str] = ()) -> list[Action]:
    """In order of use; `next_commands` fill up."""
    first = result.first_fault
    if first is None:
        return [Action(_why(command), command) for command in next_commands[:MOST]]
    actions = [*_cure(result), *_small_program(result, first)]
    shown = {action.code for action in actions}
    answered = "--execution eager" if "execution=eager" in first.cured_by else " diag.attribute "
    others = [each for each in next_commands if not (each in shown or " diag.attribute " in each or answered in each)]
    more = [Action(_why(command), command) for command in others]
    return [*actions, *more][:MOST]


def _cure(result: RunResult) -> list[Action]:
    found = result.attribution
    if found is not None and found.workarounds:
        best = found.workarounds[0]
        return [Action(f"Work around it; run on this step, it cures it: {best.why}", best.code)]
    if found is not None or "trace" not in result.files:
        return []
    known = result.first_divergence is not None and result.first_divergence.cured_by
    what = "Find a cure that costs less" if known else "Find a cure"
    return [Action(f"{what} ({_time_for(result.cure_seconds)}):", attribute_command(result))]


def _time_for(seconds: float) -> str:
    """As long as it is expected to take, up to the limit that `diag.attribute` keeps to by itself."""
    return f"about {duration(seconds)}" if 0 < seconds < MOST_SECONDS else "at most 10 minutes"


def attribute_command(result: RunResult) -> str:
    """The command that tries what cures the first divergence of a trace."""
    files = [lane.place for lane in result.lanes if lane.name == "candidate" and ".py:" in lane.place]
    named = ["--place", *files] if files else []  # no file is run because a trace names it
    return shlex.join(["python", "-m", "diag.attribute", result.files["trace"], *named])


def _small_program(result: RunResult, first: Divergence) -> list[Action]:
    if any(lane.is_simulated for lane in result.lanes):
        return []  # on a real device there is no such fault
    command = reproducer_command(result, first)
    return [Action("Make a small program that shows the fault by itself:", command)] if command else []


def reproducer_command(result: RunResult, first: Divergence) -> str:
    """The command that writes a reproducer; "" where there is nothing smaller than the step."""
    where = first.where
    if "trace" not in result.files or where.unit == "step" or not (where.layer or where.unit == "op"):
        return ""
    name = f"--op {where.op_index}" if where.unit == "op" else flag_of("--layer", str(where.layer))
    real = [lane.place.split("/")[0] for lane in result.lanes if lane.name == "candidate" and not lane.is_simulated]
    place = shlex.quote(real[0] if real else "GPU:0")
    trace = shlex.quote(result.files["trace"])
    return f"python -m diag.replay {trace} --step {where.step} {name} --place {place} --emit reproducer.py"


def _why(command: str) -> str:
    """What a further command tells."""
    reasons = {
        "--substitute": "Is the loss right again with this unit computed by the reference?",
        "--follow free": "Does it grow as chaos does, each place on its own path?",
        "--follow candidate": "Look along the candidate's own path:",
        "--units op": "Look at every op of every step:",
        "--execution eager": "Is it right when nothing is compiled?",
        "--twins": "Chaos or fault? More copies of the reference tell them apart:",
        "traces diff": "See which tensors differ:",
        "--reference": "Run the second place again, live, against the first trace:",
    }
    return next((reason for flag, reason in reasons.items() if flag in command), "Then:")
