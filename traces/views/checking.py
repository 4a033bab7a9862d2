"""What `verify` prints: what was checked, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from diag.common.terminal import facts_table
from diag.common.text import LONGEST, as_text
from diag.common.wording import counted
from traces.inspector.checking import Check
from traces.views.terminal import BAD, GOOD, next_commands

MAX_PROBLEMS = 25


def render(path: str, checks: Sequence[Check], is_sound: bool) -> Iterator[RenderableType]:
    problems = [problem for check in checks for problem in check.problems]
    yield facts_table([("trace", path), *((check.name, as_text(check.summary, longest=LONGEST)) for check in checks)])
    yield Text()
    if is_sound:
        yield Text(f"Sound: nothing is wrong in {counted(len(checks), 'check')}.", style=GOOD)
    elif not problems:
        yield Text("Nothing could be checked: the trace holds no step, no row and no tensor.", style=BAD)
    else:
        yield Text(f"{counted(len(problems), 'problem')}:", style=BAD)
    for problem in problems[:MAX_PROBLEMS]:
        yield Text(f"  {as_text(problem, longest=LONGEST)}")
    if len(problems) > MAX_PROBLEMS:
        yield Text(f"  ... and {len(problems) - MAX_PROBLEMS:,} more (--json has all)")
    yield from next_commands([("ls", path)])
