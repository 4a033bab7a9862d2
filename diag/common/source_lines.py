"""Which line of a person's own made something: not one of TensorFlow, of Keras, of an installed package, or of ours."""

from __future__ import annotations

import linecache
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType

LONGEST_LINE = 200
"""Characters of a line's text that are kept."""
_FRAMEWORKS = ("tensorflow", "keras")
"""May be imported from anywhere, as from a checkout."""


@dataclass(frozen=True)
class SourceLine:
    """A line of a file or of a notebook's cell.

    file: relative where it lies below the working directory.  line: from 1.  function: that it stands in.  text: of
    the line, without its indentation, cut at 200 characters; "" where it is not known.
    """

    file: str
    line: int
    function: str = ""
    text: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return f"{where}: {self.text}" if self.text else where


@cache
def is_their_own(filename: str) -> bool:
    """Whether a file, or a notebook's cell, is neither installed nor a part of Python or of this program."""
    if filename in linecache.cache and not Path(filename).is_file():
        return True  # a cell: IPython keeps its text where tracebacks look for it
    path = Path(filename)
    return path.is_file() and not any(path.resolve().is_relative_to(folder) for folder in _others())


def _others() -> Iterable[Path]:
    yield Path(__file__).resolve().parents[1]
    yield from map(Path, sysconfig.get_paths().values())
    for name in _FRAMEWORKS:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None:
            yield Path(file).resolve().parent


@cache
def source_line(filename: str, line: int, function: str) -> SourceLine:
    """The line as it is now, with its text."""
    text = linecache.getline(filename, line).strip()[:LONGEST_LINE]
    return SourceLine(_name_of(filename), line, function, text)


def _name_of(filename: str) -> str:
    """As a person names it: relative to the working directory, or by the number of the cell."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is not None and not Path(filename).is_file():
        named = getattr(shell.compile, "format_code_name", lambda _: None)(filename)
        return " ".join(named) if named else filename
    try:
        return str(Path(filename).resolve().relative_to(Path.cwd()))
    except ValueError:
        return filename


def line_on_stack(frame: FrameType | None) -> SourceLine | None:
    """The innermost line of their own from this frame outwards; None where there is none."""
    while frame is not None:
        if is_their_own(frame.f_code.co_filename):
            return line_of_frame(frame)
        frame = frame.f_back
    return None


def line_of_frame(frame: FrameType) -> SourceLine:
    return source_line(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
