"""Calling a person's own function, and saying in one line what went wrong in it.

It is named `FILE.py:FUNCTION`, or as an import string, `package.module:FUNCTION`.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from diag.common.source_lines import is_their_own
from diag.common.wording import did_you_mean, first_line
from diag.errors import UserError

_PROGRAM = Path(__file__).parents[1]
FORMS = "FILE.py:FUNCTION or package.module:FUNCTION"
_IMPORT_STRING = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def names_function(spec: str) -> bool:
    """Whether `spec` is a function, or FILE.py with the function forgotten; FILE may hold colons.

    What exists under the whole of an import string's text is a file or folder of that name.
    """
    is_file = spec.endswith(".py") or spec.rpartition(":")[0].endswith(".py")
    return is_file or (_IMPORT_STRING.fullmatch(spec) is not None and not Path(spec).exists())


def call_function(spec: str, *, flag: str, expected: str) -> Any:
    """Calls the function that `spec` names, with no arguments, and returns what it returns.

    Args:
        spec: FILE.py:FUNCTION, FILE relative to the working directory; or package.module:FUNCTION.
        flag: what the person typed before it, for messages: "--model".
        expected: what the function should return, for messages: "a Keras model".

    Raises:
        UserError: no such file, module or function, or their code raised: then with the exception's
            type, its message, and the last line of their file that it passed through.
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
        code, _, name = spec.rpartition(":")
        raise UserError(f"{flag} {spec}: {name}() raised {summary_of(error, _file_of(code))}") from error


_GUARD = 'put what it runs as a script under if __name__ == "__main__":'


def load_function(spec: str, expected: str) -> Callable[..., Any]:
    """The function that `FILE.py:FUNCTION` or `package.module:FUNCTION` names.

    Raises UserError, one line, where there is no such file, module or function or the file does not import.
    """
    code, _, name = spec.rpartition(":")
    load = _loaded if code.endswith(".py") else _imported
    try:
        module = load(code)
    except _NotFound as error:
        raise UserError(f"{spec}: {error}; expected {FORMS} naming {expected}") from error
    except Exception as error:
        problem = f"{summary_of(error, _file_of(code))}{_here(error)}"
        raise UserError(f"{spec}: {code} could not be imported: {problem}") from error
    function = getattr(module, name, None)
    if not callable(function):
        defined = {
            k for k, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__
        }
        offered = ", ".join(sorted(defined)) or "none"
        raise UserError(f"{spec}: {code} has no function {name!r}; it defines {offered}{did_you_mean(name, defined)}")
    return function  # type: ignore[no-any-return]


class _NotFound(Exception):
    """Of the file or module that was named."""


def _loaded(file: str) -> ModuleType:
    """A Python file, under a name of its own, with its folder on the import path, as Python would run it."""
    path = Path(file)
    if not path.is_file():
        raise _NotFound(f"no file {file!r}")
    _look_in(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(f"_lockstep_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # as of every name that ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _imported(name: str) -> ModuleType:
    """A module, of the folder that one is in if its package lies there, else of what is installed."""
    if _lies_here(name):
        _look_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != name and not name.startswith(f"{missing}."):
            raise  # one that the module itself imports
        meant = did_you_mean(missing, _modules_beside(missing))
        where = f"in {Path.cwd()} or installed" if "." not in missing else f"in {missing.rpartition('.')[0]}"
        raise _NotFound(f"no module {missing!r} {where}{meant}") from error


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _modules_beside(name: str) -> list[str]:
    """The modules of the package that a name is in, or of the folder that one is in."""
    package = name.rpartition(".")[0]
    folders = getattr(sys.modules[package], "__path__", []) if package else [str(Path.cwd())]
    return [found.name for found in pkgutil.iter_modules(folders, f"{package}." if package else "")]


def _lies_here(name: str) -> bool:
    """Whether the top package of a module's name lies where the command was started."""
    first = name.partition(".")[0]
    return Path(f"{first}.py").is_file() or Path(first).is_dir()


def _file_of(code: str) -> Path:
    """The Python file that was named, or that of the module."""
    return Path(code if code.endswith(".py") else getattr(sys.modules.get(code), "__file__", None) or code)


def _here(error: Exception) -> str:
    """What to do about a module that is not found, and lies where the command was started."""
    is_here = isinstance(error, ModuleNotFoundError) and error.name and _lies_here(error.name)
    return "; PYTHONPATH=. before the command lets it import from the folder you are in" if is_here else ""


def line_of_their_own(error: BaseException) -> str | None:
    """The last line of the person's own that led to an error, `model.py:31, compute_loss`; None where none did."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_their_own(frame.filename):
            return f"{Path(frame.filename).name}:{frame.lineno}, {frame.name}"
    return None


def line_of_keras(error: BaseException) -> str | None:
    """The last line of Keras, called by this program, that led to an error; None where this program led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    last = max((n for n, frame in enumerate(frames) if Path(frame.filename).is_relative_to(_PROGRAM)), default=-1)
    called = frames[last + 1] if last + 1 < len(frames) else None
    if called is None or "keras" not in Path(called.filename).parts:
        return None
    reached = [frame for frame in frames[last + 1 :] if "keras" in Path(frame.filename).parts][-1]
    return f"{Path(reached.filename).name}:{reached.lineno}, {reached.name}"


def summary_of(error: BaseException, path: Path) -> str:
    """`ValueError: message (line 12)`: the last line of `path` that the error passed through."""
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == path.resolve()
    ]
    return f"{type(error).__name__}: {first_line(error)}" + (f" (line {lines[-1]})" if lines else "")
