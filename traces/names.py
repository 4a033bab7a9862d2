"""Names as they lie on file: HDF5 and the text columns take fewer than Keras does.

The layout, a JSON document, has every name as it is. Where a name is a part of a path in the file, or a value in a
text column, and cannot stand there, a short one stands for it, which is made of it and is found again by it.
"""

from __future__ import annotations

from collections.abc import Iterable

from diag.common.text import escaped
from traces.checksums import bytes_checksum

TEXT_BYTES = 256
"""Of a text column; also the longest part of a path that is kept as it is."""
SHORT_BYTES = 200
_BEFORE_A_NAME = [
    f"{unit}{of}"
    for unit in ("", "layer:", "step:", "op:")
    for of in ("", "output of ", "gradient of ", "value of ", "momentum of ", "velocity of ")
]
"""What may stand before a layer's or a variable's name in a text column."""


def path_part(part: str) -> str:
    """A part of a path in the file, between two slashes; most are their own."""
    if part in ("", ".") or not part.isprintable() or len(part.encode()) >= TEXT_BYTES:
        return _short(part)
    return part


def column_text(text: str) -> str:
    """A text as a column holds it: its own, or one of at most `TEXT_BYTES` that no other text has."""
    return text if len(_encoded(text)) <= TEXT_BYTES else _short(text)


def full_texts(names: Iterable[str]) -> dict[str, str]:
    """Of these names, and of what is said of them, the full text by each `column_text` that is another."""
    long = [name for name in dict.fromkeys(names) if len(_encoded(name)) > TEXT_BYTES - max(map(len, _BEFORE_A_NAME))]
    texts = [f"{before}{name}" for name in long for before in _BEFORE_A_NAME]
    return {short: text for text in texts if (short := column_text(text)) != text}


def _short(text: str) -> str:
    """The beginning, printable, and a checksum of the whole."""
    begin = escaped(text).replace("/", "|").encode()[:SHORT_BYTES].decode(errors="ignore")
    return f"{begin}~{bytes_checksum(_encoded(text)):016x}"


def _encoded(text: str) -> bytes:
    return text.encode(errors="backslashreplace")
