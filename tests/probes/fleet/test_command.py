"""`python -m probes --devices` and `python -m probes fleet`: which simulated device is the odd one."""

from __future__ import annotations

import json

import pytest

from diag.common.task import Done
from diag.machine.places import Place
from probes import __main__ as command
from probes.fleet import command as fleet
from probes.fleet.answers import device_of
from probes.fleet.siblings import OTHER, VARIES, compare

FEW = ["--quick", "--op", "MatMul", "--dtype", "float32", "--family", "bits"]


def test_two_devices_that_differ_are_named_and_none_is_asked_twice(capsys, tmp_path):
    arguments = ["fleet", "--devices", "CPU:0,sim:tf32", "--resume", str(tmp_path), "--json", "--jobs", "2", *FEW]
    assert command.main(arguments) == 1
    first = capsys.readouterr().out
    (group,) = json.loads(first)["siblings"]
    assert [(each["device"], len(each["differences"])) for each in group["devices"]] == [
        ("CPU:0/eager", 2), ("sim:tf32/eager", 2),
    ]  # fmt: skip
    assert command.main(arguments) == 1  # out of the folder
    assert capsys.readouterr().out == first


FLAKY = """
import os
import numpy as np

def fault(call):
    return [call.outputs[0] + np.float32(int.from_bytes(os.urandom(2), "big"))]
"""


def test_a_device_that_is_not_the_same_twice_answers_nothing_that_counts(tmp_path):
    from probes.fleet import asking

    (tmp_path / "flaky.py").write_text(FLAKY)
    choice = {"ops": ["MatMul"], "dtypes": ["float32"], "families": ["bits"], "quick": True}
    places = {"a": "CPU:0", "b": "CPU:0", "tf32": "sim:tf32", "flaky": f"sim:{tmp_path}/flaky.py:fault"}
    devices = [
        device_of(label, Done(label, asking.answers(f"{place}/eager", choice, 0, None)))
        for label, place in places.items()
    ]
    (group,) = compare(devices).siblings
    assert {(each.label, each.how) for each in group.differences} == {("tf32", OTHER), ("flaky", VARIES)}


def test_each_of_several_gpus_is_seen_alone(monkeypatch):
    import tensorflow as tf
    from tensorflow.python.client import device_lib

    from probes.fleet import asking

    monkeypatch.setattr(asking, "import_tensorflow", lambda: None)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a", "b"])
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"is_cuda_build": True})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    gpus = asking.gpus()
    assert [(gpu["label"], gpu["environment"]["CUDA_VISIBLE_DEVICES"]) for gpu in gpus] == [
        ("GPU:0", "3"),
        ("GPU:1", "5"),
    ]
    second = {"label": "GPU:1/graph", "place": "GPU:0/graph", "environment": {"CUDA_VISIBLE_DEVICES": "5"}}
    assert list(fleet._devices([], gpus, "graph"))[1] == second
    assert list(fleet._devices([Place("GPU:1")], gpus, "eager")) == [second]
    monkeypatch.setattr(tf.sysconfig, "get_build_info", dict)  # as of tensorflow-metal
    assert [(gpu["place"], gpu["environment"]) for gpu in asking.gpus()] == [("GPU:0", {}), ("GPU:1", {})]

    described = "device: 0, name: NVIDIA H100, pci bus id: 0000:1b:00.0, compute capability: 9.0"
    assert asking.bus_in(described) == "0000:1b:00.0"
    assert any(each.name == "/device:CPU:0" for each in device_lib.list_local_devices())


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--devices", "CPU:0"], "1 device on this host, and it takes two to differ"),
        (["--devices", "CPU:0,CPU:0"], "CPU:0/eager is named twice"),
        (["--devices", "CPU:0,TPU:1"], "is no place"),
        (["--devices", "CPU:0,sim:tf32/mixed_float16"], "use --dtype"),
        (["--devices", "CPU:0,sim:tf32", "--out", "x.json"], "leave --out out"),
        (["fleet", "--devices", "CPU:0,sim:tf32", "--cluster", "tcp://127.0.0.1:1"], "--cluster"),
    ],
)
def test_what_cannot_be_asked(capsys, arguments, says):
    assert command.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and says in err
