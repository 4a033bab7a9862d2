"""What `export` prints: what it wrote, and how to read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from diag.common.terminal import Unbroken
from diag.common.text import as_text
from diag.common.wording import counted, size_text
from traces.inspector.exporting import ExportedFile
from traces.views.terminal import FAINT, GOOD, TITLE


def render(exported: ExportedFile) -> Iterator[RenderableType]:
    path, num_rows = exported.path, exported.num_rows
    contents = counted(len(exported.names), "tensor" if num_rows is None else "column")
    rows = "" if num_rows is None else f", {counted(num_rows, 'row')}"
    yield Unbroken(f"Wrote {path}", style=GOOD)
    yield Text(f"{contents}{rows}, {size_text(Path(path).stat().st_size)}")
    if exported.num_left_out:
        yield Text(f"{counted(exported.num_left_out, 'tensor')} left out: only a checksum is stored", style=FAINT)
    if exported.num_widened:
        yield Text(f"{counted(exported.num_widened, 'tensor')} of bfloat16 written as float32, exactly", style=FAINT)
    yield Text("\nNext", style=TITLE)
    read = f"numpy.load({path!r})[{exported.names[0]!r}]" if num_rows is None else f"pandas.read_csv({path!r})"
    yield Unbroken(f"  {as_text(read)}")
