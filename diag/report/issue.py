"""The report as Markdown for GitHub, or for Apple's Feedback Assistant: what a vendor wants to read first."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from diag.common.terminal import ReportConsole
from diag.common.text import as_text, escaped
from diag.report import verbose
from diag.report.made_at import made_at
from diag.report.to_do import reproducer_command
from diag.report.words import sentence
from diag.verdict.attribution import outcome
from diag.verdict.result import LaneInfo, RunResult

WIDTH = 100
VERSIONS = (
    "tensorflow", "keras", "tensorflow-metal", "numpy", "python", "os", "machine", "chip", "driver", "cuda", "cudnn",
)  # fmt: skip
SWITCHES = ("execution", "policy", "tf32", "onednn", "soft_placement", "op_determinism")


def issue_of(result: RunResult) -> str:
    """Sentence, versions, switches, how to reproduce it, and all else folded."""
    parts = [
        f"**{_markdown(sentence(result))}**",
        *_line(result),
        _table(("", *(lane.name for lane in result.lanes)), _environment(result.lanes)),
        *_switches(result),
        *_reproducer(result),
        f"<details><summary>Details</summary>\n\n{fenced(_details(result))}\n\n</details>",
    ]
    return "\n\n".join(parts) + "\n"


def _line(result: RunResult) -> list[str]:
    first = result.first_divergence
    return [_markdown(line)] if first is not None and (line := made_at(first)) else []


def _markdown(text: object) -> str:
    return as_text(text, "markdown")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(line if line == "---" else _markdown(line) for line in each) + " |" for each in lines
    )


def _environment(lanes: Sequence[LaneInfo]) -> list[list[str]]:
    rows = [["place", *(lane.place for lane in lanes)]]
    for name in (*VERSIONS, *SWITCHES):
        values = [lane.environment.get(name) for lane in lanes]
        if any(value is not None for value in values):
            rows.append([name, *("" if value is None else _plainly(value) for value in values)])
    return rows


def _plainly(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _switches(result: RunResult) -> list[str]:
    found = result.attribution
    if found is None or not found.trials:
        return []
    rows = [[trial.name, outcome(trial, found.baseline).value] for trial in found.trials if not trial.reason]
    return ["What the flagged step does under other switches:", _table(("switch", "outcome"), rows)]


def _reproducer(result: RunResult) -> list[str]:
    """Commands, at most twenty lines."""
    first = result.first_fault
    command = "" if first is None else reproducer_command(result, first)
    if not command:
        return []
    text = (
        "To reproduce it, from the trace: the first line writes a program of at most 20 lines, with its data, that "
        "needs TensorFlow and NumPy alone; the second runs it and prints each error, its bound, and PASS or FAIL."
    )
    return [text, fenced(f"{command}\npython reproducer.py", "sh")]


def _details(result: RunResult) -> str:
    text = io.StringIO()
    verbose.details(result, ReportConsole(file=text, width=WIDTH))
    return text.getvalue().strip("\n")


def fenced(text: str, language: str = "") -> str:
    """A block of code, whatever backticks are in it."""
    plain = escaped(text, except_for="\n")
    longest = max(map(len, re.findall("`+", plain)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{plain}\n{fence}"
