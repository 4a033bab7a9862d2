"""What to try next after a run, as command lines."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from diag.common.modes import TRAIN
from diag.common.wording import flag_of
from diag.report.to_do import attribute_command
from diag.verdict.result import RunResult

MORE_TWINS = 9  # of ten curves of one kind each is the largest in one of ten runs
LOCKSTEP = ["python", "-m", "diag.lockstep"]


def next_commands(result: RunResult, given: Sequence[str], script: Sequence[str] = ()) -> list[str]:
    """What to try next, from what was found; `given` are the flags of the run, before those of a `script`."""
    place = given.index("--out") if "--out" in given else len(given)
    words = ["python", "-m", "diag.run" if script else "diag.lockstep", *given[:place], *given[place + 2 :]]

    def again(*flags: str) -> str:
        return shlex.join([*words, *flags, *script])

    first, is_trained = result.first_fault, result.mode == TRAIN
    if first is None and result.weights is not None:
        return []  # which weights differ has been told
    if first is None:
        further = [again("--follow", "free")] if is_trained else []
        if result.twins is not None:
            further = [again("--twins", str(MORE_TWINS))] if result.twins.is_inconclusive else []
        return [*further, again("--units", "op")]
    commands = []
    if result.attribution is None and "trace" in result.files:
        commands.append(attribute_command(result))
    elif first.where.unit in ("layer", "op") and first.where.layer and "--substitute" not in given and is_trained:
        name = f"{first.where.variable or first.where.layer}=reference"
        commands.append(again(*shlex.split(flag_of("--substitute", name))))
    if first.where.unit != "op" and "--units" not in given:
        commands.append(again("--units", "op"))
    if "--execution" not in given and first.blame in ("graph-rewriter", "xla"):
        commands.append(again("--execution", "eager"))
    return [*commands, again("--follow", "candidate")] if "--follow" not in given and is_trained else commands


def next_commands_of(result: RunResult, command: Sequence[str]) -> list[str]:
    """The same from the whole command of a recorded run; none of one whose flags a script's follow."""
    return next_commands(result, command[3:]) if list(command[:3]) == LOCKSTEP else []
