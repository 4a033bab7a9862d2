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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.allowance_file import add_allowances_flag, put_in_force, read
from diag.common.callable_module import called_from_python
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
from diag.common.keywords import options_from_keywords
from diag.errors import UserError
from diag.guest import as_guest
from diag.machine.hardware import not_restored, restore_variables
from diag.machine.places import Place, parse_place
from diag.numerics.allowances import AllowanceRow
from traces.reader import TraceReader

if TYPE_CHECKING:
    from rich.console import Console

    from diag.engine.recordings.recorded_run import RecordedRun
    from diag.engine.recordings.replaying import Replayer
    from diag.engine.recordings.replaying_units import LayerReplay, OpReplay
    from diag.verdict.findings import Observation
    from diag.verdict.replay import Replay

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
    add_flags(parser)
    add_limit_flags(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    return parser


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All that can be asked of a replay, by a command or from Python."""
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
        getattr(options, "json", False),
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


def _check_emitted_place(place: Place) -> None:
    """Refuse a program that would show nothing: a simulated fault is in no program but this one."""
    if place.is_simulated:
        raise UserError(f"--emit: {place} is simulated; its fault lives in tf-lockstep alone; name a real --place")


@dataclass(frozen=True)
class OpenedTrace:
    """A trace whose step can be run: as the request has it, in the environment it was recorded in."""

    request: ReplayRequest
    recorded: RecordedRun
    replayer: Replayer
    environment: Mapping[str, Any]
    notes: tuple[str, ...]

    def step(self) -> list[Replay]:
        """The whole step again, in each lane."""
        return [self.replayer.replay(self.request.step, lane) for lane in self.request.lanes]

    def part(self) -> OpReplay | LayerReplay:
        """One op or one layer of the step, judged."""
        from diag.engine.recordings import replaying_units as units

        (lane,) = self.request.lanes
        asked = (lane, self.replayer.place_of(lane), self.replayer)
        if self.request.layer is not None:
            return units.replay_layer(self.recorded, self.request.step, self.request.layer, *asked)
        assert self.request.op is not None
        return units.replay_op(self.recorded, self.request.step, self.request.op, *asked)

    def emitted(self, part: OpReplay | LayerReplay) -> str:
        """Write the part as a program of its own, if that is wanted; what there is to say of it, mostly ""."""
        from diag.engine.recordings.emitting import emit

        if self.request.emit is None:
            return ""
        place = self.replayer.place_of(self.request.lanes[0])
        return emit(self.request.emit, part, self.recorded.program(self.request.step), place)


@contextmanager
def opened(request: ReplayRequest) -> Iterator[OpenedTrace]:
    """Load what the request names, with TensorFlow, and refuse what cannot be run before anything is.

    Raises:
        UserError: the trace cannot be read, or not replayed so.
    """
    with TraceReader(request.trace) as reader:
        environment = reader.environment("candidate")
        if request.emit is not None:
            of_lane = reader.environment(request.lanes[0])
            _check_emitted_place(request.place or parse_place(str(of_lane.get("stand_in") or of_lane.get("place"))))
    restore_variables(environment)
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from diag.engine.recordings.recorded_run import RecordedRun
    from diag.engine.recordings.replaying import Replayer
    from diag.machine.settings import as_recorded

    with as_recorded(environment, request.tf32):
        notes = put_in_force(request.allowances_file, request.allowances)
        with RecordedRun(request.trace, request.is_trusted) as recorded:
            replayer = Replayer(recorded, request.place, request.seed, request.start)
            replayer.check(request.step)
            for lane in request.lanes:
                replayer.place_of(lane)  # refused before anything is run
            yield OpenedTrace(request, recorded, replayer, environment, tuple(notes))


def from_python(trace: str | Path, *, step: int, **settings: Any) -> tuple[Replay, ...] | tuple[Observation, ...]:
    """`diag.replay(trace, step=3)`: a recorded step again, in this process; nothing is printed.

    Args:
        trace: a trace.h5.
        step: counted from 0.
        settings: other flags of `python -m diag.replay`: `lane="candidate"`, `place="CPU:0"`, `op=12`, `layer="dense"`,
            `seed=1`, `from_=0`, `emit="op.py"`, `tf32="off"`, `trust=True`, `allowances="mine.toml"`.

    Returns:
        Of a step a Replay a lane, with `is_exact` and `others`; with op or layer an Observation an output, with
        `verdict` and `excess`.

    Raises:
        ValueError: what the command would say with exit code 2.
    """
    with as_guest():
        request = request_of(options_from_keywords(add_flags, {"step": step, **settings}, trace))
        with opened(request) as at_hand:
            from diag.machine.random_states import random_states_kept

            with random_states_kept():
                if request.op is None and request.layer is None:
                    return tuple(at_hand.step())
                part = at_hand.part()
                at_hand.emitted(part)
                return tuple(part.observations)


def run(request: ReplayRequest) -> int:
    from diag.common.terminal import ReportConsole

    with opened(request) as at_hand:
        console = ReportConsole(quiet=request.json)
        if left_out := not_restored(at_hand.environment):
            console.print(f"note: {left_out}")
        is_whole = request.op is None and request.layer is None
        return replay_step(at_hand, console) if is_whole else replay_part(at_hand, console)


def replay_step(at_hand: OpenedTrace, console: Console) -> int:
    from diag.report import replay as reporting

    request, recorded, replayer = at_hand.request, at_hand.recorded, at_hand.replayer
    replays = at_hand.step()
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


def replay_part(at_hand: OpenedTrace, console: Console) -> int:
    """One op or one layer, judged."""
    from diag.report import replay as reporting
    from diag.verdict.findings import Verdict

    request, notes = at_hand.request, at_hand.notes
    place, part = at_hand.replayer.place_of(request.lanes[0]), at_hand.part()
    held = at_hand.emitted(part)
    if request.emit is not None:
        notes = (*notes, *([held] if held else []))
        console.print(f"wrote {request.emit} and {request.emit.with_suffix('.npz')}")
    if request.json:
        document = reporting.observations_report(str(request.trace), request.step, part.observations, str(place))
        print(to_text({**document, "emitted_holds": held} if held else document), end="")
    reporting.render_observations(_title(request, part, place), part.observations, console)
    for note in (*notes, *at_hand.replayer.notes):
        console.print(f"note: {note}")
    return OTHER_BITS if any(o.verdict is Verdict.DIVERGENCE for o in part.observations) else 0


def _title(request: ReplayRequest, part: OpReplay | LayerReplay, place: Place) -> str:
    from diag.engine.recordings.replaying_units import LayerReplay

    if isinstance(part, LayerReplay):
        return f"Layer {request.layer} of step {request.step} at {place}, compiled by itself, on the CPU's inputs"
    return f"Op {request.op} {part.node.op} of step {request.step} at {place.eagerly()}, on the CPU's inputs"


def main_in_child(arguments: Sequence[str]) -> int:
    """The command, its stored step in a process of its own."""
    options = parser().parse_args(arguments)
    return in_child("replay", "diag.replay", arguments, limits_of(options, options.seconds))


called_from_python(__name__, from_python)

if __name__ == "__main__":
    sys.exit(main_in_child(sys.argv[1:]))
