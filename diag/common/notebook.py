"""Where there is no program to be ended: a notebook, or another session of IPython."""

from __future__ import annotations

import sys


class CellEnded(BaseException):
    """Ends a cell instead of the program, in one line; no `except Exception` of a person's own takes it.

    code: the exit code that a program would have had.
    """

    def __init__(self, code: int) -> None:
        super().__init__(
            f"this cell ends at its fit, which was looked at instead of made (exit code {code}); "
            "diag.watch_fit(and_train=True) trains as well"
        )

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it."""
        return [f"diag: {self}"]


def is_notebook() -> bool:
    """Whether code is run by IPython, cell by cell."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None
