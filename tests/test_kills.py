"""A few kills of the commands that are quick; `python -m tests.kills` does thirty of each."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests import kills, traced


@pytest.fixture(scope="module")
def trace() -> Path:
    return traced.tf32()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="what a process began is looked up in /proc")
# What loads TensorFlow before it is killed is tests/hostile/test_graphs.py's and the attribution's, too.
@pytest.mark.parametrize(("name", "times"), [("traces", 6), pytest.param("doctor", 1, marks=pytest.mark.slow)])
def test_a_killed_command_leaves_nothing(name: str, times: int, trace: Path) -> None:
    for kill in kills.kills_of(name, trace, times, seed=1):
        assert kill.failures == []


LEAVES_ALL = """
import subprocess, sys, time
from pathlib import Path
out = Path(sys.argv[1])
(out / ".x.partial").touch()
(out / "report.json").write_text("{")
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stderr=subprocess.DEVNULL)
print("one\\ntwo", file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_what_is_left_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the script: of a program that does all wrong."""
    (tmp_path / "leaves_all.py").write_text(LEAVES_ALL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(kills, "GRACE", 0.2)
    kill = kills.kill_one(("leaves_all", "{out}"), signal.SIGTERM, 2.0, (0,))
    found = "; ".join(kill.failures)
    assert "exit code -15" in found and "2 lines" in found and "1 processes live on" in found
    assert "a file .x.partial" in found and "report.json is not whole" in found
