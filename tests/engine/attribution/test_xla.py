"""A fault of XLA alone: found, and told from the graph rewriter's by what cures it.

No public interface plants a fault in XLA's own compiler, so it stands here for what XLA is given: a rewriter that is
heard where the step is compiled by XLA, and by no switch of grappler.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from diag import lockstep
from diag.engine.attribution.trial_runner import FlaggedUnit, TrialRunner
from diag.engine.lanes import compiled
from diag.engine.lanes import lane as lanes
from diag.engine.localization import bisection
from diag.engine.recordings.recorded_run import RecordedRun
from diag.machine.places import parse_place
from diag.machine.switches import REWRITING
from diag.verdict.attribution import TrialOutcome, blame_of, outcome

ZOO = Path(__file__).parents[2] / "zoo.py"
FILE = """
def no_relu(graph):
    for node in graph.node:
        if node.op == "Relu":
            node.op = "Identity"
    return graph
"""


@pytest.fixture
def only_in_xla(monkeypatch):
    def build(executable, place, simulation, variables, **how):
        simulation = simulation if place.execution == "xla" else None
        return whole(executable, place, simulation, variables, **how)

    whole = compiled.build
    monkeypatch.setattr(compiled, "runs_rewriters", lambda: True)
    for module in (lanes, bisection):
        monkeypatch.setattr(module, "build", build)


def test_xla_is_blamed_where_graph_execution_cures_and_no_pass_of_grappler_does(only_in_xla, tmp_path):
    (tmp_path / "file.py").write_text(FILE)
    out, place = tmp_path / "run", f"rewrite:{tmp_path}/file.py:no_relu/xla"
    given = ["--model", f"{ZOO}:perceptron", "--candidate", place, "--steps", "1", "--batch-size", "4", "--quiet"]
    with redirect_stdout(io.StringIO()):
        assert lockstep.main([*given, "--out", str(out)]) == 1
    first = json.loads((out / "report.json").read_text())["first_divergence"]
    assert (first["layer"], first["phase"], first["blame"]) == ("hidden", "forward", "xla")
    with RecordedRun(out / "trace.h5") as recorded:
        runner = TrialRunner(recorded, 0, "reference", parse_place(place))
        location = FlaggedUnit("layer", "hidden")
        names = [(), ("execution=graph",), ("execution=eager",), ("grappler=off",), ("remapping=off",)]
        trials = [runner.trial(each, location) for each in names]
    baseline = trials[0]
    assert [outcome(trial, baseline) for trial in trials[1:]] == [
        TrialOutcome.CURES, TrialOutcome.CURES, TrialOutcome.DIVERGES, TrialOutcome.DIVERGES,
    ]  # fmt: skip
    assert blame_of(trials[1:], baseline, "xla", REWRITING)[0] == "xla"
