"""Standard output and error of a command, where they are closed, full, or lack a sign."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys

LOOKALIKE = "lockstep.lookalike"
_LIKE = {"─": "-", "│": "|", "├": "+", "└": "+", "█": "#", "·": ".", "×": "x", "±": "+-", "…": "..."}


def _alike(error: UnicodeError) -> tuple[str, int]:
    """For a sign that an encoding lacks one that looks like it, else its escape."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_LIKE.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error(LOOKALIKE, _alike)


def prepare_streams() -> None:
    """Have every text be printable: closed streams lead nowhere, and an ASCII terminal gets ASCII."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the next file that is opened would be taken for it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  as long as the process lives
        with contextlib.suppress(AttributeError):  # of a caller that catches what is printed
            getattr(sys, name).reconfigure(errors=LOOKALIKE)


def drop_stdout() -> None:
    """Whatever still waits to be printed goes nowhere; else Python would try once more at its end, and complain."""
    with contextlib.suppress(AttributeError, OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def say(line: str) -> None:
    """On standard error, if there is anybody to read it."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)
