"""Calling a person's own function, `FILE.py:FUNCTION`, and saying in one line what went wrong in it."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diag.common.wording import first_line
from diag.errors import UserError


def names_function(spec: str) -> bool:
    """Whether `spec` is FILE.py:FUNCTION, or FILE.py with the function forgotten; FILE may hold colons."""
    return spec.endswith(".py") or spec.rpartition(":")[0].endswith(".py")


def call_function(spec: str, *, flag: str, expected: str) -> Any:
    """Calls the function that `spec` names, with no arguments, and returns what it returns.

    Args:
        spec: FILE.py:FUNCTION, FILE relative to the working directory.
        flag: what the person typed before it, for messages: "--model".
        expected: what the function should return, for messages: "a Keras model".

    Raises:
        UserError: no such file or function, or their code raised: then with the exception's type,
            its message, and the last line of their file that it passed through.
    """
    if spec.endswith(".py"):
        raise UserError(f"{flag} {spec} names no function; write {flag} {spec}:FUNCTION, returning {expected}")
    try:
        function = load_function(spec, expected)
    except UserError as error:
        raise UserError(f"{flag} {error}") from error
    except SystemExit as error:
        raise UserError(f"{flag} {spec}: the file ended the program while imported; {_GUARD}") from error
    try:
        return function()
    except (Exception, SystemExit) as error:
        file, _, name = spec.rpartition(":")
        raise UserError(f"{flag} {spec}: {name}() raised {summary_of(error, Path(file))}") from error


_GUARD = 'put what it runs as a script under if __name__ == "__main__":'


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
        problem = f"{summary_of(error, path)}{_here(error)}"
        raise UserError(f"{spec}: {file} could not be imported: {problem}") from error
    function = getattr(module, name, None)
    if not callable(function):
        offered = sorted(
            k for k, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module_spec.name
        )
        raise UserError(f"{spec}: {file} has no function {name!r}; it defines {', '.join(offered) or 'none'}")
    return function  # type: ignore[no-any-return]


def _here(error: Exception) -> str:
    """What to do about a module that is not found, and lies where the command was started."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    name = error.name.partition(".")[0]
    is_here = Path(f"{name}.py").is_file() or Path(name).is_dir()
    return "; PYTHONPATH=. before the command lets it import from the folder you are in" if is_here else ""


def line_of_their_own(error: BaseException) -> str | None:
    """The last line of the person's own that led to an error, `model.py:31, compute_loss`; None where none did."""
    others = [Path(__file__).resolve().parents[1], *map(Path, sysconfig.get_paths().values())]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        if path.is_file() and not any(path.is_relative_to(folder) for folder in others):
            return f"{path.name}:{frame.lineno}, {frame.name}"
    return None


def summary_of(error: BaseException, path: Path) -> str:
    """`ValueError: message (line 12)`: the last line of `path` that the error passed through."""
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == path.resolve()
    ]
    return f"{type(error).__name__}: {first_line(error)}" + (f" (line {lines[-1]})" if lines else "")
