"""What a lockstep run prints at its end, and what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from diag.common.jsonable import to_text
from diag.common.wording import flag_of
from diag.request import LockstepRequest
from diag.verdict.result import RunResult

DIVERGENCE = 1
MORE_TWINS = 9  # of ten curves of one kind each is the largest in one of ten runs


def print_result(result: RunResult, request: LockstepRequest) -> int:
    """Print the report, or report.json alone; gives the exit code."""
    from diag.common.terminal import ReportConsole
    from diag.report import json_report, substitution, terminal

    if request.json:
        print(to_text(json_report.report(result)), end="")
    else:
        further = next_commands(result, request.command, request.script) if request.module else []
        terminal.render(result, ReportConsole(), further, request.verbose)
        if result.substitution is not None:  # asked for, so always shown
            substitution.render(result.substitution, ReportConsole())
    return DIVERGENCE if result.verdict == "divergence" else 0


def next_commands(result: RunResult, given: Sequence[str], script: Sequence[str] = ()) -> list[str]:
    """What to try next, from what was found; `given` and `script` as in the request."""
    place = given.index("--out") if "--out" in given else len(given)
    words = ["python", "-m", "diag.run" if script else "diag.lockstep", *given[:place], *given[place + 2 :]]

    def again(*flags: str) -> str:
        return shlex.join([*words, *flags, *script])

    first = result.first_divergence
    if first is None:
        further = [again("--follow", "free")]
        if result.twins is not None:
            further = [again("--twins", str(MORE_TWINS))] if result.twins.is_inconclusive else []
        return [*further, again("--units", "op")]
    commands = []
    if result.attribution is None and "trace" in result.files:
        files = [lane.place for lane in result.lanes if lane.name == "candidate" and ".py:" in lane.place]
        named = ["--place", *files] if files else []  # no file is run because a trace names it
        commands.append(shlex.join(["python", "-m", "diag.attribute", result.files["trace"], *named]))
    elif first.where.unit in ("layer", "op") and first.where.layer and "--substitute" not in given:
        name = f"{first.where.variable or first.where.layer}=reference"
        commands.append(again(*shlex.split(flag_of("--substitute", name))))
    if first.where.unit != "op" and "--units" not in given:
        commands.append(again("--units", "op"))
    if "--execution" not in given and first.blame in ("graph-rewriter", "xla"):
        commands.append(again("--execution", "eager"))
    return [*commands, again("--follow", "candidate")] if "--follow" not in given else commands
