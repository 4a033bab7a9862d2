"""A training step of a stranger computes, or is refused in one line before anything of it is loaded."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from diag import attribute, compare, lockstep, replay
from diag.common.memory import family_of
from tests.hostile import graphs
from tests.hostile.graphs import CORPUS, SECRET, TARGET, Hostile, written

ROOT = Path(__file__).parents[2]
COMMANDS = ("replay", "replay --layer", "compare", "attribute", "lockstep")
REFUSED = [each for each in CORPUS if each.says is not None]


def run(command: str, path: Path, *flags: str) -> int:
    if command.startswith("replay"):
        return replay.main([str(path), "--step", "1", *(["--layer", "b"] if "--layer" in command else []), *flags])
    if command == "compare":
        return compare.main([str(graphs.sound()), str(path), *flags])
    if command == "attribute":
        return attribute.main([str(path), "--step", "1", *flags])
    out = str(path.parent / "run")
    return lockstep.main(["--reference", f"trace:{path}", "--candidate", "CPU:0", "--quiet", "--out", out, *flags])


@pytest.mark.parametrize("hostile", REFUSED, ids=lambda each: each.name)
def test_each_is_refused_in_one_line_by_every_command(
    hostile: Hostile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(hostile, tmp_path)
    capsys.readouterr()
    for command in COMMANDS:
        assert run(command, path) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert hostile.says is not None and hostile.says in err
        assert SECRET not in err
        is_beyond = "is damaged" not in err
        assert ("--trust runs it" in err) == is_beyond
    target = tmp_path / TARGET
    assert not target.exists() or target.read_text() == SECRET
    assert sorted(each.name for each in tmp_path.iterdir() if each != target) == [path.name]


def test_with_trust_it_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The flag does what it says, and so does the corpus: without the list that file would be written."""
    (hostile,) = (each for each in CORPUS if each.name == "writes_a_file")
    path = written(hostile, tmp_path)
    capsys.readouterr()
    assert run("replay", path, "--trust") in (0, 1)
    assert (tmp_path / TARGET).read_text() == "x"
    said = capsys.readouterr().err
    assert said.startswith(f"note: --trust runs what {path} has beyond computing: ") and "WriteFile" in said


# -- in a process of its own -----------------------------------------------------------------------


def begun(name: str, folder: Path, *flags: str) -> subprocess.Popen[str]:
    (hostile,) = (each for each in CORPUS if each.name == name)
    command = [sys.executable, "-m", "diag.replay", str(written(hostile, folder)), "--step", "1", *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(name: str, folder: Path, *flags: str) -> tuple[int, str, str]:
    process = begun(name, folder, *flags)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, "".join(line for line in err.splitlines(True) if line.startswith("replay: "))


# A child that dies is tests/common/test_child.py's, too; that a step that ends well gives no answer is seen here alone.
@pytest.mark.parametrize("name", [pytest.param("aborts", marks=pytest.mark.slow), "ends_well"])
def test_a_step_that_ends_its_process_is_no_success(name: str, tmp_path: Path) -> None:
    code, out, err = ended(name, tmp_path, "--trust")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(r"the stored step ended its process \(.*\) before it was done: it has no result", err)


def test_a_step_without_end_is_ended_in_time(tmp_path: Path) -> None:
    said = "replay: the stored step was not done within 8 s and was ended; --seconds N gives it longer\n"
    assert ended("loops_without_end", tmp_path, "--seconds", "8") == (2, "", said)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at memory often enough to see this there")
def test_a_step_without_bounds_is_ended_in_memory(tmp_path: Path) -> None:
    said = "replay: the stored step took more than 2.0 GiB of memory and was ended; --memory N gives it more\n"
    assert ended("takes_all_memory", tmp_path, "--memory", "2") == (2, "", said)


@pytest.mark.parametrize(
    "command", [pytest.param(each, marks=pytest.mark.slow) for each in ("replay", "attribute", "lockstep")]
)
def test_a_step_that_fails_is_no_bug_of_ours(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (hostile,) = (each for each in CORPUS if each.name == "takes_more_memory_than_there_is")
    path = written(hostile, tmp_path)
    capsys.readouterr()
    assert run(command, path) == 2
    assert re.search(r"cannot be run here: .*(OOM|allocat)", capsys.readouterr().err)


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A replay without end, in the midst of it."""
    process = begun("loops_without_end", tmp_path)
    try:
        deadline = time.monotonic() + 60
        while not any(seconds_of(child) > 8 for child in children_of(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.2)
        yield process
    finally:
        process.kill()
        process.communicate()


def children_of(pid: int) -> list[int]:
    return family_of(pid)[1:]


def seconds_of(pid: int) -> float:
    """What a process has computed for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        pytest.param(signal.SIGINT, 130, "replay: interrupted\n", marks=pytest.mark.slow),
        (signal.SIGTERM, 143, "replay: ended from outside (SIGTERM)\n"),
        pytest.param(signal.SIGKILL, -9, "", marks=pytest.mark.slow),
    ],
)
def test_whatever_ends_the_command_ends_the_step(
    endless: subprocess.Popen[str], number: signal.Signals, code: int, says: str
) -> None:
    (child,) = children_of(endless.pid)
    endless.send_signal(number)
    out, err = endless.communicate(timeout=30)
    assert (endless.returncode, out) == (code, "")
    assert "".join(line for line in err.splitlines(True) if line.startswith("replay: ")) == says
    assert is_gone(child)
