"""A command in a process of its own: its exit code where it says that it is done, an error wherever it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diag.common.child import ChildLimits, in_child
from diag.common.memory import family_of, resident_bytes, total_bytes

LIMITS = ChildLimits(60, 8 << 30)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module whose `main` executes its arguments, each a statement."""
    (tmp_path / "statements.py").write_text(
        "import os, signal, sys, time\n\ndef main(given):\n    for each in given:\n        exec(each)\n    return 1\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "statements"


def test_the_exit_code_and_what_is_printed_come_through(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert in_child("name", command, ["print('found')"], LIMITS) == 1
    assert in_child("name", command, ["sys.exit(3)"], LIMITS) == 3
    assert in_child("name", command, ["sys.exit()"], LIMITS) == 0
    assert capfd.readouterr() == ("found\n", "")


@pytest.mark.parametrize(
    ("statement", "how"),
    [("os._exit(0)", "exit code 0"), ("os._exit(1)", "exit code 1"), ("os.abort()", "SIGABRT"),
     ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"), ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL")],
)  # fmt: skip
def test_an_end_without_a_word_is_an_error(
    command: str, statement: str, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert in_child("name", command, [statement], LIMITS) == 2
    assert capfd.readouterr() == (
        "",
        f"name: the stored step ended its process ({how}) before it was done: it has no result\n",
    )


def test_what_takes_too_long_is_ended(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert in_child("name", command, ["time.sleep(600)"], ChildLimits(1, LIMITS.num_bytes)) == 2
    assert "not done within 1 s" in capfd.readouterr().err


def test_what_takes_too_much_is_ended(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    statements = ["x = b'x' * (1 << 29)", "time.sleep(600)"]
    assert in_child("name", command, statements, ChildLimits(60, 1 << 28)) == 2
    assert "more than 0.2 GiB of memory" in capfd.readouterr().err


def test_nothing_is_imported_from_the_folder_it_is_started_in(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "h5py.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(here)
    assert in_child("name", command, ["import h5py", "print(h5py.__name__)"], LIMITS) == 1
    assert capfd.readouterr().out == "h5py\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
@pytest.mark.parametrize(
    "statement",
    [
        "time.sleep(600)",
        pytest.param("import numpy; numpy.linalg.svd(numpy.ones((3000, 3000)))", marks=pytest.mark.slow),
    ],
)
def test_it_ends_with_its_starter(command: str, number: int, code: int, statement: str) -> None:
    """Also one that is deep in a computation, where Python's signals do not come through."""
    statements = ["print(os.getpid(), flush=True)", statement, "time.sleep(600)"]
    program = (
        "import sys; from diag.common.child import ChildLimits, in_child; "
        f"sys.exit(in_child('name', {command!r}, {statements!r}, ChildLimits(60, {LIMITS.num_bytes})))"
    )
    pipe = subprocess.PIPE
    starter = subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, text=True)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    time.sleep(0.3)
    starter.send_signal(number)
    _, err = starter.communicate(timeout=30)
    assert starter.returncode == code
    assert "Traceback" not in err.replace("Traceback", "", 1) if number == signal.SIGINT else err.count("\n") <= 1
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(pid)


def alive(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return done.returncode == 0 and not done.stdout.startswith("Z")


def test_memory_is_that_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import time; x = b'x' * (1 << 28); print(1, flush=True); time.sleep(60)"
    one = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert one.stdout is not None
        one.stdout.readline()
        assert one.pid in family_of(os.getpid())
        assert 1 << 28 < resident_bytes([one.pid]) < 1 << 29
        monkeypatch.setattr("diag.common.memory.PROC", Path("/not there"))
        assert one.pid in family_of(os.getpid())
        assert 1 << 28 < resident_bytes([one.pid]) < 1 << 29
    finally:
        one.kill()
        one.communicate()
    assert resident_bytes([one.pid]) == 0
    assert total_bytes() > 1 << 28


def test_a_child_that_another_thread_has_to_end_leaves_the_line_to_its_starter(tmp_path: Path) -> None:
    (tmp_path / "swallows.py").write_text(
        "import signal, time\n"
        "from diag.common import stopping\n"
        "from diag.common.command import command_parser, run_command\n"
        "stopping.GRACE = 0.2\n"
        "def run(options):\n"
        "    print('begun', flush=True)\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(600)\n"
        "        except BaseException:\n"
        "            pass\n"
        "main = lambda given: run_command('name', command_parser('name', ''), run, given, left='nothing is')\n"
    )
    program = (
        "import sys; from diag.common.child import ChildLimits, in_child; "
        f"sys.exit(in_child('name', 'swallows', [], ChildLimits(60, {LIMITS.num_bytes})))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as starter:
        assert starter.stdout is not None and starter.stdout.readline() == "begun\n"
        starter.send_signal(signal.SIGTERM)
        _, err = starter.communicate(timeout=60)
    assert (starter.returncode, err) == (143, "name: ended from outside (SIGTERM)\n")
