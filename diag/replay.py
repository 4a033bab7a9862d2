"""Run one recorded step again, from the saved state, batch and random streams, and say bit for bit what reproduces.

The trace is enough by itself: it holds the traced training step.  Without --place each lane runs where it
was recorded.  Exit code 0: every tensor has the recorded bits, 1: some have not (with --op or --layer: an
output is out of its rounding bound), 2: the question could not be asked, 3: a bug of ours.

Replaying runs the graph that the trace holds: replay only traces that you trust.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.allowance_file import add_allowances_flag, put_in_force, read
from diag.common.command import OneLineParser, not_negative
from diag.common.jsonable import to_text
from diag.errors import UserError
from diag.machine.places import Place, parse_place
from diag.machine.settings import restore_settings, restore_switches
from traces.reader import TraceReader

if TYPE_CHECKING:
    from rich.console import Console

    from diag.engine.recordings.recorded_run import RecordedRun
    from diag.engine.recordings.replaying import Replayer

OTHER_BITS, BUG = 1, 3
LANES = ("reference", "candidate")


def parser() -> argparse.ArgumentParser:
    made = OneLineParser(
        prog="python -m diag.replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("trace", metavar="TRACE", type=Path, help="a trace.h5 of diag.lockstep")
    made.add_argument("--step", metavar="K", type=not_negative, required=True, help="the step, counted from 0")
    made.add_argument(
        "--lane",
        choices=(*LANES, "both"),
        default="both",
        help="whose recording (default: %(default)s; with --op or --layer the candidate's)",
    )
    made.add_argument(
        "--place", metavar="PLACE", help="where instead, DEVICE[/EXECUTION]: CPU:0, GPU:0/eager, sim:tf32"
    )
    made.add_argument(
        "--op", metavar="I", type=not_negative, help="only op I, on its recomputed inputs, against float64 truth"
    )
    made.add_argument("--layer", metavar="NAME", help="only this layer, compiled by itself, against float64 truth")
    made.add_argument(
        "--seed", metavar="N", type=not_negative, help="of the random streams, instead of their saved state"
    )
    made.add_argument(
        "--from",
        dest="start",
        metavar="S",
        type=not_negative,
        help="begin at the state stored before step S, not at the last, and go through every step from there",
    )
    made.add_argument("--emit", metavar="FILE.py", type=Path, help="write the op or layer as a program of its own")
    add_allowances_flag(made)
    made.add_argument("--tf32", choices=("on", "off"), help="TensorFloat-32 (default: as recorded)")
    made.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return run(options)
    except UserError as error:
        print(f"replay: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("replay: interrupted; nothing was written", file=sys.stderr)
        return UserError.exit_code
    except Exception:
        traceback.print_exc()
        return BUG


def run(options: argparse.Namespace) -> int:
    place = None if options.place is None else parse_place(options.place)
    check(options)
    allowances = read(options.allowances)
    environment = recorded_environment(options.trace)
    restore_switches(environment)
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from rich.console import Console

    from diag.engine.recordings.recorded_run import RecordedRun
    from diag.engine.recordings.replaying import Replayer

    restore_settings(environment, options.tf32)
    options.notes = put_in_force(options.allowances, allowances)
    with RecordedRun(options.trace) as recorded:
        replayer = Replayer(recorded, place, options.seed, options.start)
        replayer.check(options.step)
        for lane in lanes_of(options):
            replayer.place_of(lane)  # refused before anything runs
        console = Console(quiet=options.json)
        if options.op is not None or options.layer is not None:
            return replay_part(options, recorded, replayer, console)
        return replay_step(options, recorded, replayer, console)


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be asked, before anything is loaded."""
    if options.allowances is not None and options.op is None:
        raise UserError(f"--allowances {options.allowances}: only a single op is held to them; name it with --op")
    if options.op is not None and options.layer is not None:
        raise UserError("--op and --layer: one at a time; name the op, or the layer")
    if options.emit is None:
        return
    if options.op is None and options.layer is None:
        raise UserError("--emit: name what to write, --op I or --layer NAME")
    if options.emit.suffix != ".py":
        raise UserError(f"--emit {options.emit}: expected a file name that ends in .py")
    for path in (options.emit, options.emit.with_suffix(".npz")):
        if path.exists():
            raise UserError(f"--emit {options.emit}: {path} exists already; name a new file")
    if not options.emit.absolute().parent.is_dir():
        raise UserError(f"--emit {options.emit}: no folder {options.emit.absolute().parent}; make it, or name another")


def recorded_environment(trace: Path) -> dict[str, Any]:
    with TraceReader(trace) as reader:
        return reader.environment("candidate")


def replay_step(options: argparse.Namespace, recorded: RecordedRun, replayer: Replayer, console: Console) -> int:
    from diag.report import replay as written

    lanes = lanes_of(options)
    replays = [replayer.replay(options.step, lane) for lane in lanes]
    changed = changed_environment(recorded, lanes, replayer.place)
    if options.json:
        print(to_text(written.report(str(options.trace), replays, changed)), end="")
    written.render(replays, changed, console)
    exact = all(replay.is_exact for replay in replays)
    if not exact and options.seed is None:
        place = replace(replayer.place_of(lanes[-1]), policy=None)
        command = ["python", "-m", "diag.lockstep", "--reference", f"trace:{options.trace}", "--candidate", str(place)]
        console.print("Is it rounding? Ask:")
        console.print(f"  {shlex.join(command)}", markup=False, highlight=False, soft_wrap=True)
    return 0 if exact else OTHER_BITS


def lanes_of(options: argparse.Namespace) -> Sequence[str]:
    """The lanes to replay; of one op or layer only one."""
    if options.lane != "both":
        return (options.lane,)
    return LANES if options.op is None and options.layer is None else ("candidate",)


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


def replay_part(options: argparse.Namespace, recorded: RecordedRun, replayer: Replayer, console: Console) -> int:
    """One op or one layer, judged."""
    from diag.engine.recordings import replaying_units as units
    from diag.engine.recordings.emitting import check_place, emit
    from diag.report import replay as written
    from diag.verdict.findings import Verdict

    (lane,) = lanes_of(options)
    place = replayer.place_of(lane)
    if options.emit is not None:
        check_place(place)
    found: Any
    if options.op is not None:
        found = units.replay_op(recorded, options.step, options.op, lane, place, replayer)
        title = f"Op {options.op} {found.node.op} of step {options.step} at {place.eagerly()}, on the CPU's inputs"
    else:
        found = units.replay_layer(recorded, options.step, options.layer, lane, place, replayer)
        title = f"Layer {options.layer} of step {options.step} at {place}, compiled by itself, on the CPU's inputs"
    if options.emit is not None:
        emit(options.emit, found, recorded.program(options.step), place)
        console.print(f"wrote {options.emit} and {options.emit.with_suffix('.npz')}", markup=False, highlight=False)
    if options.json:
        document = written.observations_report(str(options.trace), options.step, found.observations, str(place))
        print(to_text(document), end="")
    written.render_observations(title, found.observations, console)
    for note in (*options.notes, *replayer.notes):
        console.print(f"note: {note}", highlight=False, markup=False)
    return OTHER_BITS if any(o.verdict is Verdict.DIVERGENCE for o in found.observations) else 0


if __name__ == "__main__":
    sys.exit(main())
