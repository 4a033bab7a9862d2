"""Run one recorded step again, from the saved state, batch and random streams, and say bit for bit what reproduces.

The trace is enough by itself: it holds the traced training step.  Without --place each lane runs where it
was recorded.  Exit code 0: every tensor has the recorded bits, 1: some have not (with --op or --layer: an
output is out of its rounding bound), 2: the question could not be asked, 3: a bug of ours.

A trace may come from a stranger: its step is run only if all that its ops do is to compute (docs/SECURITY.md).
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.allowance_file import add_allowances_flag, put_in_force, read
from diag.common.child import add_limit_flags, in_child, limits_of
from diag.common.command import (
    OneLineParser,
    add_trust_flag,
    command_parser,
    file_path,
    is_on,
    not_negative,
    run_command,
    seed,
)
from diag.common.files import refuse_unwritable
from diag.common.jsonable import to_text
from diag.errors import UserError
from diag.machine.hardware import not_restored, restore_variables
from diag.machine.places import Place, parse_place
from diag.numerics.allowances import AllowanceRow
from traces.reader import TraceReader

if TYPE_CHECKING:
    from rich.console import Console

    from diag.engine.recordings.recorded_run import RecordedRun
    from diag.engine.recordings.replaying import Replayer

OTHER_BITS = 1
LANES = ("reference", "candidate")


@dataclass(frozen=True)
class ReplayRequest:
    """Which step to run again, of which lanes, and where; `op` or `layer` for a part of it, judged against truth.

    place: None for where each lane was recorded.  seed: of the random streams, None for their saved state.  start:
    the step whose stored state is begun at, None for the last before the step.  emit: the program to write.
    """

    trace: Path
    step: int
    lanes: tuple[str, ...]
    place: Place | None
    op: int | None
    layer: str | None
    seed: int | None
    start: int | None
    emit: Path | None
    allowances_file: Path | None
    allowances: tuple[AllowanceRow, ...]
    is_trusted: bool
    tf32: bool | None
    json: bool


def parser() -> OneLineParser:
    parser = command_parser("diag.replay", __doc__)
    parser.add_argument("trace", metavar="TRACE", type=file_path, help="a trace.h5 of diag.lockstep")
    parser.add_argument("--step", metavar="K", type=not_negative, required=True, help="the step, counted from 0")
    parser.add_argument(
        "--lane",
        choices=(*LANES, "both"),
        default="both",
        help="whose recording (default: %(default)s; with --op or --layer the candidate's)",
    )
    parser.add_argument(
        "--place", metavar="PLACE", help="where instead, DEVICE[/EXECUTION]: CPU:0, GPU:0/eager, sim:tf32"
    )
    parser.add_argument(
        "--op", metavar="I", type=not_negative, help="only op I, on its recomputed inputs, against float64 truth"
    )
    parser.add_argument("--layer", metavar="NAME", help="only this layer, compiled by itself, against float64 truth")
    parser.add_argument("--seed", metavar="N", type=seed, help="of the random streams, instead of their saved state")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="S",
        type=not_negative,
        help="begin at the state stored before step S, not at the last, and go through every step from there",
    )
    parser.add_argument(
        "--emit", metavar="FILE.py", type=file_path, help="write the op or layer as a program of its own"
    )
    add_allowances_flag(parser)
    parser.add_argument("--tf32", choices=("on", "off"), help="TensorFloat-32 (default: as recorded)")
    add_trust_flag(parser)
    add_limit_flags(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(
        "replay", parser(), lambda options: run(request_of(options)), arguments, left="nothing was written"
    )


def request_of(options: argparse.Namespace) -> ReplayRequest:
    """The request that flags make; raises UserError where it cannot be asked so."""
    place = None if options.place is None else parse_place(options.place)
    _check_part(options)
    if options.emit is not None:
        _check_program(options.emit)
    return ReplayRequest(
        options.trace,
        options.step,
        _lanes_of(options),
        place,
        options.op,
        options.layer,
        options.seed,
        options.start,
        options.emit,
        options.allowances,
        read(options.allowances),
        options.trust,
        is_on(options.tf32),
        options.json,
    )


def _lanes_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The lanes to replay; of one op or layer only one."""
    if options.lane != "both":
        return (options.lane,)
    return LANES if options.op is None and options.layer is None else ("candidate",)


def _check_part(options: argparse.Namespace) -> None:
    """Refuse flags that need a part of a step, or one only."""
    if options.allowances is not None and options.op is None:
        raise UserError(f"--allowances {options.allowances}: only a single op is held to them; name it with --op")
    if options.op is not None and options.layer is not None:
        raise UserError("--op and --layer: one at a time; name the op, or the layer")
    if options.emit is not None and options.op is None and options.layer is None:
        raise UserError("--emit: name what to write, --op I or --layer NAME")


