"""What `pack` prints: what it wrote, what it left out, and what can be done with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from diag.common.terminal import Unbroken
from diag.common.text import as_text
from diag.common.wording import size_text
from traces.packing import PackedTrace
from traces.views.terminal import FAINT, GOOD, TITLE

CANNOT = (
    "Without its batch the step cannot be run: diag.replay, diag.attribute, diag.compare and --reference trace: refuse "
    "it. Whoever may see the batch gets a file packed without --anonymous."
)


def render(packed: PackedTrace) -> Iterator[RenderableType]:
    sizes = packed.stored
    yield Unbroken(f"Wrote {packed.path}", style=GOOD)
    state = f"the state before step {packed.start} {size_text(sizes['state'])}"
    batches = f"its batch {size_text(sizes['batches'])}" if packed.start == packed.step else (
        f"the batches from there to step {packed.step} {size_text(sizes['batches'])}"
    )  # fmt: skip
    yield Text(f"step {packed.step}: {state}, {batches}, all else {size_text(sizes['other'])}")
    yield Text(f"left out: {'; '.join(packed.left_out)}", style=FAINT)
    for note in packed.notes:
        yield Text(f"note: {as_text(note)}")
    if packed.is_anonymous:
        yield Text(CANNOT)
    yield Text("\nNext", style=TITLE)
    path = shlex.quote(packed.path)
    replay = [] if packed.is_anonymous else [f"python -m diag.replay {path} --step {packed.step}"]
    for command in (f"python -m diag.report {path}", *replay, f"python -m traces verify {path}"):
        yield Unbroken(f"  {as_text(command)}")
