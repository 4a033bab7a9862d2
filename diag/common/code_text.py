"""Texts and values in Python code that is written for a person: one literal stays one literal, whatever it holds."""

from __future__ import annotations

import math
from typing import Any

from diag.common.text import as_text


def literal(value: Any) -> str:
    """The code of a number, truth, text, None, or of lists, tuples and maps of them.

    Raises:
      TypeError: it is nothing such, so that no text would be its code.
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, tuple):
        return "(" + "".join(f"{literal(each)}, " for each in value) + ")"
    if type(value) is float and not math.isfinite(value):
        return f"float({str(value)!r})"
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    if isinstance(value, str):
        return ascii(str(value))
    raise TypeError(f"Expected a plain value to write as code. Received: {type(value).__name__}")


def in_docstring(text: object) -> str:
    """A text within a docstring, on one line, with nothing in it that ends the docstring."""
    return as_text(text).replace("\\", "\\\\").replace('"', '\\"')


def in_comment(text: object) -> str:
    """A text within a comment, on its line."""
    return as_text(text)


def identifier(name: object, otherwise: str) -> str:
    """A name as code; `otherwise` where it is none."""
    return str(name) if isinstance(name, str) and name.isascii() and name.isidentifier() else otherwise
