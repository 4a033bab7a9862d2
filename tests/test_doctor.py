"""The doctor's command: what it prints, its exit codes, and a TensorFlow that does not load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from diag import doctor
from diag.machine import diagnosis
from diag.machine.known_combinations import parse

HERE = """
[[combination]]
id = "here"
level = "{level}"
title = "this machine"
when.packages = {{ tensorflow = ">=2" }}
wrong = "It is wrong."
do = "Do this."
sources = ["https://example.org/thread/1"]
"""


def said(capsys, *arguments: str) -> tuple[int, str]:
    code = doctor.main(list(arguments))
    return code, capsys.readouterr().out


@pytest.mark.parametrize("level, code", [("broken", 1), ("precision", 1), ("note", 0)])
def test_the_exit_code_is_1_for_all_but_a_note(capsys, monkeypatch, level, code):
    monkeypatch.setattr(diagnosis, "shipped", lambda: parse(HERE.format(level=level)))
    found, text = said(capsys)
    assert found == code
    assert f"{level}: this machine" in text
    assert "What to do: Do this." in text and "https://example.org/thread/1" in text


def test_nothing_known_to_be_bad(capsys, monkeypatch):
    monkeypatch.setattr(diagnosis, "shipped", lambda: ())
    code, text = said(capsys)
    assert code == 0 and "Nothing that is known to go wrong." in text


def test_json_says_what_is_in_force(capsys):
    code, text = said(capsys, "--json")
    found = json.loads(text)
    assert found["schema"] == "lockstep-doctor/1"
    assert found["verdict"] == ("bad" if code else "good")
    assert found["versions"]["tensorflow"] == tf.__version__
    assert found["switches"]["tf32"] is tf.config.experimental.tensor_float_32_execution_enabled()
    assert found["switches"]["mixed precision"] == "float32"
    assert "CPU:0" in [device["name"] for device in found["devices"]] and "CPU:0" in found["logical_devices"]
    assert found["tensorflow_error"] is None


def test_switches_turned_the_other_way(capsys):
    was = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.optimizer.set_experimental_options({"remapping": False})
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        text = said(capsys)[1]
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(was)
        tf.config.optimizer.set_experimental_options({"remapping": True})
    assert "TensorFloat-32: off" in text and "grappler: on, without remapping" in text


BROKEN = """
raise ImportError("dlopen(libmetal_plugin.dylib): Symbol not found: __ZN3tsl8internal10LogMessage16VmoduleActivated")
"""


def test_a_tensorflow_that_does_not_load_is_what_is_reported(tmp_path):
    """As with a plugin that does not fit: what is installed is said, and that it does not load, in one line."""
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(BROKEN)
    ran = subprocess.run(
        [sys.executable, "-m", "diag.doctor"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1, ran.stderr
    assert "TensorFlow does not load" in ran.stdout
    assert "ImportError: dlopen(libmetal_plugin.dylib): Symbol not found" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr


def test_usage_is_one_line_and_2(capsys):
    with pytest.raises(SystemExit) as left:
        doctor.main(["--fix"])
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
