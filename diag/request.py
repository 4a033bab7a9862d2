"""What a lockstep run is asked to do, as one value made from the flags and checked before anything is loaded."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diag import allowance_file
from diag.common.command import is_on
from diag.common.modes import PREDICT, TRAIN
from diag.engine.recordings.dump_policy import DumpPolicy, parse_dump_policy
from diag.errors import UserError
from diag.machine.places import Place, names_execution
from diag.numerics.allowances import AllowanceRow
from diag.options import follow_and_twins, places_of, refuse_paths, second_model, substituted

SMALLEST_FREE = 64 << 20  # bytes: room for a report and a small trace


@dataclass(frozen=True)
class LockstepRequest:
    """All that a lockstep run is asked to do.

    folder: where trace.h5 and report.json go.  module: what was started with `python -m`, "" where it was asked from
    Python.  command: the words after it, up to those of a `script`; or the call in Python, kept in the trace.
    candidate: None for the first GPU, or a simulated place where there is none; execution and policy are then its.
    open_places: lanes that compute as the script itself does, if they can: what they were named without.
    trace: a recorded reference; `reference` is where its step is judged here.  is_trusted: whatever ops its step has.
    candidate_model: whose weights the candidate has, None for the reference's.  mode: train or predict.  steps: None
    for the default number, or for all that `trace` holds.  follow, twins, units, check_every: as in
    `diag.engine.runs.settings`.  substitute: names of units to compute by the reference in a second training.
    attribute: whether to look for cures, None for where that is quick.  tf32: None for TensorFlow's default.  quiet: no
    progress and no advice on stderr.  verbose: print all of the report.  tensorboard: where event files go.
    is_resumed: go on with the run in `folder`, which was killed.
    """

    folder: Path
    module: str = "diag.lockstep"
    command: tuple[str, ...] = ()
    script: tuple[str, ...] = ()
    model: str | None = None
    data: str | None = None
    candidate_model: str | None = None
    mode: str = TRAIN
    batch_size: int = 32
    steps: int | None = None
    seed: int = 0
    policy: str | None = None
    execution: str | None = None
    open_places: tuple[str, ...] = ()
    reference: Place = field(default_factory=lambda: Place("CPU:0"))
    candidate: Place | None = None
    trace: Path | None = None
    is_trusted: bool = False
    follow: str = "reference"
    twins: int = 0
    units: str = "layer"
    check_every: int | None = None
    substitute: str | None = None
    attribute: bool | None = None
    dump_policy: DumpPolicy = field(default_factory=DumpPolicy)
    snapshot_every: int | None = None
    portable: bool = False
    tf32: bool | None = None
    deterministic: bool = False
    allowances_file: Path | None = None
    allowances: tuple[AllowanceRow, ...] = ()
    quiet: bool = False
    json: bool = False
    verbose: bool = False
    tensorboard: Path | None = None
    is_resumed: bool = False

    @property
    def command_line(self) -> list[str]:
        """What was asked, as a whole."""
        return [*(["python", "-m", self.module] if self.module else []), *self.command, *self.script]


def request_of(options: argparse.Namespace, given: Sequence[str], resumed: Path | None = None) -> LockstepRequest:
    """The request that flags make; `given` are the words of the command line.

    resumed: the folder of the run that these words began, and that is to go on.

    Raises:
        UserError: it cannot be asked so.
    """
    places = places_of(options)
    dump_policy = parse_dump_policy(options.dump, options.dump_steps)
    if places.trace is not None:
        _check_flags_with_trace(options, given)
    candidate_model = second_model(options)
    follow, twins = follow_and_twins(options)
    substitute = substituted(options.substitute)
    if options.mode == PREDICT:
        refuse_paths(options.follow, options.twins, options.substitute, f"--mode {PREDICT}")
    allowances = allowance_file.read(options.allowances)
    if options.tensorboard is not None:
        from diag.report.tensorboard import refuse_tensorboard  # not for --help

        refuse_tensorboard(options.tensorboard, resumed is not None)
    return LockstepRequest(
        folder=output_folder(options.out) if resumed is None else resumed,
        command=tuple(given),
        model=options.model,
        data=options.data,
        candidate_model=candidate_model,
        mode=options.mode or TRAIN,
        batch_size=options.batch_size,
        steps=options.steps,
        seed=options.seed,
        policy=options.policy,
        execution=options.execution,
        open_places=open_places(options),
        reference=places.reference,
        candidate=places.candidate,
        trace=places.trace,
        is_trusted=options.trust,
        follow=follow,
        twins=twins,
        units=options.units,
        check_every=options.check_every,
        substitute=substitute,
        attribute=options.attribute,
        dump_policy=dump_policy,
        snapshot_every=options.snapshot_every,
        portable=options.portable,
        tf32=is_on(options.tf32),
        deterministic=options.deterministic,
        allowances_file=options.allowances,
        allowances=allowances,
        quiet=options.quiet or options.json,
        json=options.json,
        verbose=options.verbose,
        tensorboard=options.tensorboard,
        is_resumed=resumed is not None,
    )


def open_places(options: argparse.Namespace) -> tuple[str, ...]:
    """The lanes of which neither place nor flag says how they execute."""
    named = {"reference": options.reference, "candidate": options.candidate or ""}
    return tuple(lane for lane, text in named.items() if not options.execution and not names_execution(text))


def _check_flags_with_trace(options: argparse.Namespace, given: Sequence[str]) -> None:
    """Refuse what a recorded reference settles itself, or cannot do."""
    for flag in ("--batch-size", "--seed"):
        if any(word == flag or word.startswith(f"{flag}=") for word in given):
            raise UserError(
                f"--reference {options.reference} with {flag}: batches and seed come from the trace; leave {flag} out"
            )
    if options.follow == "candidate":
        raise UserError(
            f"--reference {options.reference} with --follow candidate: a recorded lane cannot start from another's "
            "state; take --follow reference, or free"
        )


def output_folder(named: Path | None) -> Path:
    """A folder that can be written and holds no earlier run; it is not made yet."""
    folder = named or Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    number = 1
    while named is None and folder.exists():
        number += 1
        folder = folder.with_name(f"{time.strftime('%Y%m%d-%H%M%S')}-{number}")
    refuse_earlier_run(folder)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"--out {folder}: {existing} is no folder; name one that can be made")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--out {folder}: {existing} cannot be written; name a folder that can")
    if shutil.disk_usage(existing).free < SMALLEST_FREE:
        raise UserError(f"--out {folder}: less than {SMALLEST_FREE >> 20} MiB free there; name a folder with more room")
    return folder


def refuse_earlier_run(folder: Path) -> None:
    """Raises UserError where a run left its trace or report in a folder."""
    has_trace, has_report = ((folder / name).exists() for name in ("trace.h5", "report.json"))
    if has_report or has_trace:
        unfinished = "" if has_report else f", or go on with one that was killed by --resume {folder}"
        raise UserError(
            f"--out {folder} already holds {'trace.h5' if has_trace else 'report.json'}; an earlier run is never "
            f"overwritten: name a new folder{unfinished}"
        )
