"""The same probes on every device of this host, or of a cluster: which device differs from its siblings in any bit?

Each device is probed in a process of its own under op determinism, twice.  Devices of one kind have to agree in every
bit; one that does not, or is not the same twice, or fails an exact probe, is named.  Exit code 0: all agree, 1: one
does not, 2: the question could not be asked, 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from diag.common.cluster import worker_names
from diag.common.command import OneLineParser, command_parser, file_path, positive
from diag.common.jsonable import print_document
from diag.common.progress import Bar
from diag.common.sweep import results, run
from diag.common.task import Task, key_of
from diag.common.terminal import ReportConsole
from diag.common.wording import counted
from diag.errors import UserError
from diag.machine.hardware import WITHOUT_GPU
from diag.machine.places import Place, parse_place
from probes.fleet.answers import device_of
from probes.fleet.siblings import SCHEMA, FleetComparison, compare, to_document
from probes.frame import plan
from probes.frame.plan import Choice
from probes.options import add_probed_flags, choice_of
from probes.report.fleet import render_fleet

ALL = "all"
FAMILIES = ("fingerprint", "exact", "bits")
DIFFERS = 1
ASKING = "probes.fleet.asking"
ASKED = ("ops", "dtypes", "families", "quick")
"""Of a choice: what a device is asked."""


@dataclass(frozen=True)
class FleetRequest:
    """devices: `all`, or places.  folder: where answers are kept, None for nowhere."""

    devices: str
    execution: str
    choice: Choice
    seed: int
    tf32: str | None
    cluster: str | None = None
    jobs: int | None = None
    folder: Path | None = None


def parser() -> OneLineParser:
    parser = command_parser(f"{__package__.rpartition('.')[0]} fleet", __doc__)
    where = parser.add_argument_group("where")
    where.add_argument(
        "--devices", default=ALL, metavar="PLACE,PLACE",
        help="on every host: all its GPUs, or these, DEVICE[/EXECUTION] (default: %(default)s)",
    )  # fmt: skip
    where.add_argument(
        "--cluster", metavar="ADDRESS", help="the hosts of this Dask scheduler's workers (docs/SWEEPS.md)"
    )
    where.add_argument("--jobs", type=positive, help="devices at a time on this host (default: half of its cores)")
    where.add_argument("--resume", type=file_path, metavar="FOLDER", help="keep answers there; ask no device twice")
    add_probed_flags(parser.add_argument_group("what is probed"), (*plan.FAMILIES, "bits"))
    shown = parser.add_argument_group("what is printed")
    shown.add_argument("--json", action="store_true", help="print all that is found as JSON and nothing else")
    shown.add_argument("--verbose", action="store_true", help="print every difference")
    shown.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def fleet(options: argparse.Namespace) -> int:
    request = FleetRequest(
        options.devices, options.execution or "eager", choice_of(options), options.seed, options.tf32, options.cluster,
        options.jobs, options.resume,
    )  # fmt: skip
    return probe_fleet(request, options)


def probe_fleet(request: FleetRequest, shown: argparse.Namespace) -> int:
    """Probe every device and print which one differs; the exit code."""
    choice = request.choice
    request = replace(request, choice=replace(choice, families=choice.families or FAMILIES))
    places = [] if request.devices == ALL else _places(request)
    with _folder(request) as folder:
        by_label = _tasks(places, request, folder)
        tasks = list(by_label.values())
        with Bar(len(tasks), shown.quiet or shown.json) as bar:
            bar.show(0, f"0 of {len(tasks)} devices")
            for number, _ in enumerate(run(tasks, folder, jobs=request.jobs, cluster=request.cluster), 1):
                bar.show(number, f"{number} of {len(tasks)} devices")
        answered = zip(by_label, results(tasks, folder), strict=True)
        found = compare([device_of(label, done) for label, done in answered])
    _refuse_silence(found)
    if shown.json:
        print_document(SCHEMA, to_document(found))
    else:
        render_fleet(found, ReportConsole(markup=True), shown.verbose)
    return DIFFERS if found.differs else 0


@contextmanager
def _folder(request: FleetRequest) -> Iterator[Path]:
    if request.folder is not None:
        yield request.folder
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _places(request: FleetRequest) -> list[Place]:
    """The places that were named; raises UserError for one that is none, has a policy, or is named twice."""
    places = [parse_place(text, request.execution) for text in request.devices.split(",")]
    for number, place in enumerate(places):
        if place.policy is not None:
            raise UserError(f"--devices {request.devices}: probes name the dtype of each op themselves; use --dtype")
        if place in places[:number]:
            raise UserError(f"--devices {request.devices}: {place} is named twice; name each device once")
    return places


def _tasks(places: Sequence[Place], request: FleetRequest, folder: Path) -> dict[str, Task]:
    """A task for every device of every host, by the device's label.

    Raises UserError where there are no two devices.
    """
    hosts = worker_names(request.cluster) if request.cluster is not None else [None]
    gpus: dict[str | None, list[dict[str, Any]]] = {}
    if not places or any(place.device.startswith("GPU") for place in places):
        gpus = _gpus(hosts, request, folder)
    tasks = {}
    for host in hosts:
        for device in _devices(places, gpus.get(host, []), request.execution):
            label = device["label"] if host is None else f"{host} {device['label']}"
            arguments = {"place": device["place"], "choice": _as_json(request.choice), "seed": request.seed,
                         "tf32": request.tf32}  # fmt: skip
            tasks[label] = Task(key_of(label), f"{ASKING}:answers", arguments, device["environment"], worker=host)
    if len(tasks) < 2:
        where = "this host" if request.cluster is None else counted(len(hosts), "worker")
        raise UserError(
            f"--devices {request.devices}: {counted(len(tasks), 'device')} on {where}, and it takes two to differ; "
            "name places, such as --devices CPU:0,sim:tf32; python -m probes --place PLACE probes one"
        )
    return tasks


def _devices(places: Sequence[Place], gpus: Sequence[dict[str, Any]], execution: str) -> Iterator[dict[str, Any]]:
    """Label, place and environment of each device that is asked for on one host."""
    by_label = {gpu["label"]: gpu for gpu in gpus}
    for place in places or [parse_place(label, execution) for label in by_label]:
        alone = WITHOUT_GPU if place.device.startswith("CPU") else {}
        known = by_label.get(place.device, {"place": place.device, "environment": alone})
        device = str(replace(place, device=known["place"]))
        yield {"label": str(place), "place": device, "environment": known["environment"]}


def _gpus(hosts: Sequence[str | None], request: FleetRequest, folder: Path) -> dict[str | None, list[dict[str, Any]]]:
    """The GPUs of every host.  Raises UserError where a host does not say."""
    tasks = [Task(key_of(f"gpus {host or ''}"), f"{ASKING}:gpus", worker=host) for host in hosts]
    for done in run(tasks, folder, jobs=request.jobs, cluster=request.cluster):
        if done.error is not None:
            raise UserError(f"--devices {request.devices}: the GPUs of {done.host} cannot be told: {done.error}")
    return {host: done.value for host, done in zip(hosts, results(tasks, folder), strict=True)}


def _as_json(choice: Choice) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(choice).items() if name in ASKED}


def _refuse_silence(found: FleetComparison) -> None:
    if not found.siblings:
        raise UserError(f"no device answered; {found.silent[0].label}: {found.silent[0].error}")
