"""The frame of every command: which exit code and which lines an error, an interrupt or a bug ends with."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diag.common.command import command_parser, run_command
from diag.common.stopping import Stopped, Stopping
from diag.common.terminal import ReportConsole
from diag.errors import UserError


def ended_with(error: BaseException, capsys: pytest.CaptureFixture[str], **frame: object) -> tuple[int, str]:
    def run(options: object) -> int:
        raise error

    code = run_command("name", command_parser("name", "What it does."), run, [], **frame)
    out, err = capsys.readouterr()
    assert out == ""
    return code, err


def test_a_users_error_is_one_line(capsys):
    assert ended_with(UserError("two\n lines"), capsys) == (2, "name: two lines\n")


def test_an_interrupt_is_one_line_that_says_what_is_left(capsys):
    assert ended_with(KeyboardInterrupt(), capsys) == (130, "name: interrupted\n")
    assert ended_with(KeyboardInterrupt(), capsys, left="half is there") == (130, "name: interrupted; half is there\n")


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "SIGTERM")]
)
@pytest.mark.parametrize(
    "swallowed", [None, ImportError("a module that turns what it meets into this"), UserError("no")]
)
def test_a_signal_ends_it_whatever_becomes_of_the_interrupt(number, code, word, swallowed, capsys):
    def run(options):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            if swallowed is not None:
                raise swallowed from None
        return 0

    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert run_command("name", command_parser("name", ""), run, []) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and word in err
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_bug_is_a_traceback(capsys):
    code, err = ended_with(ValueError("a bug"), capsys)
    assert code == 3 and err.startswith("Traceback") and "a bug" in err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "name: cannot write what it prints: No space left on device",
        ),
        (OSError(errno.EROFS, "Read-only file system", "x.py"), 2, "name: cannot write x.py: Read-only file system"),
        (MemoryError("Unable to allocate 3 TiB"), 2, "name: out of memory: Unable to allocate 3 TiB"),
    ],
)
def test_what_the_machine_has_no_room_for_is_one_line(error, code, line, capfd):
    found, err = ended_with(error, capfd)
    assert found == code and err.startswith(line) and err.count("\n") == bool(line)


def test_the_command_s_own_exit_code_is_returned_and_its_docstring_is_the_help(capsys):
    parser = command_parser("name", "First line.\n\n  indented")
    assert run_command("name", parser, lambda options: 1, []) == 1
    assert "First line.\n\n  indented\n" in parser.format_help()
    with pytest.raises(SystemExit) as ended:
        run_command("name", parser, lambda options: 0, ["--nonsense"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "python -m name: unrecognized arguments: --nonsense; see --help\n"


def test_an_interrupt_that_passed_through_exec_leaves_the_exit_code_as_it_is():
    program = """
import signal, sys
from diag.common.command import command_parser, run_command
run = lambda options: exec("signal.raise_signal(signal.SIGTERM)", {"signal": signal})
sys.exit(run_command("name", command_parser("name", ""), run, []))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "name: ended from outside (SIGTERM)\n")


def test_what_python_does_not_come_back_from_is_ended_by_another_thread():
    program = """
import signal, sys, threading
from diag.common import stopping
from diag.common.command import command_parser, run_command
stopping.GRACE = 0.2
def run(options):
    threading.Timer(0.2, signal.raise_signal, [signal.SIGTERM]).start()
    while True:
        try:
            threading.Event().wait()  # as code that swallows whatever it meets
        except BaseException:
            pass
sys.exit(run_command("name", command_parser("name", ""), run, []))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, "name: ended from outside (SIGTERM)\n")


def test_nothing_is_printed_of_where_else_the_interrupt_came_through():
    program = """
import signal, sys
from diag.common.command import command_parser, run_command
class Swallows:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
def run(options):
    print("before", file=sys.stderr)
    Swallows()  # Python cannot raise what comes here, and prints it
    return 0
sys.exit(run_command("name", command_parser("name", ""), run, []))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "before\nname: interrupted\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_what_nobody_could_read_was_no_success(flag):
    program = f"""
import sys
from diag.common.command import command_parser
parser = command_parser("name", "What it does. " * 1000)
parser.parse_args(["{flag}"])
"""
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.startswith("python -m name: cannot write what it prints: No space")
    assert done.stderr.count("\n") == 1
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run([sys.executable, "-c", program], stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_without_our_signs_gets_signs_like_them():
    program = """
import sys
from diag.common.command import command_parser, run_command
run = lambda options: print("─ ± 3 × 漢") or 0
sys.exit(run_command("name", command_parser("name", ""), run, []))
"""
    for encoding, shown in (("ascii", b"- +- 3 x \\u6f22\n"), ("cp1252", b"- \xb1 3 \xd7 \\u6f22\n")):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, shown, b"")


@pytest.mark.parametrize(("columns", "width"), [("0", 80), ("000", 80), ("", 80), ("100", 100)])
def test_a_terminal_of_no_columns_is_one_that_does_not_say(columns, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert ReportConsole(file=io.StringIO()).width == width


def test_a_signal_is_raised_though_the_thread_that_watches_saw_it_first():
    stopping = Stopping("command")
    stopping.number = signal.SIGINT
    with pytest.raises(Stopped):
        stopping._take(signal.SIGINT, None)
    stopping._take(signal.SIGINT, None)  # one is enough
