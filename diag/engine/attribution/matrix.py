"""The matrix of switches, tried on one recorded step: in which processes, in which order, and with which results.

Trials that can share a process do: starting TensorFlow takes longer than a small step.  A process that dies or
hangs costs one trial, and the rest of its trials begin again in a new one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from diag.common.child import environment_of_children
from diag.engine.attribution.trial import trial_in
from diag.errors import UserError
from diag.machine.places import Place
from diag.machine.switches import is_final, process_of
from diag.verdict.attribution import Trial

TRIAL = "diag.engine.attribution.trial"
TRIAL_LIMIT = 300.0  # seconds without a word from a process, which covers loading TensorFlow too
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


class _Processes:
    """The processes that trials run in.  When this is left, by Ctrl-C too, they are ended and no other begins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: list[subprocess.Popen[str]] = []
        self.are_ended = False

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self.are_ended = True
            for process in self._begun:
                process.kill()

    def begin(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE  # its input is a lifeline: it ends with this process
        with self._lock:
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
            self._begun.append(process)
            if self.are_ended:
                process.kill()
        return process


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
    with ThreadPoolExecutor(workers) as pool, _Processes() as processes:
        first = pool.submit(_run_group, so_far, groups[0], processes)
        first.add_done_callback(lambda _: so_far.has_one.set())
        so_far.has_one.wait()
        others = groups[1:] if so_far.has_more_to_try else []
        for future in [first, *(pool.submit(_run_group, so_far, group, processes) for group in others)]:
            future.result()
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


def _run_group(so_far: _SoFar, group: Sequence[Names], processes: _Processes) -> None:
    waiting = list(group)
    while waiting and not processes.are_ended:
        request = so_far.request
        if request.time_left() <= 0:
            for names in waiting:
                so_far.add(None, Trial(names, reason=OUT_OF_TIME, skipped=True))
            return
        for location, trial in _one_process(request, tuple(waiting), processes):
            waiting.remove(trial.switches)
            so_far.add(location, trial)
            so_far.on_trial(trial)
            if not trial.switches and not trial.wrong:
                return  # nothing to cure


def _one_process(
    request: TrialRequest, group: Sequence[Names], processes: _Processes
) -> Iterator[tuple[dict[str, Any] | None, Trial]]:
    """The trials of one process, as they come, and where it looked; where it ends before its last, one that says so."""
    location, begun, done = None, 0, 0
    with contextlib.closing(_lines(request, group, processes)) as lines:  # ended as soon as nothing more is to come
        for line in lines:
            if "refused" in line:
                raise UserError(line["refused"])
            if "location" in line:
                location = line["location"]
                if location is None:
                    yield None, Trial((), unit=0.0)  # nothing is out of its bound
                    return
            begun = line.get("begun", begun)
            if "trial" in line:
                done = line["trial"] + 1
                yield location, trial_in(group[line["trial"]], line)
                if done == len(group):
                    return
            if "ended" in line:
                yield (
                    location,
                    Trial(group[max(begun, done)], reason=line["ended"], skipped=line["ended"] == OUT_OF_TIME),
                )


def _lines(
    request: TrialRequest, group: Sequence[Names], processes: _Processes
) -> Generator[dict[str, Any], None, None]:
    """What a process prints, and last how it ended; closing this ends it."""
    command = [
        sys.executable,
        "-m",
        TRIAL,
        str(request.trace),
        "--step",
        str(request.step),
        "--lane",
        request.lane,
        "--place",
        str(request.place),
        *(["--trust"] if request.is_trusted else []),
        "--switches",
        json.dumps(group),
        "--location",
        json.dumps(request.location),
        "--known",
        json.dumps([asdict(trial) for trial in request.known]),
        *(["--brief"] if request.is_brief else []),
    ]
    process = processes.begin(command, environment_of_children())
    printed: queue.Queue[str | None] = queue.Queue()
    errors: list[str] = []
    threads = [
        threading.Thread(target=_read_into, args=(process.stdout, printed), daemon=True),
        threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        while (text := printed.get(timeout=max(min(request.limit, request.time_left()), 0.0))) is not None:
            with contextlib.suppress(json.JSONDecodeError):  # a plug-in that prints to stdout
                line = json.loads(text)
                if isinstance(line, dict):
                    yield line
        if processes.are_ended:
            return
        threads[1].join(timeout=5)
        last = next((text.strip() for text in reversed(errors) if text.strip()), "it said nothing")
        yield {"ended": f"its process ended with code {process.wait(timeout=30)}: {last[:200]}"}
    except (queue.Empty, subprocess.TimeoutExpired):
        yield {"ended": OUT_OF_TIME if request.time_left() <= 0 else f"no result within {request.limit:.0f} s"}
    finally:
        process.kill()
        for thread in threads:
            thread.join()
        process.__exit__(None, None, None)  # closes what it printed to, and waits


def _read_into(stream: Any, printed: queue.Queue[str | None]) -> None:
    for text in stream:
        printed.put(text)
    printed.put(None)
