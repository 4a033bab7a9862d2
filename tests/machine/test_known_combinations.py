"""Matching a machine against known combinations: hand-made machines and rows, and every row that is shipped."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from diag.machine.known_combinations import LEVELS, Combination, Device, Machine, matching, parse, shipped

LINUX = Machine({"tensorflow": "2.21.0", "keras": "3.15.1"}, "3.11.7", "Linux", "x86_64", (Device("CPU", "CPU:0"),))
H100 = Device("GPU", "GPU:0", {"compute_capability": "(9, 0)", "device_name": "NVIDIA H100"})
T4 = Device("GPU", "GPU:0", {"compute_capability": "(7, 5)", "device_name": "Tesla T4"})
RTX_5080 = Device("GPU", "GPU:0", {"compute_capability": "(12, 0)"})
METAL = Device("GPU", "GPU:0", {"device_name": "METAL"})


def mac(tensorflow: str, metal: str | None, keras: str = "3.9.0", python: str = "3.12.4") -> Machine:
    packages = {"tensorflow": tensorflow, "keras": keras, **({"tensorflow-metal": metal} if metal else {})}
    return Machine(packages, python, "Darwin", "arm64", (METAL,) if metal else ())


def nvidia(device: Device, tensorflow: str = "2.21.0", **switches: bool) -> Machine:
    return Machine({"tensorflow": tensorflow, "keras": "3.15.1"}, "3.11.7", "Linux", "x86_64", (device,), switches)


def row(when: str, level: str = "wrong") -> str:
    return f"""
