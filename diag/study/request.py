"""What a study is asked to do, as one value made from its flags and checked before anything is loaded."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diag.common.command import is_on
from diag.common.files import write_json
from diag.common.streams import say
from diag.common.task import Task, run_task
from diag.common.wording import shortened
from diag.errors import UserError
from diag.machine.hardware import WITHOUT_GPU
from diag.machine.places import POLICIES, parse_place
from diag.request import output_folder
from diag.study.run_request import RunRequest, Trainable

SCHEMA = "lockstep-study/1"
PLAN = "study.json"
TRAIN_ONE = "diag.study.run:train_one"
DEFAULT_CANDIDATE = "diag.study.run:default_candidate"
FLOAT64 = "float64"
CPU = "CPU:0"
DEFAULT_POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
STATE_BYTES = 4 << 30
"""What the states of all candidates' earlier epochs may take together, for --diagnose to begin from."""


@dataclass(frozen=True)
class StudyPlan:
    """All that a study's results depend on; of a study that goes on it must be what it was.

    places: as they are written, the reference first.  truth: float64 on the CPU as one more policy of the reference.
    twins: of each seed and policy of the reference.
    """

    trainable: Trainable
    places: tuple[str, ...]
    policies: tuple[str, ...]
    truth: bool
    seeds: int
    twins: int
    epochs: int
    tf32: bool | None
    deterministic: bool

    @property
    def reference(self) -> str:
        return self.places[0]

    @property
    def candidates(self) -> tuple[str, ...]:
        return self.places[1:]


@dataclass(frozen=True)
class StudyRequest:
    plan: StudyPlan
    folder: Path
    jobs: int | None
    cluster: str | None
    diagnose: bool
    json: bool
    quiet: bool

    @cached_property
    def runs(self) -> dict[str, RunRequest]:
        """All runs by their key, those of the first seed first."""
        plan = self.plan
        found: dict[str, RunRequest] = {}
        for seed in range(plan.seeds):
            for policy in plan.policies:
                for place in plan.places:
                    numbers = range(plan.twins + 1) if place == plan.reference else range(1)
                    for twin in numbers:
                        self._add(found, place, policy, seed, twin)
            if plan.truth:
                self._add(found, CPU, FLOAT64, seed, 0)
        return found

    def _add(self, found: dict[str, RunRequest], place: str, policy: str, seed: int, twin: int) -> None:
        plan = self.plan
        key = f"{_named(place)}-{policy}-seed{seed}{f'-twin{twin}' if twin else ''}"
        num_candidates = len(plan.candidates) * len(plan.policies) * plan.seeds
        kept = STATE_BYTES // num_candidates if place in plan.candidates else 0
        found[key] = RunRequest(
            plan.trainable, place, policy, seed, twin, plan.epochs, str((self.folder / "runs" / key).absolute()), kept,
            plan.tf32, plan.deterministic,
        )  # fmt: skip

    @property
    def tasks(self) -> list[Task]:
        return [_task(key, run) for key, run in self.runs.items()]


def _task(key: str, run: RunRequest) -> Task:
    is_on_gpu = parse_place(run.place).device.startswith("GPU")
    return Task(
        key,
        TRAIN_ONE,
        run.arguments,
        environment={} if is_on_gpu else WITHOUT_GPU,
        resources={"GPU": 1} if is_on_gpu else {},
        shares_process=True,
    )


def _named(place: str) -> str:
    """A place as part of a file's name."""
    return re.sub(r"[^\w.]+", "-", place, flags=re.ASCII).strip("-.")[:100]


