"""A recorded run with faults of the test's own: which switch cures it, and whom it blames.

Faults, and a rewriter, are written here; that they answer to a switch is by their own reading of it.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diag import attribute as command
from diag import lockstep, printing
from diag.engine.attribution import of_run
from diag.engine.attribution.attributing import attribute, flagged_step_in, refined
from diag.engine.attribution.trial_runner import FlaggedUnit, TrialRunner
from diag.engine.recordings.recorded_run import RecordedRun
from diag.machine.environment import environment_of
from diag.machine.places import Place, parse_place
from diag.verdict.attribution import Attribution, Trial
from diag.verdict.findings import Divergence, Where
from diag.verdict.result import Judged, RunResult

FAULTS = """
import os
import time
from pathlib import Path

def half_of_it(graph):
    for node in graph.node:
        if node.op == "Tanh" and any(n.name == node.input[0].split(":")[0] and n.op == "BiasAdd" for n in graph.node):
            node.op = "Identity"  # as a kernel for MatMul and BiasAdd that forgets the last op of its chain

def with_onednn(call):
    if call.op_type == "Tanh" and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0":
        return [call.outputs[0] * 1.01]

def that_hangs(call):
    if call.op_type == "Tanh":
        Path(__file__).with_name("hanging").write_text(str(os.getpid()))
        time.sleep(100.0)
"""
ZOO = Path(__file__).parents[2] / "zoo.py"
UNIT = {"unit": "layer", "layer": "dense_1", "variable": None, "op_index": None}


@pytest.fixture(scope="module")
def faults(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "faults.py"
    path.write_text(FAULTS)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, faults) -> Path:
    """One step against the rewriter, and its whole report."""
    out = tmp_path_factory.mktemp("run") / "out"
    given = [
        "--model",
        f"{ZOO}:mlp",
        "--candidate",
        f"rewrite:{faults}:half_of_it",
        "--steps",
        "1",
        "--batch-size",
        "4",
    ]
    with redirect_stdout(io.StringIO()):
        assert lockstep.main([*given, "--dump", "none", "--quiet", "--out", str(out)]) == 1
    return out


@pytest.fixture(scope="module")
def half_of_it(faults) -> Place:
    """As a person names it: by the trace alone the file is not run."""
    return parse_place(f"rewrite:{faults}:half_of_it")


def test_a_rewriter_is_found_out(run, half_of_it):
    only = ["execution=eager", "remapping=off", "constant_folding=off"]
    found, location = attribute(flagged_step_in(run / "trace.h5", 0, half_of_it), UNIT, only=only)
    assert location == UNIT
    assert found.baseline.unit is not None and found.baseline.unit > 1000
    assert found.cures == ("execution=eager", "remapping=off")
    assert found.blame == "graph-rewriter"
    names = [made.name for made in found.workarounds]
    assert names[0] == "remapping=off"  # the cheapest
    assert {"split:dense_1", "cpu:dense_1", "execution=eager"} == set(names[1:])
    assert all(made.trial.wrong == frozenset() for made in found.workarounds)
    assert "keras.activations.tanh(tf.identity(y))" in next(m.code for m in found.workarounds if "split" in m.name)
    (same_bits,) = [trial for trial in found.trials if trial.name == "constant_folding=off"]
    assert same_bits.step == found.baseline.step is not None


@pytest.mark.slow
def test_in_brief_it_says_the_same_from_fewer_figures(run, half_of_it):
    only = ["execution=eager", "remapping=off", "constant_folding=off"]
    flagged = flagged_step_in(run / "trace.h5", 0, half_of_it)
    whole, brief = (attribute(flagged, UNIT, only=only, is_brief=is_brief)[0] for is_brief in (False, True))
    assert (brief.cures, brief.blame, brief.why_blamed) == (whole.cures, whole.blame, whole.why_blamed)
    assert [made.name for made in brief.workarounds] == [made.name for made in whole.workarounds]
    assert [t.unit for t in (brief.baseline, *brief.trials)] == [t.unit for t in (whole.baseline, *whole.trials)]
    assert whole.baseline.step is not None and whole.baseline.step > 1 and brief.baseline.step is None
    by_name = {trial.name: trial for trial in brief.trials}
    assert by_name["constant_folding=off"].step is None  # its unit is wrong again, which is enough
    for name in ("remapping=off", "execution=eager"):  # a cure is of the whole step, with bits that are not those of
        assert (
            by_name[name].step == 0.0
        )  # the reference as recorded, but the CPU's own under the switch: no truth asked
        in_full = next(trial.step for trial in whole.trials if trial.name == name)
        assert in_full is not None and 0.0 < in_full < 1.0


def test_a_real_place_is_not_held_against_itself(run, half_of_it):
    """The CPU under a switch leaves the CPU's own bits under that switch, which says nothing."""
    unit, baseline = FlaggedUnit("layer", "dense_1"), Trial((), unit=5.0)
    with RecordedRun(run / "trace.h5") as recorded:
        places = (Place("CPU:0"), half_of_it)
        runners = [TrialRunner(recorded, 0, "reference", place, is_brief=True) for place in places]
        real, simulated = (runner.trial(("execution=eager",), unit, baseline) for runner in runners)
    assert real.step is not None and 0.0 < real.step < 1.0
    assert simulated.step == 0.0


