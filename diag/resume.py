"""What a run that was killed was asked to do, from its trace, so that it goes on as it began.  No TensorFlow here."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diag.common.command import OneLineParser
from diag.common.user_code import names_function
from diag.common.wording import flag_of
from diag.errors import UserError
from diag.machine.hardware import restore_variables
from diag.options import TRACE
from diag.request import LockstepRequest, request_of

COMMAND = ["python", "-m", "diag.lockstep"]
OF_CODE = ("model", "data", "candidate_model", "reference", "candidate")
OF_THE_PRINT = ("quiet", "json")  # what is printed of a run may be asked for anew
TENSORBOARD = "tensorboard"  # a folder is written to because a person names it, not a file


def resumed_request(parser: OneLineParser, given: Sequence[str]) -> LockstepRequest:
    """The request of the run in the folder that `--resume` names among the `given` words, to go on with.

    Raises:
        UserError: there is none, it has ended by itself, another flag asks for something else than it was, or none
            names the Python files that it ran.
    """
    wanted = _only_given(parser, given)
    folder: Path = wanted.pop("resume")
    words, planned = _begun(folder)
    steps = wanted.pop("steps", planned)
    if steps < planned:
        raise UserError(
            f"--resume {folder} with --steps {steps}: the run has {planned} steps; ask for more, or for none"
        )
    begun = vars(parser.parse_args(words))
    _refuse_others(
        folder, {name: value for name, value in wanted.items() if name not in (*OF_THE_PRINT, TENSORBOARD)}, begun
    )
    _refuse_unnamed(folder, wanted, begun)
    if steps > planned:
        words = [*words, "--steps", str(steps)]
    options = parser.parse_args([*words, *(f"--{name}" for name in OF_THE_PRINT if wanted.get(name))])
    options.tensorboard = wanted.get(TENSORBOARD)
    return request_of(options, words, resumed=folder)


def _begun(folder: Path) -> tuple[list[str], int]:
    """What stood after `python -m diag.lockstep` when the run began, and how many steps that asked for.

    Environment variables that TensorFlow reads when it is loaded are set as they were then.
    """
    from traces.reader import TraceReader  # not for --help

    path = folder / "trace.h5"
    if not path.exists():
        raise UserError(
            f"--resume {folder}: there is no trace.h5 in it, so nothing of a run to go on with; name the folder that "
            "--out named, or start the run again"
        )
    if (folder / "report.json").exists():
        raise UserError(
            f"--resume {folder}: that run is finished, its report is there; to train further start a new run with "
            "more --steps"
        )
    with TraceReader(path) as trace:
        words, planned = trace.command, trace.layout.steps
        restore_variables(trace.environment("reference"))
    if words[: len(COMMAND)] != COMMAND or planned is None:
        raise UserError(f"--resume {folder}: the trace there does not say which command made it; run it again")
    return words[len(COMMAND) :], planned


def _only_given(parser: OneLineParser, words: Sequence[str]) -> dict[str, Any]:
    """What the words of a command line say, with no defaults."""
    nothing = argparse.Namespace(**dict.fromkeys(vars(parser.parse_args([])), argparse.SUPPRESS))
    options = parser.parse_args(list(words), nothing)
    return {name: value for name, value in vars(options).items() if value is not argparse.SUPPRESS}


def _refuse_others(folder: Path, wanted: dict[str, Any], begun: dict[str, Any]) -> None:
    then = begun | {"out": folder}
    for name, value in wanted.items():
        flag = _flag(name)
        if then[name] != value:
            raise UserError(
                f"--resume {folder} with {flag} {value}: the run there was begun with {then[name]}, and goes on as it "
                f"began; leave {flag} out, or start a new run"
            )


def _refuse_unnamed(folder: Path, wanted: dict[str, Any], begun: dict[str, Any]) -> None:
    """That a person names the Python files that will run, and says that they trust a file: a trace cannot."""
    named = [name for name in OF_CODE if _names_code(name, begun[name] or "")]
    flags = [flag_of(_flag(name), begun[name]) for name in named if name not in wanted]
    flags += ["--trust"] if begun["trust"] and "trust" not in wanted else []
    if flags:
        raise UserError(
            f"--resume {folder}: the run there was begun with {' '.join(flags)}; no code is run because a trace names "
            "it: if it is yours, give these flags again"
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _names_code(name: str, value: str) -> bool:
    """Whether what a flag names is Python code: a model's, data's, or that of a simulated place."""
    if name in ("model", "data", "candidate_model"):
        return names_function(value)
    return not value.startswith(TRACE) and re.search(r"\.py(:|$)", value) is not None