def request_of(options: argparse.Namespace) -> StudyRequest:
    """The request that flags make; one that goes on in its folder is held against how it began.

    Raises UserError where it cannot be asked so.
    """
    policies = _listed(options.policies, "--policies")
    for policy in policies:
        if policy not in POLICIES:
            raise UserError(f"--policies {policy}: expected some of {', '.join(POLICIES)}, with commas between")
    trainable = Trainable(
        options.model, options.data, options.validation, _share(options.validation_split), options.image_size,
        options.samples, options.batch_size, options.trust,
    )  # fmt: skip
    begun = _begun(options.out)
    folder = output_folder(options.out) if begun is None else options.out
    named = options.places
    if named is None:
        named = ",".join(_default_places(options) if begun is None else begun["places"])
    places = _listed(named, "--places")
    for place in places:
        if (parsed := parse_place(place)).policy is not None:
            raise UserError(f"--places {place} names the policy {parsed.policy}; policies are those of --policies")
    if len({_named(place).casefold() for place in places}) < len(places):
        raise UserError(f"--places {named}: two of them have one name; expected different places")
    if options.diagnose and len(places) < 2:
        raise UserError(f"--diagnose with --places {named}: expected a candidate after the reference")
    plan = StudyPlan(
        trainable, places, policies, options.truth and FLOAT64 not in policies, options.seeds, options.twins,
        options.epochs, is_on(options.tf32), options.deterministic,
    )  # fmt: skip
    if begun is not None:
        _refuse_another(folder, begun, plan)
    return StudyRequest(
        plan, folder, options.jobs, options.cluster, options.diagnose, options.json, options.quiet or options.json
    )


def begin(request: StudyRequest) -> None:
    """Keep the plan in the folder, for whoever goes on with it."""
    request.folder.mkdir(parents=True, exist_ok=True)
    write_json(request.folder / PLAN, {"schema": SCHEMA, "plan": asdict(request.plan)})


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:  # NaN is neither
        raise UserError(f"--validation-split {shortened(text, 60)}: expected a share above 0 and below 1, such as 0.25")
    return share


def _listed(text: str, flag: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if not words:
        raise UserError(f"{flag} {text!r} names none; expected one or more, with commas between")
    if len(set(words)) < len(words):
        raise UserError(f"{flag} {text}: one is named twice")
    return words


def _default_places(options: argparse.Namespace) -> tuple[str, str]:
    """The CPU, and what lockstep would hold against it here, which is said.

    Raises UserError where workers would train, whose devices are not known here.
    """
    if options.cluster is not None:
        raise UserError(f"--cluster {options.cluster} needs --places, such as CPU:0,GPU:0: its workers have their own")
    done = run_task(Task("default", DEFAULT_CANDIDATE))  # a process that sees a GPU takes some of its memory
    if done.error is not None:
        raise UserError(f"the devices here cannot be told: {done.error}; name some with --places")
    if not options.quiet and not options.json:
        say(done.value["says"])
    return CPU, done.value["place"]


def _begun(folder: Path | None) -> dict[str, Any] | None:
    """The plan of the study in a folder, None where there is none; raises UserError for one that cannot be read."""
    if folder is None or not (folder / PLAN).exists():
        return None
    try:
        document = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}, not {SCHEMA}")
        return {**document["plan"], "places": list(map(str, document["plan"]["places"]))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--out {folder}: {PLAN} there cannot be read ({error}); name another folder") from error


def _refuse_another(folder: Path, begun: dict[str, Any], plan: StudyPlan) -> None:
    """Raises UserError where the study in a folder is not the one that is asked for."""
    asked = json.loads(json.dumps(asdict(plan)))
    if begun != asked:
        raise UserError(
            f"--out {folder} holds a study that was begun otherwise ({_difference(begun, asked)}); name another "
            "folder, or give the flags that it was begun with to go on"
        )


def _difference(begun: dict[str, Any], asked: dict[str, Any]) -> str:
    flat = [{**plan, **plan.get("trainable", {}), "trainable": None} for plan in (begun, asked)]
    for name in flat[1]:
        if flat[0].get(name) != flat[1][name]:
            return f"{name.replace('_', '-')} {flat[0].get(name)}, not {flat[1][name]}"
    return "written otherwise"