def test_a_trial_ends_with_an_attribution_that_is_killed(run, faults):
    """It prints nothing from then on, so no closed pipe tells it."""
    place = f"sim:{faults}:that_hangs"
    command_line = [sys.executable, "-m", "diag.attribute", str(run / "trace.h5"), "--place", place]
    with subprocess.Popen(command_line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        hanging = wait_for(lambda: faults.with_name("hanging").read_text(), 60.0)
        process.kill()
    wait_for(lambda: os.kill(int(hanging), 0), 20.0, until=ProcessLookupError)


def wait_for(answer: Callable[[], Any], seconds: float, until: type[OSError] | None = None) -> Any:
    """The answer, once there is one; with `until`, once that is raised."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if (found := answer()) and until is None:
                return found
        except OSError as error:
            if until is not None and isinstance(error, until):
                return None
        time.sleep(0.1)
    raise AssertionError("it never came")


@pytest.mark.skipif(
    not environment_of(Place("CPU:0"))["onednn"],
    reason="TensorFlow uses no oneDNN here (no AVX512_VNNI), so there is nothing to turn off",
)
def test_a_switch_read_at_start_is_set_before_tensorflow_is_loaded(run, faults, capsys):
    """The fault is in every op of its kind, so no switch of the graph cures it; only the one that it reads does."""
    given = [str(run / "trace.h5"), "--place", f"sim:{faults}:with_onednn", "--json"]
    assert command.main([*given, "--switches", "execution=eager,execution=xla,onednn=off"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cures"] == ["onednn=off"] and said["blame"] == "kernel"
    outcomes = {trial["switches"][0]: trial["outcome"] for trial in said["trials"]}
    assert outcomes == {
        "execution=eager": "diverges", "execution=xla": "not run", "onednn=off": "cures",
        "cpu:dense_1": "cures", "split:dense_1": "diverges",
    }  # fmt: skip
    reasons = {trial["switches"][0]: trial["reason"] for trial in said["trials"]}
    assert "cannot run inside XLA" in reasons["execution=xla"]  # said, and no cure
    assert said["failed_workarounds"] == ["split:dense_1"]
    assert [made["name"] for made in said["workarounds"]] == ["onednn=off", "cpu:dense_1"]
    assert "not asked for" in said["skipped"]["remapping=off"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--switches", "remaping=off"], "expected some of execution=eager"),
        (["--step", "7"], "holds the steps 0"),
        (["--place", "TPU:0"], "is no place"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(run, arguments, said):
    error = io.StringIO()
    with redirect_stderr(error):
        assert command.main([str(run / "trace.h5"), *arguments]) == 2
    assert said in error.getvalue() and error.getvalue().count("\n") == 1


# ---- at the end of a run

WHERE = Where(0, "forward", "layer", "dense_1")
FOUND = Attribution(
    Trial((), unit=5.0), (Trial(("remapping=off",), unit=0.1),), ("remapping=off",), "graph-rewriter", "since"
)


def result_with(blame: str) -> RunResult:
    first = Divergence(WHERE, "missing-op", blame, 5.0, ("execution=eager",))
    other = Divergence(replace(WHERE, layer="dense_2"), "unknown", blame, 3.0)
    return RunResult("divergence", first, (first, other), None, None, (), 1, (), {}, (), (), (), Judged())


def test_only_cures_that_were_run_are_named(run, half_of_it, monkeypatch):
    monkeypatch.setattr(of_run, "attribute", lambda *given, **more: (FOUND, UNIT))
    seen = of_run.attributed(
        result_with("kernel"), flagged_step_in(run / "trace.h5", 0, half_of_it), True, 1.0, lambda text: None
    )
    assert seen.first_divergence is seen.divergences[0]
    assert seen.first_divergence.cured_by == ("remapping=off",)
    assert seen.first_divergence.blame == "graph-rewriter"
    assert seen.divergences[1] == result_with("kernel").divergences[1]
    assert seen.attribution is FOUND


def test_what_cures_the_step_cures_all_that_is_wrong_in_it(run, half_of_it, monkeypatch):
    """Only where the step itself was out of its bound; and not what another step, or another blame, is about."""
    found = replace(FOUND, baseline=Trial((), unit=5.0, step=9.0), trials=(Trial(("remapping=off",), None, 0.1, 0.2),))
    asked: list[object] = []

    def answer(flagged, location, said, only=None, seconds=0.0, is_brief=False):
        asked.append((location["layer"], only))
        return (found if only is None else replace(found, cures=("tf32=off",), blame="kernel"), location)

    monkeypatch.setattr(of_run, "attribute", answer)
    result = result_with("graph-rewriter")
    third = replace(result.divergences[1], where=replace(WHERE, layer="dense_3"), blame="kernel")
    result = replace(result, divergences=(*result.divergences, third))
    seen = of_run.attributed(result, flagged_step_in(run / "trace.h5", 0, half_of_it), True, 1.0, lambda text: None)
    assert [d.cured_by for d in seen.divergences] == [("remapping=off",), ("remapping=off",), ("tf32=off",)]
    assert asked == [("dense_1", None), ("dense_3", of_run.FEW)]


def test_slow_steps_are_not_tried_unasked_and_it_says_so(run, half_of_it, monkeypatch):
    monkeypatch.setattr(of_run, "attribute", lambda *given: pytest.fail("tried unasked"))
    seen = of_run.attributed(
        result_with("kernel"), flagged_step_in(run / "trace.h5", 0, half_of_it), None, 60.0, lambda text: None
    )
    assert seen.attribution is None and seen.first_divergence == result_with("kernel").first_divergence
    assert "python -m diag.attribute" in seen.notes[-1].text


def test_unasked_it_keeps_to_its_minute_and_to_what_decides(run, half_of_it, monkeypatch):
    """In full where another divergence of the step waits for what its baseline says."""
    asked: list[tuple[float, bool]] = []

    def answer(flagged, location, said, only=None, seconds=0.0, is_brief=False):
        asked.append((seconds, is_brief))
        return FOUND, location

    monkeypatch.setattr(of_run, "attribute", answer)
    both = result_with("kernel")
    alone = replace(both, divergences=both.divergences[:1])
    for result, wanted in ((alone, None), (both, None), (alone, True)):
        of_run.attributed(result, flagged_step_in(run / "trace.h5", 0, half_of_it), wanted, 1.0, lambda text: None)
    assert asked == [(60.0, True), (60.0, False), (of_run.LONGEST, False)]


def test_a_first_trial_that_is_not_over_in_time_attributes_nothing(run, half_of_it, monkeypatch):
    late = Attribution(Trial((), reason="the time was up", skipped=True))
    monkeypatch.setattr(of_run, "attribute", lambda *given, **more: (late, UNIT))
    seen = of_run.attributed(
        result_with("kernel"), flagged_step_in(run / "trace.h5", 0, half_of_it), None, 1.0, lambda text: None
    )
    assert seen.attribution is None
    assert "more than 60 s; ask for it with python -m diag.attribute" in seen.notes[-1].text


def test_the_first_trial_says_how_long_the_others_take(run, half_of_it):
    said: list[str] = []
    told = of_run._Told(
        [(), ("a",), ("onednn=off",)], flagged_step_in(run / "trace.h5", 0, half_of_it), 60.0, said.append
    )
    told(Trial((), unit=5.0, step_seconds=100.0))
    assert said[0] == "trying what cures it: 3 trials, at most 60 s"
    assert said[-1].startswith("that took 0 s; the others take about") and said[-1].endswith("of which 60 s are left")


def test_a_cure_of_the_op_alone_stays_where_nothing_cures_all():
    first = replace(result_with("kernel").divergences[0], cured_by=("tf32=off", "execution=eager"))
    op_right = Trial(("tf32=off",), op=0.4, unit=105.0, step=80.0)
    found = Attribution(Trial((), op=95.0, unit=105.0, step=155.0), (op_right,))
    assert refined(first, found).cured_by == ("tf32=off",)  # eager execution was not tried
    assert refined(first, replace(found, trials=(replace(op_right, op=90.0),))).cured_by == ()


@pytest.mark.parametrize("blame", ["random-stream", "state-update", "framework"])
def test_a_blame_that_says_more_stays(blame):
    first = result_with(blame).first_divergence
    assert first is not None and refined(first, FOUND).blame == blame


def test_a_step_that_is_right_when_run_again_changes_nothing():
    first = result_with("kernel").first_divergence
    assert first is not None and refined(first, replace(FOUND, baseline=Trial((), unit=0.5))) is first


def test_a_run_that_was_not_attributed_says_how_to(run):
    result = replace(result_with("kernel"), files={"trace": str(run / "trace.h5")})
    assert printing.next_commands(result, [])[0] == f"python -m diag.attribute {run / 'trace.h5'}"
    attributed = replace(result, attribution=FOUND)
    assert printing.next_commands(attributed, [])[0].endswith("--substitute dense_1=reference")