def _check_program(emit: Path) -> None:
    """Refuse a program that could not be written."""
    if emit.suffix != ".py":
        raise UserError(f"--emit {emit}: expected a file name that ends in .py")
    for path in (emit, emit.with_suffix(".npz")):
        if path.exists():
            raise UserError(f"--emit {emit}: {path} exists already; name a new file")
    refuse_unwritable("--emit", emit)


def run(request: ReplayRequest) -> int:
    with TraceReader(request.trace) as reader:
        environment = reader.environment("candidate")
    restore_variables(environment)
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from diag.common.terminal import ReportConsole
    from diag.engine.recordings.recorded_run import RecordedRun
    from diag.engine.recordings.replaying import Replayer
    from diag.machine.settings import as_recorded

    with as_recorded(environment, request.tf32):
        notes = put_in_force(request.allowances_file, request.allowances)
        with RecordedRun(request.trace, request.is_trusted) as recorded:
            replayer = Replayer(recorded, request.place, request.seed, request.start)
            replayer.check(request.step)
            for lane in request.lanes:
                replayer.place_of(lane)  # refused before anything runs
            console = ReportConsole(quiet=request.json)
            if left_out := not_restored(environment):
                console.print(f"note: {left_out}")
            if request.op is None and request.layer is None:
                return replay_step(request, recorded, replayer, console)
            return replay_part(request, recorded, replayer, notes, console)


def replay_step(request: ReplayRequest, recorded: RecordedRun, replayer: Replayer, console: Console) -> int:
    from diag.report import replay as reporting

    replays = [replayer.replay(request.step, lane) for lane in request.lanes]
    changed = changed_environment(recorded, request.lanes, replayer.place)
    if request.json:
        print(to_text(reporting.report(str(request.trace), replays, changed)), end="")
    reporting.render(replays, changed, console)
    exact = all(replay.is_exact for replay in replays)
    if not exact and request.seed is None:
        place = replace(replayer.place_of(request.lanes[-1]), policy=None)
        command = ["python", "-m", "diag.lockstep", "--reference", f"trace:{request.trace}", "--candidate", str(place)]
        console.print("Is it rounding? Ask:")
        console.print(f"  {shlex.join(command)}", soft_wrap=True)
    return 0 if exact else OTHER_BITS


def changed_environment(recorded: RecordedRun, lanes: Sequence[str], place: Place | None) -> dict[str, Any]:
    """name -> (recorded, now), of what is no longer as it was."""
    from diag.machine.environment import environment_of

    changed = {}
    for lane in lanes:
        then, now = recorded.reader.environment(lane), environment_of(place or recorded.place(lane))
        names = (then.keys() | now.keys()) - {"place", "execution", "policy", "stand_in"}
        changed.update(
            {name: (then.get(name), now.get(name)) for name in sorted(names) if then.get(name) != now.get(name)}
        )
    return changed


def replay_part(
    request: ReplayRequest, recorded: RecordedRun, replayer: Replayer, notes: Sequence[str], console: Console
) -> int:
    """One op or one layer, judged."""
    from diag.engine.recordings import replaying_units as units
    from diag.engine.recordings.emitting import check_place, emit
    from diag.report import replay as reporting
    from diag.verdict.findings import Verdict

    (lane,) = request.lanes
    place, step = replayer.place_of(lane), request.step
    if request.emit is not None:
        check_place(place)
    part: Any
    if request.layer is not None:
        part = units.replay_layer(recorded, step, request.layer, lane, place, replayer)
        title = f"Layer {request.layer} of step {step} at {place}, compiled by itself, on the CPU's inputs"
    else:
        assert request.op is not None
        part = units.replay_op(recorded, step, request.op, lane, place, replayer)
        title = f"Op {request.op} {part.node.op} of step {step} at {place.eagerly()}, on the CPU's inputs"
    held = ""
    if request.emit is not None:
        held = emit(request.emit, part, recorded.program(step), place)
        notes = (*notes, *([held] if held else []))
        console.print(f"wrote {request.emit} and {request.emit.with_suffix('.npz')}")
    if request.json:
        document = reporting.observations_report(str(request.trace), step, part.observations, str(place))
        print(to_text({**document, "emitted_holds": held} if held else document), end="")
    reporting.render_observations(title, part.observations, console)
    for note in (*notes, *replayer.notes):
        console.print(f"note: {note}")
    return OTHER_BITS if any(o.verdict is Verdict.DIVERGENCE for o in part.observations) else 0


def main_in_child(arguments: Sequence[str]) -> int:
    """The command, its stored step in a process of its own."""
    options = parser().parse_args(arguments)
    return in_child("replay", "diag.replay", arguments, limits_of(options, options.seconds))


if __name__ == "__main__":
    sys.exit(main_in_child(sys.argv[1:]))
