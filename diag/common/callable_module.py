"""A command's module that is also the function of its name: `python -m diag.replay`, `diag.replay(trace, step=3)`.

Python makes a module an attribute of its package as soon as anything imports it, so no function can stand beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module; to call it is to call its `from_python`."""

    from_python: Callable[..., Any]

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return self.from_python(*args, **settings)


def called_from_python(module: str, function: Callable[..., Any]) -> None:
    """From now on to call the module is to call the function."""
    made = sys.modules[module]
    vars(made)["from_python"] = function
    made.__class__ = CallableModule
