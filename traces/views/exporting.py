"""What `export` prints: what it wrote, and how to read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from diag.common.wording import counted, size_text
from traces.inspector.exporting import Exported
from traces.views.terminal import FAINT, GOOD, TITLE, Unbroken


def render(found: Exported) -> Iterator[RenderableType]:
    held = counted(len(found.names), "tensor" if found.num_rows is None else "column")
    rows = "" if found.num_rows is None else f", {counted(found.num_rows, 'row')}"
    yield Unbroken(f"Wrote {found.path}", style=GOOD)
    yield Text(f"{held}{rows}, {size_text(Path(found.path).stat().st_size)}")
    if found.num_left_out:
        yield Text(f"{counted(found.num_left_out, 'tensor')} left out: only a checksum is stored", style=FAINT)
    if found.num_widened:
        yield Text(f"{counted(found.num_widened, 'tensor')} of bfloat16 written as float32, exactly", style=FAINT)
    yield Text("\nNext", style=TITLE)
    if found.num_rows is None:
        yield Unbroken(f"  numpy.load({found.path!r})[{found.names[0]!r}]")
    else:
        yield Unbroken(f"  pandas.read_csv({found.path!r})")
