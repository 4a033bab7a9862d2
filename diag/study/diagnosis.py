"""Why a candidate left: a lockstep run from the state that its own training had before it did."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diag.common.files import write_json
from diag.study.band import Departure
from diag.study.findings import StudyFindings
from diag.study.request import StudyRequest
from diag.study.run_request import RunRequest, place_in

SCHEMA = "lockstep-diagnosis/1"
STEPS = 4
"""Of lockstep, each from the candidate's state: a fault of a layer shows in the first."""


@dataclass(frozen=True)
class StudyDiagnosis:
    """What lockstep says of a departure.

    seed: of the run that it began from, after `after_epochs` of its epochs.  cause, blame, cured_by: of the first
    divergence, empty where there is none.
    """

    place: str
    policy: str
    seed: int
    after_epochs: int
    verdict: str
    sentence: str
    cause: str
    blame: str
    cured_by: tuple[str, ...]
    report: str


def diagnose(request: StudyRequest, findings: StudyFindings, say: Any) -> list[StudyDiagnosis]:
    """One of each departure; what was diagnosed before is read again.  Loads TensorFlow."""
    found = []
    for departure in findings.departures:
        key, run = _furthest(request, findings, departure)
        kept = request.folder / "diagnosis" / f"{key}-epoch{departure.epoch}.json"
        if not kept.exists():
            say(f"lockstep from before epoch {departure.epoch}, where {departure.place} in {departure.policy} leaves")
            made = _diagnosed(request, departure, run, kept.with_suffix(""))
            write_json(kept, {"schema": SCHEMA, **asdict(made)})
        document = json.loads(kept.read_text(encoding="utf-8"))
        document.pop("schema")
        found.append(StudyDiagnosis(**{**document, "cured_by": tuple(document["cured_by"])}))
    return found


def _furthest(request: StudyRequest, findings: StudyFindings, departure: Departure) -> tuple[str, RunRequest]:
    """Of the candidate's runs the one that is furthest from the band's middle where it left."""
    middle, at = (departure.low + departure.high) / 2, departure.epoch - 1
    runs = {c.key: c for c in findings.curves if (c.run.place, c.run.policy) == (departure.place, departure.policy)}

    def distance(key: str) -> float:
        away = abs(runs[key].of[departure.measure][at] - middle)
        return float(away) if np.isfinite(away) else float("inf")

    key = max(runs, key=distance)
    return key, request.runs[key]


def _diagnosed(request: StudyRequest, departure: Departure, run: RunRequest, folder: Path) -> StudyDiagnosis:
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from diag.lockstep_run import run_lockstep
    from diag.report import json_report
    from diag.report.words import sentence
    from diag.request import LockstepRequest
    from diag.study.starting import starting_at

    shutil.rmtree(folder, ignore_errors=True)  # what a killed one left
    trained, after = starting_at(run, departure.epoch - 1)
    asked = LockstepRequest(
        folder,
        module="",
        command=("diag.study", run.path.name, f"after {after} epochs"),
        batch_size=run.trainable.batch_size,
        steps=STEPS,
        seed=run.seed,
        policy=run.policy,
        reference=place_in(request.plan.reference, run.policy),
        candidate=place_in(run.place, run.policy),
        is_trusted=run.trainable.is_trusted,
        follow="candidate",
        attribute=True if request.quiet else None,  # None: for at most a minute, which says what it does
        tf32=run.tf32,
        deterministic=run.deterministic,
        quiet=request.quiet,
    )
    result = run_lockstep(asked, trained)
    first = json_report.report(result)["first_divergence"]
    page = str((folder / "report.html").relative_to(request.folder))
    return StudyDiagnosis(
        run.place, run.policy, run.seed, after, result.verdict, sentence(result), first["cause"] if first else "",
        first["blame"] if first else "", tuple(first["cured_by"] if first else ()), page,
    )  # fmt: skip
