"""The loss curves of an intervention, and whether the loss came back."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from diag.common.terminal import Stripped
from diag.common.wording import counted, figure
from diag.verdict.substitution import Substitution, SubstitutionOutcome

MAX_ROWS = 12


def sentence(found: Substitution) -> str:
    """What the curves say."""
    unit = f"{found.name} ({counted(found.num_ops, 'op')})"
    before, after = found.candidate_left, found.substituted_left
    if before is None:
        return (
            f"The candidate's loss never left what rounding does to it in {counted(len(found.reference), 'step')}: "
            f"there is nothing that substituting {unit} could restore."
        )
    left = f"the candidate's loss is further away than one rounding explains at step {found.first_step + before.step}"
    if found.outcome is SubstitutionOutcome.RESTORED:
        return f"Restored: {left}; with {unit} computed by the reference it never does. So {found.name} is the cause."
    assert after is not None
    return (
        f"Not restored: {left}, by {figure(before.factor)} times, and with {unit} computed by the reference at step "
        f"{found.first_step + after.step}, by {figure(after.factor)} times. {found.name} is not the cause, or not "
        "the only one."
    )


def render(found: Substitution, console: Console) -> None:
    title = Text(f"Training with {found.name} computed by the reference, against without", style="bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, header_style="dim")
    for name in ("step", "reference", "candidate", "substituted", "rounding may do"):
        table.add_column(name, justify="right", no_wrap=True)
    limits, count = found.limits, len(found.reference)
    rows = sorted(
        {round(index * (count - 1) / max(1, min(count, MAX_ROWS) - 1)) for index in range(min(count, MAX_ROWS))}
    )
    for row in rows:
        losses = [f"{curve[row]:.7g}" for curve in (found.reference, found.candidate, found.substituted)]
        table.add_row(str(found.first_step + row), *losses, f"± {figure(limits[row] * abs(found.reference[row]))}")
    is_restored = found.outcome is SubstitutionOutcome.RESTORED
    console.print()
    for part in (table, Text(sentence(found), style="bold green" if is_restored else "bold")):
        console.print(Stripped(part), end="")


def report(found: Substitution) -> dict[str, Any]:
    """The same for report.json."""
    return {
        "unit": found.name,
        "num_ops": found.num_ops,
        "outcome": found.outcome.value,
        "sentence": sentence(found),
        "first_step": found.first_step,
        "loss": {
            "reference": found.reference, "candidate": found.candidate, "substituted": found.substituted,
            "twins": found.twins,
        },
        "limits": found.limits,
    }  # fmt: skip
