"""Controls: which runs are made, and what the table says of them."""

from __future__ import annotations

import json
from dataclasses import asdict

from benchmarks import significance
from benchmarks.controls import Control, parser, planned
from diag.common.sweep import SCHEMA
from diag.common.task import Done, Task

FIRST = {
    "step": 1, "phase": "forward", "unit": "op", "layer": "dense", "op_type": "MatMul", "op_index": 7,
    "cause": "format:tf32-rne", "blame": "kernel", "excess": 448.2, "cured_by": ["tf32=off"],
}  # fmt: skip


def test_each_control_is_a_run_of_its_own_where_it_has_something_to_do():
    asked = ["--out", "x", "--twelve", "--policies", "float32", "--seeds", "2"]
    real = planned(parser().parse_args([*asked, "--candidates", "GPU:0/eager", "GPU:0/xla", "--tf32", "off", "on"]))
    assert len({task.key for task in real}) == len(real) == 12 * 2 * 2 * 2
    assert all(Control(**task.arguments).command("x")[-2:] in (["--tf32", "on"], ["--tf32", "off"]) for task in real)
    images = planned(parser().parse_args([*asked, "--candidates", "sim:tests/faults/healthy.py:by_fft"]))
    assert {task.arguments["model"].rpartition(":")[2] for task in images} == {
        "convnext", "inverted_residual", "unet", "vit", "cnn", "xception_block",
    }  # fmt: skip


def test_the_table_has_every_verdict_and_counts_what_ran_and_did_something(tmp_path, capsys):
    told = {"exit": 0, "changed": 3, "seconds": 4.2, "verdict": "rounding", "first": None, "divergences": 0}
    largest = {"contraction": [5, 0.25], "rounded once": [9, 1.0]}
    place = "sim:tests/faults/healthy.py:strassen"
    for seed, value in enumerate(
        [
            {**told, "largest": largest},
            {**told, "changed": 0, "largest": largest},
            {**told, "exit": 1, "verdict": "divergence", "first": FIRST, "divergences": 4,
             "largest": {"contraction": [5, "inf"]}},
            None,
        ]
    ):  # fmt: skip
        task = Task(f"t{seed}", "x:y", asdict(Control("tests/zoo.py:mlp", "float32", place, seed)))
        done = Done(task.key, value, None if value else "it was not done within 9 s, and was ended", seconds=9.0)
        document = {"schema": SCHEMA, "task": task.computes, **asdict(done)}
        (tmp_path / f"{task.key}.json").write_text(json.dumps(document))
    assert significance.main(["table", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed if line.startswith("| zoo:mlp")]
    assert [row[4:] for row in rows] == [
        ["rounding", "0.25 (contraction)", "4"], ["changed nothing", "0.25 (contraction)", "4"],
        ["divergence", "inf (contraction)", "4"], ["not run", "", "9"],
    ]  # fmt: skip
    assert "| sim:healthy:strassen | 0 | 1 | 1 | 1 | 1 | inf (contraction) |" in printed
    reported = next(line for line in printed if line.startswith("zoo:mlp, float32, sim:healthy:strassen, 2"))
    for word in ("step 1 forward dense MatMul 7", "format:tf32-rne", "kernel", "448", "tf32=off", "4 in all"):
        assert word in reported
    assert any("not done within 9 s" in line for line in printed)
