"""The frame of every command: which exit code and which lines an error, an interrupt or a bug ends with."""

from __future__ import annotations

import pytest

from diag.common.command import command_parser, run_command
from diag.errors import UserError


def ended_with(error: BaseException, capsys: pytest.CaptureFixture[str], **frame: object) -> tuple[int, str]:
    def run(options: object) -> int:
        raise error

    code = run_command("name", command_parser("python -m name", "What it does."), run, [], **frame)
    out, err = capsys.readouterr()
    assert out == ""
    return code, err


def test_a_users_error_is_one_line(capsys):
    assert ended_with(UserError("two\n lines"), capsys) == (2, "name: two lines\n")


def test_an_interrupt_is_one_line_that_the_command_chooses(capsys):
    assert ended_with(KeyboardInterrupt(), capsys) == (130, "name: interrupted\n")
    assert ended_with(KeyboardInterrupt(), capsys, interrupted="stopped") == (130, "name: stopped\n")


@pytest.mark.parametrize("error", [ValueError("a bug"), BrokenPipeError("no reader")])
def test_any_other_error_is_a_bug_with_its_traceback(error, capsys):
    code, err = ended_with(error, capsys)
    assert code == 3 and err.startswith("Traceback") and str(error) in err


def test_the_command_s_own_exit_code_is_returned_and_its_docstring_is_the_help(capsys):
    parser = command_parser("python -m name", "First line.\n\n  indented")
    assert run_command("name", parser, lambda options: 1, []) == 1
    assert "First line.\n\n  indented\n" in parser.format_help()
    with pytest.raises(SystemExit) as ended:
        run_command("name", parser, lambda options: 0, ["--nonsense"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "python -m name: unrecognized arguments: --nonsense; see --help\n"
