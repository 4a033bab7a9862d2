"""Texts and values in Python code that is written for a person: one literal stays one literal, whatever it holds."""

from __future__ import annotations

import keyword
import math
import re
from typing import Any

from diag.common.text import as_text

_ENCODING = re.compile(r"coding(?=[:=])")


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
    """A text within a comment, on its line.

    In the first lines of a file a comment with `coding: utf-7` says how Python reads it (PEP 263), and what is text in
    one encoding is a new line in another: such words are parted.
    """
    return _ENCODING.sub("coding ", as_text(text))


def identifier(name: object, otherwise: str) -> str:
    """A name as code; `otherwise` where it is none."""
    return str(name) if isinstance(name, str) and _is_identifier(name) else otherwise


def _is_identifier(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
