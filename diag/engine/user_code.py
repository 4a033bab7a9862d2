"""Calling a person's own function, `FILE.py:FUNCTION`, and saying in one line what went wrong in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diag.engine.loading import load_function, summary_of
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


def one_line(error: BaseException) -> str:
    """An exception's type and whole message, its line breaks as spaces."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


_GUARD = 'put what it runs as a script under if __name__ == "__main__":'
