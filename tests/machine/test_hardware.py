"""What is read off a machine, from the texts its system gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diag.machine import hardware as machine

OPEN = """NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build  (dvs-builder@U16)
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""
CLOSED = """NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024
GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)
"""


@pytest.mark.parametrize(("text", "version"), [(OPEN, "560.35.03"), (CLOSED, "550.54.15"), ("no driver\n", "")])
def test_the_version_of_nvidias_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, version: str
) -> None:
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    assert machine.nvidia_driver() == ""
    machine.DRIVER.write_text(text)
    assert machine.nvidia_driver() == version


def test_the_processor_of_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROCESSORS", tmp_path / "cpuinfo")
    machine.PROCESSORS.write_text("processor\t: 0\nvendor_id\t: X\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: B\n")
    assert machine.processor() == "Some CPU @ 2 GHz"


def test_the_chip_of_a_mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """sysctl's answer, by a stand-in: no Mac runs these tests."""
    sysctl = tmp_path / "sysctl"
    sysctl.write_text('#!/bin/sh\n[ "$*" = "-n machdep.cpu.brand_string" ] && echo "Apple M1 Pro"\n')
    sysctl.chmod(0o755)
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.processor() == "Apple M1 Pro"
    sysctl.unlink()
    assert machine.processor() == ""


def test_variables_that_change_arithmetic_and_no_others() -> None:
    kept = {
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_CUDNN_USE_AUTOTUNE": "0",
        "XLA_FLAGS": "--xla_gpu_autotune_level=0",
        "NVIDIA_TF32_OVERRIDE": "0",
        "CUDA_VISIBLE_DEVICES": "1",
        "MTL_DEBUG_LAYER": "1",
        "METAL_DEVICE_WRAPPER_TYPE": "1",
        "TURN_OFF_REMAPPER": "1",
        "OMP_NUM_THREADS": "2",
    }
    left_out = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_VAR_db_password": "secret of Terraform's",
        "TF_TOKEN_app_terraform_io": "another",
        "TF_SERVICE_API_KEY": "a third",
        "CUDA_HOME": "/usr/local/cuda",
        "PATH": "/bin",
    }
    assert machine.variables({**left_out, **kept}) == kept


def test_variables_are_as_recorded_unless_set_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    machine.restore_variables({"NVIDIA_TF32_OVERRIDE": "0", "TF_ENABLE_ONEDNN_OPTS": "0", "PATH": "nowhere"})
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "1" and os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert os.environ["PATH"] != "nowhere"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("XLA_FLAGS", "--xla_dump_to=/tmp/somewhere"),
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true --xla_dump_to=/tmp/somewhere"),
        ("XLA_FLAGS", "--xla_gpu_cuda_data_dir=/tmp/somewhere"),
        ("XLA_FLAGS", "flags.txt"),  # XLA reads its flags from a file of this name
        ("XLA_FLAGS", ["--xla_cpu_enable_fast_math=true"]),
        ("TF_ENABLE_ONEDNN_OPTS", "1; rm"),
        ("TF_ENABLE_ONEDNN_OPTS", ["0"]),
        ("TF_XLA_FLAGS", "--tf_xla_auto_jit=2"),
        ("TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "/tmp/somewhere"),
        ("LD_PRELOAD", "/tmp/somewhere.so"),
        ("PYTHONPATH", "/tmp/somewhere"),
        ("CUDA_VISIBLE_DEVICES", ""),
        ("KERAS_BACKEND", "theirs"),
    ],
)
def test_nothing_but_a_known_switch_comes_into_force_from_a_trace(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    machine.restore_variables({name: value})
    assert dict(os.environ) == before


def test_switches_of_xla_come_into_force_from_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.delenv("XLA_FLAGS")
    machine.restore_variables({"XLA_FLAGS": "--xla_allow_excess_precision=false  --xla_cpu_enable_fast_math"})
    assert os.environ["XLA_FLAGS"] == "--xla_allow_excess_precision=false --xla_cpu_enable_fast_math"