[[combination]]
id = "some"
level = "{level}"
title = "t"
{when}
wrong = "w"
do = "d"
sources = ["https://example.org/1"]
"""


def holds(when: str, machine: Machine) -> bool:
    return bool(matching(machine, parse(row(when))))


@pytest.mark.parametrize(
    "when, machine, expected",
    [
        ('when.packages = { tensorflow = ">=2.20" }', LINUX, True),
        ('when.packages = { tensorflow = "<2.20" }', LINUX, False),
        ('when.packages = { tensorflow-metal = "" }', LINUX, False),  # any version, but not installed
        ('when.packages = { tensorflow-metal = "" }', mac("2.18.0", "1.2.0"), True),
        ('when.packages = { tensorflow = ">=2.20", tensorflow-metal = "" }', mac("2.18.0", "1.2.0"), False),
        ('when.packages = { tensorflow = ">=2.20" }', mac("2.20.0rc0", None), False),
        ('when.packages = { tensorflow = ">=2.20" }', mac("2.21.0.dev20260101", None), True),
        ('when.packages = { tensorflow = ">=2.20" }', mac("of my own", None), False),
        ('when.absent = ["tensorflow-metal"]', LINUX, True),
        ('when.absent = ["tensorflow-metal"]', mac("2.18.0", "1.2.0"), False),
        ('when.python = ">=3.13"', mac("2.20.0", None, python="3.13.1"), True),
        ('when.python = ">=3.13"', LINUX, False),
        ('when.system = "Darwin"', LINUX, False),
        ('when.machine = "x86_64"', LINUX, True),
        ('when.device = "GPU"', LINUX, False),
        ('when.device = "GPU"', nvidia(T4), True),
        ('when.compute_capability = ">=8.0"', nvidia(T4), False),
        ('when.compute_capability = ">=8.0"', nvidia(H100), True),
        ('when.compute_capability = ">=8.0"', nvidia(RTX_5080), True),  # 12 is more than 8, as text it is less
        ('when.compute_capability = ">=8.0"', mac("2.18.0", "1.2.0"), False),
        ("when.switches = { tf32 = true }", nvidia(H100, tf32=True), True),
        ("when.switches = { tf32 = true }", nvidia(H100, tf32=False), False),
        ("when.switches = { tf32 = false }", nvidia(H100), False),  # not known is neither
    ],
)
def test_a_condition_holds_or_not(when, machine, expected):
    assert holds(when, machine) is expected


@pytest.mark.parametrize(
    "text, said",
    [
        (row("when.packages = { tensorflow = 'newer' }"), "Invalid specifier"),
        (row("when.moon = 'full'"), "expected a condition of"),
        (row("when = {}"), "expected a condition of"),
        (row("when.python = '>=3'", level="odd"), "expected a level of broken"),
        (row("when.python = '>=3'").replace("https:", "ftp:"), "at least one source"),
        (row("when.python = '>=3'").replace('sources = ["https://example.org/1"]', ""), "expected the fields"),
    ],
)
def test_a_row_that_is_not_as_it_should_be_is_refused(text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(text)


def test_the_worst_comes_first():
    rows = parse("".join(row("when.python = '>=3'", level) for level in reversed(LEVELS)))
    assert [found.level for found in matching(LINUX, rows)] == list(LEVELS)


# ---- what is shipped

HIT: dict[str, Machine] = {
    "metal-1.1-tensorflow-2.18": mac("2.18.0", "1.1.0"),
    "metal-1.2-tensorflow-2.20": mac("2.20.0", "1.2.0"),
    "metal-fused-dense": mac("2.18.0", "1.2.0"),
    "metal-relu": mac("2.14.0", "1.1.0", keras="2.14.0"),
    "metal-convolution-65536-channels": mac("2.16.1", "1.1.0"),
    "metal-top-k-16": mac("2.9.0", "0.5.0"),
    "metal-random-repeats": mac("2.8.0", "0.4.0"),
    "metal-stateless-uniform-integers": mac("2.19.0rc0", "1.2.0"),
    "metal-optimizer-2.11": mac("2.13.0", None),
    "metal-python-3.13": mac("2.20.0", None, python="3.13.1"),
    "tf32": nvidia(H100, tf32=True),
    "blackwell": nvidia(RTX_5080, tensorflow="2.20.0"),
    "onednn": nvidia(T4, onednn=True),
    "keras-bias-add": LINUX,
    "nondeterministic-gpu": nvidia(T4, op_determinism=False),
}
CLEAN = Machine({"tensorflow": "2.22.0", "keras": "3.6.0"}, "3.12.0", "Linux", "aarch64", (), {"onednn": False})


def test_every_row_has_a_machine_that_it_is_meant_for():
    assert [combination.id for combination in shipped()] == list(HIT)


@pytest.mark.parametrize("combination", shipped(), ids=lambda combination: combination.id)
def test_a_shipped_row_matches_what_it_is_meant_for_and_not_everything(combination: Combination):
    assert combination.when.holds(HIT[combination.id])
    assert not combination.when.holds(CLEAN)
    assert all(source.startswith("https://") and " " not in source for source in combination.sources)
    assert combination.wrong.endswith(".") and combination.do.endswith(".")


def ids(machine: Machine) -> set[str]:
    return {combination.id for combination in matching(machine, shipped()) if combination.is_bad}


def test_the_pair_that_the_project_installs_on_a_mac_loads():
    """tensorflow-metal 1.2.0 with TensorFlow 2.18 and 2.19: hit by what it computes, not by what it is."""
    for tensorflow in ("2.18.1", "2.19.0"):
        assert not ids(mac(tensorflow, "1.2.0")) & {"metal-1.1-tensorflow-2.18", "metal-1.2-tensorflow-2.20"}
    assert "metal-fused-dense" in ids(mac("2.18.0", "1.2.0"))
    assert "metal-fused-dense" not in ids(mac("2.18.0", "1.2.0", keras="3.6.0"))


def test_tf32_is_bad_only_where_the_chip_has_it():
    assert ids(nvidia(H100, tf32=True)) == {"tf32"}
    assert ids(nvidia(H100, tf32=False)) == ids(nvidia(T4, tf32=True)) == set()


def test_no_tensorflow_is_loaded():
    """It may be TensorFlow that does not load."""
    code = (
        "import sys; from diag.machine.known_combinations import shipped; shipped(); print('tensorflow' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "False"
