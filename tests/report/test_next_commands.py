"""What to try next."""

from __future__ import annotations

from diag.report.next_commands import next_commands
from tests.report.test_terminal import CLEAN, DIVERGED


def test_what_was_asked_for_is_not_proposed_again():
    for result in (CLEAN, DIVERGED):
        assert any(command.endswith("--units op") for command in next_commands(result, []))
        proposed = next_commands(result, ["--units", "op"])
        assert proposed and all(command.count("--units") <= 1 for command in proposed)
