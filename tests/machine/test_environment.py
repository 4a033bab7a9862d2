"""The environment of a lane says what was in force, each switch set the other way than by default."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import tensorflow as tf

from diag.machine.environment import chip, environment_of
from diag.machine.places import parse_place

SWITCHED = """
import json, sys
import tensorflow as tf
from diag.machine.environment import environment_of
from diag.machine.places import parse_place

tf.config.experimental.enable_tensor_float_32_execution(False)
tf.config.experimental.enable_op_determinism()
tf.config.set_soft_device_placement(False)
print(json.dumps(environment_of(parse_place("CPU:0/xla/mixed_bfloat16"))))
"""


def test_it_says_what_is_in_force() -> None:
    found = environment_of(parse_place("CPU:0"))
    for package in ("tensorflow", "keras", "numpy"):
        assert found[package] == metadata.version(package)
    assert found["tf32"] is tf.config.experimental.tensor_float_32_execution_enabled()
    assert (found["execution"], found["policy"], found["device"]["name"]) == ("graph", "float32", "CPU:0")
    assert found["chip"] == found["device"]["processor"]
    assert json.loads(json.dumps(found)) == found
    assert "cuda" not in found  # that is a GPU lane's


def test_switches_turned_the_other_way() -> None:
    variables = {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_VAR_password": "hush"}
    ran = subprocess.run(
        [sys.executable, "-c", SWITCHED],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(ran.stdout.splitlines()[-1])
    assert (found["onednn"], found["tf32"], found["soft_placement"]) == (False, False, False)
    assert found["op_determinism"] is True
    assert (found["execution"], found["policy"]) == ("xla", "mixed_bfloat16")
    assert found["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert "hush" not in ran.stdout


@pytest.mark.parametrize(
    ("details", "expected"),
    [({"device_name": "NVIDIA H200"}, "NVIDIA H200"), ({"device_name": "METAL"}, "Some Chip"), ({}, "Some Chip")],
)
def test_the_chip_of_a_device(monkeypatch: pytest.MonkeyPatch, details: dict[str, str], expected: str) -> None:
    monkeypatch.setattr("diag.machine.hardware.processor", lambda: "Some Chip")
    assert chip({"name": "GPU:0", **details}) == expected
