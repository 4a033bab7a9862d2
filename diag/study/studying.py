"""A study from its request to its report: all runs, what they show, why, and the files."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from diag.common import sweep
from diag.common.files import claimed, write_json, write_report
from diag.common.progress import Bar
from diag.common.streams import say
from diag.common.task import Done
from diag.common.wording import counted, duration
from diag.errors import UserError
from diag.study.diagnosis import diagnose
from diag.study.findings import findings_of
from diag.study.report import StudyReport
from diag.study.request import PLAN, StudyRequest, begin
from diag.study.table import Curves, rows_of, write_curves, write_table

BETWEEN_LOOKS = 1.0
"""Seconds between two looks at how far the runs are."""
FILES = {"csv": "results.csv", "curves": "curves.h5", "report": "report.json", "html": "report.html"}


def studied(request: StudyRequest) -> StudyReport:
    """Do what is not done yet, write everything, and give the report.

    Raises:
      UserError: a run cannot be done, or something cannot be written; what was finished stays.
    """
    with claimed(request.folder):
        begin(request)
        try:
            values = _values(request)
        except UserError:
            _forget_unless_begun(request)
            raise
        curves = [Curves.out_of(key, run, values[key]) for key, run in request.runs.items()]
        first = next(iter(values.values()))
        findings = findings_of(request.plan, curves, int(first["num_validation"]))
        missing = write_table(request.folder, rows_of(curves))
        write_curves(request.folder / FILES["curves"], curves)
        diagnoses = diagnose(request, findings, _say(request)) if request.diagnose else []
        report = StudyReport(
            findings,
            tuple(diagnoses),
            _about(request, first),
            tuple([missing] if missing else []),
            FILES if missing else {**FILES, "parquet": "results.parquet"},
        )
        return _written(request, report)


def _about(request: StudyRequest, first: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    plan = request.plan
    samples = f"{first['num_training']:,} samples trained on, {first['num_validation']:,} held out"
    runs = f"{counted(len(request.runs), 'run')} of {counted(plan.epochs, 'epoch')}, {counted(plan.seeds, 'seed')}"
    data = plan.trainable.data or f"generated shapes, {plan.trainable.image_size} x {plan.trainable.image_size}"
    return ("model", first["model"]), ("data", f"{data}: {samples}"), ("runs", runs)


def _written(request: StudyRequest, report: StudyReport) -> StudyReport:
    """Figures, where matplotlib is, and both reports."""
    from diag.study.figures import WITHOUT_MATPLOTLIB, figures_of, write_figures

    images = {}
    try:
        figures = figures_of(report.findings)
    except ImportError:
        report = replace(report, notes=(*report.notes, WITHOUT_MATPLOTLIB))
    else:
        write_figures(request.folder, figures)
        images = {name: (request.folder / f"{name}.png").read_bytes() for name in figures}
        report = replace(report, files={**report.files, **{f"figure_{name}": f"{name}.png" for name in figures}})
    write_json(request.folder / FILES["report"], report.to_json())
    write_report(request.folder / FILES["html"], report.page(images))
    return report


def _forget_unless_begun(request: StudyRequest) -> None:
    """A study of which nothing was done leaves no plan, so that its folder may be named with other flags."""
    if not _epochs_done(request):
        shutil.rmtree(request.folder / "runs", ignore_errors=True)
        (request.folder / PLAN).unlink(missing_ok=True)


def _say(request: StudyRequest) -> Any:
    return (lambda text: None) if request.quiet else say


def _values(request: StudyRequest) -> dict[str, Any]:
    """What every run gave, by its key."""
    found: dict[str, Any] = {}
    with _progress(request):
        tasks = sweep.run(request.tasks, request.folder / "results", jobs=request.jobs, cluster=request.cluster)
        with contextlib.closing(tasks):  # type: ignore[type-var]
            for done in tasks:
                _refuse_failed(request, done)
                found[done.key] = done.value
    return {key: found[key] for key in request.runs}


def _refuse_failed(request: StudyRequest, done: Done) -> None:
    """Raises UserError for a run that cannot be done; it is tried again when the study goes on."""
    if done.error is None:
        return
    (request.folder / "results" / f"{done.key}.json").unlink(missing_ok=True)
    if done.details and not done.died:
        raise RuntimeError(f"{done.key}: {done.details}")
    if done.details:
        print(done.details, file=sys.stderr)
    raise UserError(f"{done.key}: {done.error}" if done.died else str(done.error))


@contextlib.contextmanager
def _progress(request: StudyRequest) -> Iterator[None]:
    """How many epochs are done, and about how long the rest takes, as long as the runs go on."""
    total, ended = len(request.runs) * request.plan.epochs, threading.Event()
    with Bar(total, request.quiet) as bar:

        def watch() -> None:
            begun, at_first = time.monotonic(), _epochs_done(request)
            while not ended.wait(BETWEEN_LOOKS):
                done = _epochs_done(request)
                left = ""
                if done > at_first:
                    seconds = (time.monotonic() - begun) / (done - at_first) * (total - done)
                    left = f", about {duration(seconds)} left"
                bar.show(done, f"epoch {done} of {total} in {len(request.runs)} runs{left}")

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _epochs_done(request: StudyRequest) -> int:
    """Over all runs; counted from the names of files, so that the engine is not loaded for it."""
    latest: dict[str, int] = {}
    for path in (request.folder / "runs").glob("*/epoch-*.npz"):
        latest[path.parent.name] = max(latest.get(path.parent.name, 0), int(path.stem.rpartition("-")[2]))
    return sum(latest.values())
