"""The matrix of switches, tried on one recorded step: in which processes, in which order, and with which results.

Trials that can share a process do: starting TensorFlow takes longer than a small step.  A process that dies or
hangs costs one trial, and the rest of its trials begin again in a new one.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from diag.common.jsonable import json_safe
from diag.common.task import Process, Task, Unwanted
from diag.engine.attribution.trial import trial_in
from diag.errors import UserError
from diag.machine.hardware import WITHOUT_GPU
from diag.machine.places import Place
from diag.machine.switches import is_final, merged_environment, process_of
from diag.verdict.attribution import Trial

TRIAL = "diag.engine.attribution.trial:tried"
TRIAL_LIMIT = 300.0  # seconds of a trial, which covers loading TensorFlow too
OUT_OF_TIME = "the time was up"
Names = tuple[str, ...]
OnTrial = Callable[[Trial], None]


@dataclass(frozen=True)
class TrialRequest:
    """One recorded step at a place, from a lane's state; `location` as JSON, None to look for it."""

    trace: Path
    step: int
    lane: str
    place: Place
    location: dict[str, Any] | None = None
    is_trusted: bool = False  # as of a RecordedRun
    limit: float = TRIAL_LIMIT
    deadline: float = math.inf  # of time.monotonic: what is not done by then is not tried
    known: tuple[Trial, ...] = ()  # of other processes
    is_brief: bool = False  # as of a TrialRunner

    def time_left(self) -> float:
        return self.deadline - time.monotonic()


@dataclass(frozen=True)
class TrialResults:
    """What came back: a trial for each set of names, and the location, where it was given or found."""

    trials: dict[Names, Trial] = field(default_factory=dict)
    location: dict[str, Any] | None = None


def num_workers(place: Place) -> int:
    """Processes at a time: half of the cores, two where there are no more; one on a GPU, whose memory they share."""
    num_cores = os.cpu_count() or 1
    return 1 if place.device.startswith("GPU") else max(min(2, num_cores), num_cores // 2)


class _SoFar:
    """What is known by now of one request, to all the threads that wait for processes."""

    def __init__(self, request: TrialRequest, on_trial: OnTrial) -> None:
        self._request, self.on_trial = request, on_trial
        self._lock = threading.Lock()
        self._results = TrialResults({}, request.location)
        self.has_one = threading.Event()
        self.is_ended = threading.Event()  # by Ctrl-C too: then no process goes on, and none begins

    def add(self, location: dict[str, Any] | None, trial: Trial) -> None:
        with self._lock:
            known = self._results
            self._results = TrialResults({**known.trials, trial.switches: trial}, known.location or location)
        self.has_one.set()

    @property
    def results(self) -> TrialResults:
        return self._results

    @property
    def request(self) -> TrialRequest:
        """The request for the next process."""
        known = self._results
        return replace(self._request, location=known.location, known=(*self._request.known, *known.trials.values()))

    @property
    def has_more_to_try(self) -> bool:
        """Whether the first trial was made, and is not a baseline with nothing wrong in it."""
        trials = self._results.trials
        return bool(trials) and (() not in trials or bool(trials[()].wrong))


def run_trials(request: TrialRequest, wanted: Sequence[Names], on_trial: OnTrial = lambda trial: None) -> TrialResults:
    """Run the trials; the others begin when the first is known, and where it is the baseline and right, none does.

    Raises:
      UserError: the trace cannot answer the question.
    """
    workers = num_workers(request.place)
    groups = _shared_processes(wanted, 1 if request.is_brief else max(1, workers // 2))
    so_far = _SoFar(request, on_trial)
    with ThreadPoolExecutor(workers) as pool:
        try:
            first = pool.submit(_run_group, so_far, groups[0])
            first.add_done_callback(lambda _: so_far.has_one.set())
            so_far.has_one.wait()
            others = groups[1:] if so_far.has_more_to_try else []
            for future in [first, *(pool.submit(_run_group, so_far, group) for group in others)]:
                future.result()
        finally:
            so_far.is_ended.set()
    found = so_far.results
    return replace(found, trials={names: found.trials[names] for names in wanted if names in found.trials})


def _shared_processes(wanted: Sequence[Names], workers: int) -> list[list[Names]]:
    """Trials by the process they need, those that need none of their own dealt out to the workers."""
    by_process: dict[Names, list[Names]] = defaultdict(list)
    for names in wanted:
        by_process[process_of(names)].append(names)
    plain = by_process.pop((), [])
    dealt = [plain[index::workers] for index in range(workers)]
    groups = [sorted(group, key=is_final) for group in (*dealt, *by_process.values()) if group]
    return sorted(groups, key=lambda group: wanted[0] not in group)


def _run_group(so_far: _SoFar, group: Sequence[Names]) -> None:
    """The trials of one process; when it ends before its last, the rest begin again in a new one."""
    waiting, process = list(group), None
    try:
        while waiting and not so_far.is_ended.is_set():
            request = so_far.request
            if request.time_left() <= 0:
                for names in waiting:
                    so_far.add(None, Trial(names, reason=OUT_OF_TIME, skipped=True))
                return
            if process is None or not process.is_alive:
                hidden = WITHOUT_GPU if request.place.device.startswith("CPU") else {}
                process = Process({**hidden, **merged_environment(process_of(group[0]))})
            location, trial = _tried(request, waiting[0], process, so_far)
            waiting.remove(trial.switches)
            so_far.add(location, trial)
            so_far.on_trial(trial)
            if not trial.switches and not trial.wrong:
                return  # nothing to cure
    except Unwanted:
        return
    finally:
        if process is not None:
            process.end()


def _tried(
    request: TrialRequest, names: Names, process: Process, so_far: _SoFar
) -> tuple[dict[str, Any] | None, Trial]:
    """What comes of one trial in a process, and where it looked.

    Raises:
      UserError: the trace cannot answer the question.
      Unwanted: all is ended.
    """
    limit = max(min(request.limit, request.time_left()), 0.0)
    said = process.said_of(_task(request, names, limit), lambda: not so_far.is_ended.is_set())
    if "value" in said:
        value = said["value"]
        if value["location"] is None:
            return None, Trial((), unit=0.0)  # nothing is out of its bound
        return value["location"], trial_in(names, value)
    if process.is_alive and "details" not in said:
        raise UserError(said["error"])
    process.end()  # after an error it can try nothing more
    process.is_alive = False
    if request.time_left() <= 0:
        return None, Trial(names, reason=OUT_OF_TIME, skipped=True)
    last_words = said.get("details", "").strip().rpartition("\n")[2] if said.get("died") else ""
    return None, Trial(names, reason=": ".join(filter(None, [said["error"], last_words[:200]])))


def _task(request: TrialRequest, names: Names, limit: float) -> Task:
    step = {
        "trace": str(request.trace), "step": request.step, "lane": request.lane, "place": str(request.place),
        "is_trusted": request.is_trusted, "is_brief": request.is_brief,
    }  # fmt: skip
    known = json_safe([asdict(trial) for trial in request.known])
    arguments = {"step": step, "names": names, "location": request.location, "known": known}
    return Task("trial", TRIAL, arguments, shares_process=True, limit=limit if math.isfinite(limit) else None)
