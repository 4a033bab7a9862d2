"""A few cases of fuzzing; `python -m tests.fuzz --minutes 60` is an hour of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each command runs in a forked process")

# libhdf5 itself may crash on damaged bytes, which no reader of ours can prevent (docs/SECURITY.md): one command of the
# some 600 of a minute does.
CRASHES, MOST_CRASHES = ("exit -6", "exit -7", "exit -11"), 3


def fuzz(state: Path, cases: int) -> str:
    command = [sys.executable, "-m", "tests.fuzz", "--cases", str(cases), "--seed", "7", "--state", str(state)]
    command += ["--minutes", "4"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False).stdout


def test_nothing_ends_badly_and_a_run_goes_on(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    said = fuzz(state, 48)
    first = json.loads(state.read_text())
    assert all(bad["what"] in CRASHES for bad in first["bad"]) and len(first["bad"]) <= MOST_CRASHES, said
    assert first["next_case"] == 48
    assert set(first["codes"]) == {"bytes", "headers", "fields", "datasets"}
    codes = {code for of_kind in first["codes"].values() for code in of_kind if not code.startswith("-")}
    assert codes == {"0", "1", "2"}  # some are let in, some found damaged, some refused: the cases are worth their time
    fuzz(state, 2)
    assert json.loads(state.read_text())["next_case"] == 50
