"""What a lockstep run prints at its end."""

from __future__ import annotations

from diag.common.jsonable import to_text
from diag.common.terminal import ReportConsole
from diag.report import json_report, substitution, terminal
from diag.report.next_commands import next_commands
from diag.request import LockstepRequest
from diag.verdict.result import RunResult

DIVERGENCE = 1


def print_result(result: RunResult, request: LockstepRequest) -> int:
    """Print the report, or report.json alone; gives the exit code."""
    if request.json:
        print(to_text(json_report.report(result)), end="")
    else:
        further = next_commands(result, request.command, request.script) if request.module else []
        terminal.render(result, ReportConsole(), further, request.verbose)
        if result.substitution is not None:  # asked for, so always shown
            substitution.render(result.substitution, ReportConsole())
    return DIVERGENCE if result.verdict == "divergence" else 0
