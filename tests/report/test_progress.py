"""Progress: a bar on a terminal, few lines elsewhere, nothing if quiet."""

from __future__ import annotations

import io

from rich.console import Console

from diag.report.progress import StepProgress


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run(console, clock, quiet=False, seconds_a_step=4.0):
    with StepProgress(20, quiet=quiet, console=console, clock=clock) as progress:
        for step in range(8):
            clock.now += seconds_a_step
            progress.update(step, "watching", 0.69314, 0.7)
        progress.update(3, "microscope")


def test_off_a_terminal_at_most_a_line_every_ten_seconds():
    file = io.StringIO()
    run(Console(file=file), Clock())
    assert file.getvalue().splitlines() == [
        "step 2/20  loss 0.6931 / 0.7  watching, about 72 s left",
        "step 5/20  loss 0.6931 / 0.7  watching, about 60 s left",
    ]


def test_a_short_run_off_a_terminal_says_nothing():
    file = io.StringIO()
    run(Console(file=file), Clock(), seconds_a_step=0.5)
    assert file.getvalue() == ""


def test_quiet():
    for is_terminal in (True, False):
        file = io.StringIO()
        run(Console(file=file, force_terminal=is_terminal), Clock(), quiet=True)
        assert file.getvalue() == ""


def test_on_a_terminal_a_bar_that_goes_away():
    file = io.StringIO()
    run(Console(file=file, force_terminal=True, width=80), Clock())
    assert "step 3/20  loss 0.6931 / 0.7  microscope" in file.getvalue()
    assert file.getvalue().endswith("\x1b[1A\x1b[2K")  # the line is cleared


def test_it_writes_to_stderr(capsys):
    clock = Clock()
    with StepProgress(20, clock=clock) as progress:
        clock.now = 11.0
        print("{}")
        progress.update(1, "watching")
    captured = capsys.readouterr()
    assert captured.out == "{}\n"
    assert captured.err == "step 1/20  watching\n"


def test_stdout_is_left_alone_while_the_bar_shows(capsys):
    with StepProgress(20, console=Console(file=io.StringIO(), force_terminal=True)):
        print("{}")
    assert capsys.readouterr().out == "{}\n"
