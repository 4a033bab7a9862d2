"""Run one recorded step under a matrix of switches: which one cures it, and which part of the stack is to blame.

The trace is enough by itself.  Every trial starts from the recorded state, in a process that is told the switch
before it loads TensorFlow, and is held against float64 truth.  Exit code 0: a cure was found, or nothing is
wrong, 1: nothing that was tried cures it, 2: the question could not be asked, 3: a bug of ours.

A trace may come from a stranger: its step is run only if all that its ops do is to compute (docs/SECURITY.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.common.callable_module import called_from_python
from diag.common.child import add_memory_flag, in_child, limits_of
from diag.common.command import (
    OneLineParser,
    add_trust_flag,
    command_parser,
    file_path,
    not_negative,
    positive,
    run_command,
)
from diag.common.jsonable import json_safe, to_text
from diag.common.keywords import options_from_keywords
from diag.common.terminal import ReportConsole
from diag.common.text import as_text
from diag.errors import UserError
from diag.guest import as_guest
from diag.machine.hardware import not_restored
from diag.machine.places import Place, parse_place
from diag.machine.switches import SWITCHES
from diag.machine.tensorflow_import import import_tensorflow
from diag.report import attribution as reporting
from diag.verdict.attribution import Attribution
from diag.verdict.findings import NOBODY, Divergence
from traces.reader import TraceReader

if TYPE_CHECKING:
    from diag.engine.attribution.attributing import FlaggedStep

NO_CURE = 1
LONGEST = 600  # seconds
MORE = 300  # seconds, until what is left out is said, and a trial that hangs is ended


@dataclass(frozen=True)
class AttributionRequest:
    """What to try on which step; step: None for that of the first divergence.  place: None for the candidate's own.

    only: names of switches, None for all.  seconds: what has not been tried by then is left out.
    """

    trace: Path
    step: int | None
    place: Place | None
    only: tuple[str, ...] | None
    seconds: int
    is_trusted: bool
    json: bool = False


def parser() -> OneLineParser:
    parser = command_parser("diag.attribute", __doc__)
    add_flags(parser)
    add_memory_flag(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    return parser


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All that can be asked, by a command or from Python."""
    parser.add_argument("trace", metavar="TRACE", type=file_path, help="a trace.h5 of diag.lockstep")
    parser.add_argument(
        "--step", metavar="K", type=not_negative, help="the step (default: that of the first divergence)"
    )
    parser.add_argument("--place", metavar="PLACE", help="where instead of the candidate's place")
    parser.add_argument("--switches", metavar="NAMES", help=f"only these, with commas between: {', '.join(SWITCHES)}")
    parser.add_argument(
        "--seconds",
        type=positive,
        default=LONGEST,
        metavar="N",
        help="what has not been tried by then is left out (default: %(default)s)",
    )
    add_trust_flag(parser)


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("attribute", parser(), lambda options: run(request_of(options)), arguments)


def request_of(options: argparse.Namespace) -> AttributionRequest:
    """The request that flags make; raises UserError where it cannot be asked so."""
    return AttributionRequest(
        options.trace,
        options.step,
        None if options.place is None else parse_place(options.place),
        switch_names(options.switches),
        options.seconds,
        options.trust,
        getattr(options, "json", False),
    )


def run(request: AttributionRequest) -> int:
    console = ReportConsole(quiet=request.json)

    def on_trial(line: str) -> None:
        if not request.json:
            print(as_text(line), file=sys.stderr)

    def on_note(text: str) -> None:
        console.print(f"note: {text}")

    flagged, location, attribution = attributed(request, on_trial, on_note)
    if request.json:
        document = {
            "trace": str(request.trace), "step": flagged.step, "place": str(flagged.place), "site": location
        }  # fmt: skip
        print(to_text(json_safe({**document, **reporting.report(attribution)})))
    reporting.render(attribution, console)
    return NO_CURE if attribution.is_reproduced and not attribution.workarounds else 0


