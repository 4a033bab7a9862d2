"""Two devices of one kind, as GPU:0 and GPU:1 of a host are: TensorFlow makes two of this CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BOTH = """
import sys
import tensorflow as tf

two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
from diag.engine.lanes.lane import Lane
from diag.lockstep import main

devices, made = set(), Lane.__init__

def init(lane, name, place, *rest):
    made(lane, name, place, *rest)
    devices.add((str(place), lane.variables[0].device.rpartition("device:")[2]))

Lane.__init__ = init
code = main(sys.argv[1:])
print(*sorted(devices), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["graph", "xla"])
def test_the_second_device_is_held_against_the_first(tmp_path, execution):
    out = str(tmp_path / "out")
    words = ["--model", "tests/zoo.py:mlp", "--steps", "3", "--deterministic", "--quiet", "--json", "--out", out]
    places = ["--reference", f"CPU:1/{execution}", "--candidate", f"CPU:0/{execution}"]
    run = subprocess.run(
        [sys.executable, "-c", BOTH, *words, *places], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["verdict"] == "identical"
    assert f"('CPU:1/{execution}', 'CPU:1')" in run.stderr and f"('CPU:0/{execution}', 'CPU:0')" in run.stderr
