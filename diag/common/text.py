"""Text that comes from a file, as what it is: never a control sequence, markup or a formula."""

from __future__ import annotations

import html
import re
from typing import Literal

from diag.common.wording import shortened

LONGEST = 2000
"""Characters of one text in a line that a person reads; of more the ends are shown."""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>=:@])")
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for a formula at the start of a cell (OWASP, "CSV Injection")."""

Medium = Literal["terminal", "html", "markdown", "csv"]


def as_text(text: object, medium: Medium = "terminal", longest: int | None = None) -> str:
    r"""A text, prepared for where it is shown, on one line.

    Whatever Python does not call printable (control characters and line breaks, bidirectional overrides, invisible
    characters, lone surrogates) stands as its escape, such as \x1b or \u202e, in every medium. In HTML and Markdown
    nothing of the text is markup any more; a CSV cell that a spreadsheet would take for a formula begins with an
    apostrophe. A text of more than `longest` characters is cut in the middle.
    """
    plain = escaped(str(text))
    if longest is not None:
        plain = shortened(plain, longest)
    if medium == "html":
        return html.escape(plain)
    if medium == "markdown":
        return html.escape(_MARKDOWN.sub(r"\\\1", plain), quote=False).replace("\\&gt;", "&gt;")
    if medium == "csv" and plain.lstrip().startswith(_FORMULA):
        return f"'{plain}"
    return plain


def escaped(text: str, except_for: str = "") -> str:
    """With every character that is not printable as its escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in except_for else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
