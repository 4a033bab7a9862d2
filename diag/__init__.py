"""tf-lockstep: which operation, at which step, computes what rounding cannot explain."""

import os.path
import sys

NAME = "tf-lockstep"
"""The program, and its script that has all commands (pyproject.toml)."""
__version__ = "0.1.0"

FROM_PYTHON = ("Report", "compare_training", "watch_fit")


def __getattr__(name: str) -> object:
    """What is called from Python, loaded when it is asked for: to import `diag` takes no time."""
    if name not in FROM_PYTHON:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # not before Python has found the command that it looks for

    return getattr(import_module("diag.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *FROM_PYTHON]


# Python looks for a command in this package (its documentation of sys.argv), or runs the script of them all.
if [os.path.basename(word) for word in sys.argv[:1]] in (["-m"], [NAME]):
    with open(f"{__path__[0]}/started.py", encoding="utf-8") as file:
        exec(file.read(), {"__file__": file.name})
    from diag.common.stopping import end_at_once

    end_at_once()