Say = Callable[[str], None]


def attributed(
    request: AttributionRequest, on_trial: Say, on_note: Say
) -> tuple[FlaggedStep, dict[str, Any] | None, Attribution]:
    """The step that was tried, what was found wrong in it, and what the trials say.

    on_trial, on_note: are given a line each, the first as soon as a trial has ended.

    Raises:
        UserError: the trace cannot answer.
    """
    TraceReader(request.trace).close()  # what is no trace is refused before TensorFlow is loaded
    import_tensorflow()
    step, location, alike = flagged_in(request.trace, request.step)
    from diag.engine.attribution.attributing import attribute, flagged_step_in, line_of
    from diag.engine.lanes.lane import check_device

    flagged = flagged_step_in(request.trace, step, request.place, alike, request.is_trusted)
    check_device(flagged.place)  # each trial would only say that it cannot be made
    if left_out := not_restored(flagged.environment):
        on_note(left_out)
    attribution, location = attribute(
        flagged, location, lambda trial: on_trial(line_of(trial)), request.only, request.seconds
    )
    return flagged, location, attribution


def from_python(trace: str | Path, **settings: Any) -> Attribution:
    """`diag.attribute(trace)`: which switches cure what a recorded run flagged; nothing is printed.

    Args:
        trace: a trace.h5.
        settings: other flags of `python -m diag.attribute`: `step=3` (that of the first divergence by default),
            `place="GPU:0"`, `switches="tf32=off,execution=eager"`, `seconds=120`, `trust=True`.

    Returns:
        `cures`, `blame`, `why_blamed`, `workarounds` with code to paste, and every one of its `trials`.

    Raises:
        ValueError: what the command would say with exit code 2.
    """
    with as_guest():
        request = request_of(options_from_keywords(add_flags, settings, trace))
        return attributed(request, lambda line: None, lambda text: None)[2]


def switch_names(given: str | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = [name.strip() for name in given.split(",") if name.strip()]
    unknown = [name for name in names if name not in SWITCHES]
    if unknown or not names:
        raise UserError(f"--switches {given}: expected some of {', '.join(SWITCHES)}")
    return tuple(names)


Alike = tuple[tuple[str, ...], tuple[str, ...]]


def flagged_in(trace: Path, step: int | None) -> tuple[int, dict[str, Any] | None, Alike]:
    """The step to try and what its run flagged there, as the report in the trace says; None: to be looked for.

    Also the layers that are wrong in the same way, and those whose ops are wrong together.
    """
    from diag.engine.attribution.attributing import wrong_alike
    from diag.engine.attribution.trial_runner import FlaggedUnit

    with TraceReader(trace) as reader:
        report, steps = reader.report(), reader.steps
    found = [Divergence.from_dict(each) for each in (report or {}).get("divergences") or []]
    divergences = [each for each in found if each.blame != NOBODY]
    if found and not divergences and step is None:
        raise UserError(f"{trace}: its run found weights that differ, which no switch changes; name a step with --step")
    if step is None:
        if not divergences:
            raise UserError(f"{trace}: its run found no divergence; name a step with --step")
        step = divergences[0].where.step
    if step not in steps:
        raise UserError(f"--step {step}: {trace} holds the steps {', '.join(map(str, steps[:10])) or 'of no run'}")
    in_step = [each for each in divergences if each.where.step == step]
    if not in_step:
        return step, None, ((), ())
    return step, FlaggedUnit.of(in_step[0].where).to_dict(), wrong_alike(in_step)


def main_in_child(arguments: Sequence[str]) -> int:
    """The command in a process of its own; its trials are in others."""
    options = parser().parse_args(arguments)
    return in_child("attribute", "diag.attribute", arguments, limits_of(options, options.seconds + MORE))


called_from_python(__name__, from_python)

if __name__ == "__main__":
    sys.exit(main_in_child(sys.argv[1:]))
