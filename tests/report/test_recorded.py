"""The report again from a trace, without TensorFlow: of runs that ended, that were killed, and that lie."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diag.report import json_report
from diag.report.__main__ import main
from diag.report.issue import fenced
from diag.report.stored import KEY, record_of, report_with_record, result_of
from tests.report.test_terminal import CLEAN, DIVERGED, LARGE, ROUNDING, rendered
from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout, op_columns, unit_columns
from traces.writer import TraceWriter

FIGURES = ("propagated_size", "propagated_num_unequal", "propagated_normwise_relative_error")
LAYOUT = TraceLayout(
    steps=20,
    variables=tuple(TensorSpec("w", (1,), "float32", lane) for lane in ("reference", "candidate")),
    batch=(TensorSpec("x", (1,), "float32"),),
    layers=("dense",),
    op_columns=op_columns(FIGURES),
    unit_columns=unit_columns(FIGURES),
)
PLACES = {"reference": {"place": "CPU:0/graph"}, "candidate": {"place": "GPU:0/graph"}}


def trace(folder: Path, report: dict | None, num_steps: int = 20, command: tuple[str, ...] = ()) -> Path:
    """A trace of a run of which so many steps are whole; the third one has a layer that is wrong."""
    path = folder / "trace.h5"
    with TraceWriter(path, LAYOUT, RunDocuments(PLACES, command)) as writer:
        writer.write_batch(0, {"x": np.zeros(1, np.float32)})
        for step in range(num_steps):
            excess, verdict = (5.0, "divergence") if step == 2 else (0.2, "rounding")
            row = {"step": step, "unit": "layer:output", "phase": "forward", "layer": "dense", "dtype": "float32"}
            row |= {"variable": None, "shape": "4", "excess": excess, "verdict": verdict, "bound": 1.0}
            row |= dict(zip(FIGURES, (4.0, 2.0, 0.5), strict=True))
            writer.append_units({name: [value] for name, value in row.items()})
            writer.append_step(StepRecord(step, 0, {"reference": 0.6931472, "candidate": 0.7}))
        if report is not None:
            writer.write_report(report)
    return path


@pytest.mark.parametrize("result", [CLEAN, ROUNDING, DIVERGED, LARGE])
def test_what_is_kept_of_a_result_gives_the_same_report(result):
    kept = json.loads(json.dumps(record_of(result), allow_nan=False))
    assert rendered(result_of(kept), 100) == rendered(result, 100)


def test_a_recorded_run_is_reported_on_again(tmp_path, capsys):
    path = trace(tmp_path, report_with_record(DIVERGED), command=("python", "-m", "diag.lockstep"))
    assert main([str(path)]) == 1
    printed = capsys.readouterr().out
    assert "1,200,000 times what rounding can explain" in " ".join(printed.split())
    assert f"python -m diag.attribute {path}" in printed and str(path) in printed.splitlines()[-2]
    assert main([str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == json_report.report(DIVERGED)
    assert main([str(path), "--issue"]) == 1
    issue = capsys.readouterr().out
    assert issue.startswith("**Divergence at step 0") and "| place | CPU\\:0/graph |" in issue
    assert issue.count("<details>") == issue.count("</details>") == 1


def test_a_run_that_was_killed_says_where_it_was_wrong_and_that_it_is_not_whole(tmp_path, capsys):
    path = trace(tmp_path, None, num_steps=4)
    assert main([str(path), "--verbose"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "Divergence at step 2, forward: layer dense" in text and "5 times what rounding can explain" in text
    assert "the run ended before its cause was looked for" in text
    assert "of 20 steps 4 are whole in the trace" in text


@pytest.mark.parametrize("broken", [{"steps": "many"}, {"path": [1]}, {"lanes": None}, {"first_divergence": {}}])
def test_a_record_that_is_none_is_refused_in_one_line(tmp_path, capsys, broken):
    report = report_with_record(CLEAN)
    path = trace(tmp_path, {**report, KEY: {**report[KEY], **broken}})
    assert main([str(path)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "not one of ours" in said.err and not said.out


def test_no_text_ends_a_block_of_code():
    assert fenced("a\n````\n# title\x1b") == "`````\na\n````\n# title\\x1b\n`````"


def test_it_does_without_tensorflow(tmp_path):
    path = trace(tmp_path, report_with_record(CLEAN))
    code = (
        "import sys; from diag.report.__main__ import main\n"
        f"code = main([{str(path)!r}]); assert not [m for m in sys.modules if m.startswith(('tensorflow', 'keras'))]\n"
        "sys.exit(code)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
