"""How accurate is each op here, and what arithmetic does this device do?

Runs small computations with known answers on a place (CPU, GPU or simulated) and prints a card of it: the
fingerprint of its sums and products, ops held against exact integers, functions in ULP, optimizers, random streams.
`python -m probes compare A.json B.json` says what differs between two cards, `python -m probes fleet` which device of
many differs from its siblings.  Exit code 0: nothing failed (compare, fleet: nothing differs), 1: something did, 2: the
question could not be asked, 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from diag.common.command import BUG, OneLineParser, command_parser, file_path, is_on, run_command
from diag.common.terminal import ReportConsole
from diag.common.wording import counted
from diag.errors import UserError
from diag.machine.places import Place, parse_place
from diag.machine.tensorflow_import import import_tensorflow
from probes.fleet import command
from probes.frame import comparing, plan
from probes.frame.device_report import DeviceReport, check_unique, read_report, write_atomically, write_reproducers
from probes.frame.plan import Choice, carried_out, planned
from probes.frame.progress import ProbeProgress
from probes.options import add_probed_flags, choice_of
from probes.report import device_report as report
from probes.report.comparison import render_comparison

FAILED = 1
COMPARE, FLEET = "compare", "fleet"
KEPT = "what is in the folder of --resume is kept"
OF_ONE_CARD = ("place", "exhaustive", "state", "emit", "out")
"""Flags that say nothing of several devices."""


def parser() -> OneLineParser:
    parser = command_parser(__package__, __doc__)
    probed = parser.add_argument_group("what is probed")
    probed.add_argument("--place", metavar="PLACE", help="DEVICE[/EXECUTION] (default: the first GPU, else CPU:0)")
    probed.add_argument(
        "--devices", metavar="PLACE,PLACE", help="which of these differs from the others; all: every GPU here"
    )
    add_probed_flags(probed)
    probed.add_argument("--exhaustive", action="store_true", help="accuracy over all 2^32 float32 inputs; resumable")
    probed.add_argument(
        "--state",
        type=file_path,
        metavar="FOLDER",
        help="where --exhaustive goes on from (default: runs/probes-exhaustive)",
    )
    probed.add_argument("--deterministic", action="store_true", help="TensorFlow's op determinism")
    shown = parser.add_argument_group("what is printed and written")
    shown.add_argument("--json", action="store_true", help="print the card as JSON and nothing else")
    shown.add_argument("--out", type=file_path, metavar="FILE.json", help="write the card there, too")
    shown.add_argument(
        "--emit", type=file_path, metavar="FOLDER", help="a program for each failure, to send to a vendor"
    )
    shown.add_argument("--verbose", action="store_true", help="print every reading")
    shown.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def comparing_parser() -> OneLineParser:
    parser = command_parser(f"{__package__} compare", "What differs between two cards.")
    parser.add_argument("first", type=file_path, metavar="A.json")
    parser.add_argument("second", type=file_path, metavar="B.json")
    parser.add_argument("--json", action="store_true", help="print the differences as JSON and nothing else")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == [COMPARE]:
        return run_command("probes", comparing_parser(), compare, given[1:])
    if given[:1] == [FLEET]:
        return run_command("probes", command.parser(), command.fleet, given[1:], KEPT)
    return run_command("probes", parser(), probe, given)


def compare(options: argparse.Namespace) -> int:
    comparison = comparing.compare(read_report(options.first), read_report(options.second))
    if options.json:
        print(comparing.to_json(comparison), end="")
    else:
        render_comparison(comparison, ReportConsole(markup=True))
    return FAILED if comparison.differs else 0


def probe(options: argparse.Namespace) -> int:
    if options.devices is not None:
        return probe_devices(options)
    place = None if options.place is None else parse_place(options.place, options.execution or "eager")
    if place is not None and place.policy is not None:
        raise UserError(f"--place {options.place}: probes name the dtype of each op themselves; use --dtype")
    check_writable(options.out, options.emit)
    import_tensorflow()
    from diag.machine import settings

    quiet = options.quiet or options.json
    choice = replace(choice_of(options), exhaustive=options.exhaustive, state=options.state, quiet=quiet)
    with settings.tf32(is_on(options.tf32)), settings.op_determinism(options.deterministic):
        card = report_of_place(place or default_place(options.execution or "eager"), choice, options.seed)
    if options.out is not None:
        write_atomically(options.out, card.to_json())
    programs = None if options.emit is None else write_reproducers(card, options.emit)
    if options.json:
        print(card.to_json(ascii_only=True), end="")
        return exit_code(card)
    report.render(card, ReportConsole(markup=True), options.verbose, options.out, options.emit)
    if programs is not None:
        written, failures = counted(len(programs), "program"), counted(len(card.failures), "failure")
        print(f"{written} for {failures} written to {options.emit}")
    return exit_code(card)


def probe_devices(options: argparse.Namespace) -> int:
    """As `python -m probes fleet`, here; raises UserError for flags that are of one device's card."""
    for name in OF_ONE_CARD:
        if getattr(options, name):
            raise UserError(f"--devices {options.devices} with --{name}: a card is of one device; leave --{name} out")
    request = command.FleetRequest(
        options.devices, options.execution or "eager", choice_of(options), options.seed, options.tf32
    )
    return command.probe_fleet(request, options)


