"""tf-lockstep: which operation, at which step, computes what rounding cannot explain."""

import importlib
from typing import Any

__version__ = "0.1.0"
FROM_PYTHON = ("Report", "compare_training", "watch_fit")


def __getattr__(name: str) -> Any:
    """What is called from Python, loaded when it is asked for: to import `diag` takes no time."""
    if name not in FROM_PYTHON:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("diag.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *FROM_PYTHON]
