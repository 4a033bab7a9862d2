"""The command: exit codes, JSON alone on stdout, files, and one line for what cannot be asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from probes import __main__ as command
from probes.frame.device_report import Measurement, report_of
from tests.probes.device_reports import MEASUREMENTS, card

ROOT = Path(__file__).parents[2]
FEW = ["--quick", "--family", "random", "--op", "keras.random.dropout", "--quiet"]


def said(capsys, *arguments: str) -> tuple[int, str, str]:
    code = command.main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("place, code, status", [("CPU:0", 0, "pass"), ("sim:rng-frozen/graph", 1, "fail")])
def test_json_is_the_card_and_nothing_else_and_the_code_says_whether_anything_failed(capsys, place, code, status):
    found, out, err = said(capsys, *FEW, "--place", place, "--json")
    assert (found, err) == (code, "")
    made = report_of(out, "stdout")
    assert {each.status for each in made.measurements} == {status, "pass"}
    assert made.quick and made.environment["tensorflow"]


def test_out_and_emit_are_written_and_compared(capsys, tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    assert said(capsys, *FEW, "--place", "CPU:0", "--out", str(first))[0] == 0
    code, out, _ = said(
        capsys, *FEW, "--place", "sim:rng-frozen", "--out", str(second), "--emit", str(tmp_path / "programs")
    )
    assert code == 1 and "0 programs for 1 failure written" in out
    assert said(capsys, "compare", str(first), str(first))[0] == 0
    code, out, _ = said(capsys, "compare", str(first), str(second), "--json")
    assert code == 1 and json.loads(out)["differences"][0]["second"]["status"] == "fail"


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--place", "TPU:0"], "is no place"),
        (["--place", "GPU:9"], "no GPU:9"),
        (["--place", "sim:none-such"], "unknown"),
        (["--place", "CPU:0/eager/mixed_float16"], "use --dtype"),
        (["--place", "CPU:0", "--op", "matmull"], "no probe fits; ops like it are MatMul"),
        (["--place", "CPU:0", "--op", "zzzz"], "no probe fits; there are"),
        (["--place", "CPU:0", "--out", "."], "found a folder"),
        (["--place", "CPU:0", "--out", "none/such/card.json"], "no folder that can be written"),
        (["--place", "CPU:0", "--emit", __file__], "found a file"),
        (["compare", "none.json", "none.json"], "cannot be read as a card"),
        (["compare", __file__, __file__], "expected a card"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_code_2(capsys, arguments, says):
    code, out, err = said(capsys, *arguments)
    assert (code, out) == (2, "")
    assert says in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--no-such-flag"], ["--dtype", "float8"], ["compare", "a.json"]])
def test_mistyped_flags_are_one_line_and_code_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_interrupted_run_leaves_no_file(capsys, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "report_of_place", interrupted)
    assert said(capsys, *FEW, "--place", "CPU:0", "--out", str(tmp_path / "c.json"))[0] == 130
    assert list(tmp_path.iterdir()) == []


def test_a_bug_of_ours_is_code_3(capsys, monkeypatch):
    monkeypatch.setattr(command, "report_of_place", lambda *arguments: 1 // 0)
    code, _, err = said(capsys, *FEW, "--place", "CPU:0")
    assert code == 3 and "ZeroDivisionError" in err


def test_a_bug_in_one_probe_is_code_3_and_the_card_is_there(capsys, monkeypatch):
    broken = Measurement("exact", "Sum", "float32", "", "unsupported", "a bug of ours", {"bug": True})
    monkeypatch.setattr(command, "report_of_place", lambda *arguments: card(broken))
    code, out, _ = said(capsys, *FEW, "--place", "CPU:0", "--json")
    assert code == 3 and report_of(out, "stdout").measurements == (broken,)


def test_cards_are_compared_without_tensorflow(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('TensorFlow must not be imported')\n")
    (tmp_path / "keras.py").write_text("raise ImportError('Keras must not be imported')\n")
    for name, made in (("a.json", card()), ("b.json", card(*MEASUREMENTS[1:]))):
        (tmp_path / name).write_text(made.to_json())
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "80"}
    given = [sys.executable, "-m", "probes", "compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    compared = subprocess.run(given, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert compared.returncode == 1 and "only in CPU:0/eager (first)" in compared.stdout, compared.stderr