def exit_code(card: DeviceReport) -> int:
    if any(plan.BUG in measurement.figures for measurement in card.measurements):
        return BUG
    return FAILED if card.failures else 0


def check_writable(out: Path | None, emit: Path | None) -> None:
    """Raises UserError before any work where a result could not be written."""
    for flag, path in (("--out", out), ("--emit", emit)):
        if path is None:
            continue
        folder = path if flag == "--emit" and path.exists() else path.absolute().parent
        if flag == "--emit" and path.exists() and not path.is_dir():
            raise UserError(f"{flag} {path}: expected a folder, found a file; name a folder")
        if flag == "--out" and path.exists() and not path.is_file():
            found = "a folder" if path.is_dir() else "a device"
            raise UserError(f"{flag} {path}: expected a file, found {found}; name a file such as card.json")
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"{flag} {path}: {folder} is no folder that can be written; name one that is")


def default_place(execution: str) -> Place:
    """The first GPU, or the CPU where there is none."""
    import tensorflow as tf

    return parse_place("GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0", execution)


def report_of_place(place: Place, choice: Choice, seed: int) -> DeviceReport:
    """Probe a place.  Raises UserError where nothing is left to be probed, or the place does not exist."""
    from probes.frame.device import DeviceUnderTest

    device = DeviceUnderTest(place, seed)
    chosen = planned(choice)
    if not chosen:
        raise UserError(nothing_fits(choice, sorted({each.op for each in planned(Choice())})))
    with (
        ProbeProgress(len(chosen), choice.quiet) as progress,
        np.errstate(all="ignore"),
    ):  # infinities and NaN are meant
        measurements = tuple(carried_out(chosen, device, progress.begins))
    check_unique(measurements)
    return DeviceReport(str(place), device.environment(), choice.quick, measurements)


def nothing_fits(choice: Choice, ops: Sequence[str]) -> str:
    """What was chosen, and which ops have a name like it."""
    values_of = {"op": choice.ops, "dtype": choice.dtypes, "family": choice.families}
    chosen = [f"--{name} {value}" for name, values in values_of.items() for value in values]
    lowered = {op.lower(): op for op in ops}
    near = [lowered[name] for op in choice.ops for name in get_close_matches(op.lower(), lowered, 4, 0.5)]
    hint = f"ops like it are {', '.join(near)}" if near else f"there are {len(ops)} ops, such as {', '.join(ops[:8])}"
    return f"{' '.join(chosen)}: no probe fits; {hint}"


if __name__ == "__main__":
    sys.exit(main())
