"""A function out of a file that a person named: `FILE.py:FUNCTION`."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diag.errors import UserError


def load_function(spec: str, expected: str) -> Callable[..., Any]:
    """The function that `FILE.py:FUNCTION` names.

    The file is imported under a name of its own, with its folder on the import path, as Python
    would run it.  Raises UserError, one line, where there is no such file or function or the
    file does not import.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{spec}: no file {file!r}; expected FILE.py:FUNCTION naming {expected}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module_spec = importlib.util.spec_from_file_location(f"_lockstep_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"{spec}: {file!r} is no Python file; expected FILE.py:FUNCTION naming {expected}")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{spec}: {file} could not be imported: {summary_of(error, path)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        offered = sorted(
            k for k, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module_spec.name
        )
        raise UserError(f"{spec}: {file} has no function {name!r}; it defines {', '.join(offered) or 'none'}")
    return function  # type: ignore[no-any-return]


def summary_of(error: BaseException, path: Path) -> str:
    """`ValueError: message (line 12)`: the last line of `path` that the error passed through."""
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == path.resolve()
    ]
    message = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {message}" + (f" (line {lines[-1]})" if lines else "")
