"""Processes that answer, die, hang and babble: what is made of each.  No TensorFlow is loaded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diag.engine.attribution import matrix
from diag.engine.attribution.matrix import TrialRequest, num_workers, run_trials
from diag.engine.attribution.trial import trial_in, what_is_implied
from diag.errors import UserError
from diag.machine.places import Place

PLACE = Place("CPU:0")

TRIAL = """
import json, os, sys, time
from pathlib import Path
from diag.errors import UserError

def tried(step, names, location, known):
    folder = Path(step["trace"]).parent
    with (folder / "asked").open("a") as log:
        log.write(json.dumps([os.getpid(), names, known, os.environ.get("CUDA_VISIBLE_DEVICES")]) + "\\n")
    print("a plug-in that talks")
    if os.environ.get("REFUSE"):
        raise UserError("no such step")
    if "die" in names:
        sys.stderr.write("something of C++\\n")
        os._exit(3)
    if "hang" in names:
        with (folder / "hanging").open("a") as log:
            log.write(f"{os.getpid()}\\n")
        time.sleep(60)
    unit = float(os.environ.get("BASELINE", "5.0") if not names else "0.5")
    step = float(os.environ.get("STEP", "inf"))
    return {"location": {"layer": "dense"}, "unit": unit, "step": step, "step_seconds": 0.25}
"""


@pytest.fixture
def trial_request(tmp_path, monkeypatch) -> TrialRequest:
    (tmp_path / "a_trial_of_tests.py").write_text(TRIAL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(matrix, "TRIAL", "a_trial_of_tests:tried")
    monkeypatch.setattr(matrix, "num_workers", lambda place: 1)
    return TrialRequest(tmp_path / "trace.h5", 3, "reference", PLACE)


def asked(trial_request: TrialRequest) -> list[list[list[str]]]:
    """The trials of each process, in order."""
    by_process: dict[int, list[list[str]]] = {}
    for process, names, *_ in _lines(trial_request):
        by_process.setdefault(process, []).append(names)
    return list(by_process.values())


def _lines(trial_request: TrialRequest) -> list[Any]:
    return [json.loads(line) for line in Path(trial_request.trace).with_name("asked").read_text().splitlines()]


def test_trials_that_can_share_a_process_do_and_figures_come_back(trial_request):
    results = run_trials(trial_request, [(), ("execution=eager",), ("onednn=off",), ("grappler=off",)])
    assert asked(trial_request) == [[[], ["execution=eager"], ["grappler=off"]], [["onednn=off"]]]
    assert results.trials[()].unit == 5.0
    assert results.trials[("onednn=off",)].step == float("inf")
    assert results.trials[("grappler=off",)].step_seconds == 0.25
    assert results.location == {"layer": "dense"}


def test_what_cannot_be_taken_back_comes_last_in_its_process(trial_request):
    run_trials(trial_request, [(), ("deterministic=on",), ("grappler=off",)])
    assert asked(trial_request) == [[[], ["grappler=off"], ["deterministic=on"]]]


def test_a_later_trial_is_told_what_is_known_and_runs_nothing_that_this_answers(trial_request):
    run_trials(trial_request, [(), ("execution=eager",), ("onednn=off",)])
    told = [known for _, _, known, _ in _lines(trial_request)]
    assert [len(known) for known in told] == [0, 1, 2]
    known = [trial_in(tuple(line["switches"]), line) for line in told[-1]]
    assert [trial.switches for trial in known] == [(), ("execution=eager",)]
    assert what_is_implied(("grappler=off",), known)  # eager leaves the step as it was, and does more
    assert not what_is_implied(("grappler=off",), known[:1]) and not what_is_implied(("onednn=off",), known)


def test_a_process_that_dies_costs_one_trial(trial_request):
    results = run_trials(trial_request, [(), ("a",), ("die",), ("b",)])
    assert results.trials[("a",)].unit == results.trials[("b",)].unit == 0.5
    assert "exit code 3" in results.trials[("die",)].reason
    assert "something of C++" in results.trials[("die",)].reason
    assert len(asked(trial_request)) == 2


def test_a_process_that_hangs_is_ended(trial_request):
    slow = TrialRequest(trial_request.trace, 3, "reference", PLACE, limit=2.0)
    results = run_trials(slow, [(), ("hang",)])
    assert results.trials[("hang",)].reason == "it was not done within 2 s, and was ended"


def test_when_the_time_is_up_what_was_tried_stays_and_the_rest_is_named(trial_request):
    begun = time.monotonic()
    short = replace(trial_request, deadline=begun + 3.0)
    results = run_trials(short, [(), ("a",), ("hang",), ("b",), ("onednn=off",)])
    assert time.monotonic() - begun < 30.0
    assert results.trials[("a",)].unit == 0.5
    for names in (("hang",), ("b",), ("onednn=off",)):
        assert results.trials[names].skipped and results.trials[names].reason == matrix.OUT_OF_TIME


def test_a_step_that_is_right_as_recorded_is_tried_no_further(trial_request, monkeypatch):
    monkeypatch.setenv("BASELINE", "0.5")
    monkeypatch.setenv("STEP", "0.5")
    results = run_trials(trial_request, [(), ("a",), ("onednn=off",)])
    assert list(results.trials) == [()]


def test_a_trace_that_cannot_answer_is_the_persons_to_know(trial_request, monkeypatch):
    monkeypatch.setenv("REFUSE", "1")
    with pytest.raises(UserError, match="no such step"):
        run_trials(trial_request, [()])


@pytest.mark.parametrize(("place", "seen"), [(PLACE, "-1"), (Place("GPU:1"), "0,1")])
def test_one_process_at_a_time_on_a_gpu_and_on_the_cpu_none_sees_one(trial_request, monkeypatch, place, seen):
    assert num_workers(Place("GPU:0")) == 1
    assert num_workers(PLACE) >= 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    run_trials(replace(trial_request, place=place), [()])
    assert [line[-1] for line in _lines(trial_request)] == [seen]


# ---- interrupted

INTERRUPTED = """
import sys
from pathlib import Path
from diag.engine.attribution import matrix
from diag.machine.places import Place
matrix.TRIAL, matrix.num_workers = "a_trial_of_tests:tried", lambda place: 2
wanted = [(), ("hang",), ("a",), ("b",), ("onednn=off", "hang")]
request = matrix.TrialRequest(Path(sys.argv[1]), 3, "reference", Place("CPU:0"))
matrix.run_trials(request, wanted, lambda trial: print(trial.name, flush=True))
"""


@pytest.mark.parametrize("to_all", [True, False], ids=["as from a terminal", "to the parent alone"])
def test_an_interrupt_ends_all_processes_and_begins_no_other(trial_request, to_all):
    given = [sys.executable, "-c", INTERRUPTED, str(trial_request.trace)]
    with subprocess.Popen(given, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        wait_until(lambda: len(begun(trial_request)) == 2)
        sent = time.monotonic()
        (os.killpg if to_all else os.kill)(parent.pid, signal.SIGINT)
        _, errors = parent.communicate(timeout=50)  # less than a hanging trial takes
    assert time.monotonic() - sent < 20.0
    assert b"KeyboardInterrupt" in errors
    assert len(asked(trial_request)) == 2  # the baseline's, which then hangs, and another; none for what was left
    wait_until(lambda: not any(is_alive(process) for process in begun(trial_request)))


def begun(trial_request: TrialRequest) -> list[int]:
    """Processes in which a trial hangs, or hung."""
    path = Path(trial_request.trace).with_name("hanging")
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
