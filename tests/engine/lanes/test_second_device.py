"""Two devices of one kind, as GPU:0 and GPU:1 of a host are: TensorFlow makes two of this CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TWO = """
import sys
import tensorflow as tf

two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
"""
BOTH = f"""{TWO}
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
LISTS = f"""{TWO}
import json
import numpy as np
from diag.engine.faults.simulation import Simulation
from diag.engine.lanes.eager import EagerPlace
from diag.engine.lanes.lane import Lane
from diag.engine.lockstep.microscope import Microscope
from diag.engine.step.tracing import trace
from diag.machine.places import parse_place
from tests import zoo

batch = zoo.batch_for(zoo.lstm)
program = trace(zoo.made(zoo.lstm), batch)

def rolled(call):
    is_item = call.op_type == "TensorListGetItem" and call.phase == "forward" and call.outputs[0].ndim
    return [np.roll(call.outputs[0], 1, -1)] if is_item else None

def judged(fault):
    places = (("reference", "CPU:0", None), ("candidate", "CPU:1", fault and Simulation("by hand", fault)))
    lanes = [Lane(name, parse_place(place), fault, program.initial_state()) for name, place, fault in places]
    found = Microscope(program, lanes, 0).run([tf.constant(batch.inputs), tf.constant(batch.targets)])
    lists = [o for o in found if o.where.op_type.startswith("TensorList")]
    return [(o.where.op_type, o.where.phase, o.verdict.value) for o in lists], len(found)

runs = [judged(None), judged(rolled)]
EagerPlace.reads_lists_of = lambda place, device: False
print(json.dumps([*runs, judged(None)]))
"""


def test_what_a_loop_reads_of_its_lists_is_judged_on_two_devices():
    run = subprocess.run([sys.executable, "-c", LISTS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    (healthy, number), (faulty, _), (not_copied, fewer) = json.loads(run.stdout)
    phases = [(op, phase) for phase in ("forward", "backward") for op in ("TensorListGetItem", "TensorListStack")]
    assert healthy == [[*each, "identical"] for each in phases]
    assert [verdict for *_, verdict in faulty] == ["divergence", "identical", "identical", "identical"]
    assert (not_copied, fewer) == ([], number - 4)  # a device that does not copy lists: all else is judged as before


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
