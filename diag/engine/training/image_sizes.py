"""How many pixels an image file claims, before anything of it is decoded: a file of 1 KB can claim 4 GB of them."""

from __future__ import annotations

import struct

MOST_PIXELS = 178_956_970
"""Pillow takes more for a decompression bomb (PIL.Image.MAX_IMAGE_PIXELS, of which it refuses twice as many)."""
_GIF_HEADER, _COLOUR_TABLE, _FRAME, _EXTENSION = 13, 0x80, 0x2C, 0x21


def num_pixels(content: bytes) -> int:
    """Of all frames together, by what the headers say.

    Raises:
        ValueError: it is no BMP, GIF, JPEG or PNG.
    """
    if not content:
        raise ValueError("it is empty")
    try:
        return _num_pixels(content)
    except (IndexError, struct.error) as error:
        raise ValueError("its headers are cut") from error


def _num_pixels(content: bytes) -> int:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", content, 16)
    elif content.startswith(b"BM"):
        width, height = struct.unpack_from("<ii", content, 18)
    elif content.startswith((b"GIF87a", b"GIF89a")):
        return _gif_pixels(content)
    elif content.startswith(b"\xff\xd8\xff"):
        width, height = _jpeg_size(content)
    else:
        raise ValueError("it is no BMP, GIF, JPEG or PNG")
    return abs(width) * abs(height)


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """(width, height) from the frame header, which stands before all that is decoded (ITU T.81, B.2.2)."""
    at = 2
    while True:
        while content[at] != 0xFF:
            at += 1
        while content[at] == 0xFF:
            at += 1
        marker = content[at]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, at + 4)
            return width, height
        at += 1 if marker in (0x01, *range(0xD0, 0xD9)) else 1 + struct.unpack_from(">H", content, at + 1)[0]


def _gif_pixels(content: bytes) -> int:
    """Of all frames and of the canvas, block by block (CompuServe GIF89a, sections 18 to 27); all are decoded."""
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    found, at = width * height, _GIF_HEADER + _table_bytes(flags)
    while at < len(content) and content[at] in (_FRAME, _EXTENSION):
        if content[at] == _FRAME:
            width, height, flags = struct.unpack_from("<HHB", content, at + 5)
            found += width * height
            at += 11 + _table_bytes(flags)
        else:
            at += 2
        while at < len(content) and content[at]:  # a block within begins with its length
            at += 1 + content[at]
        at += 1
    return found


def _table_bytes(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & _COLOUR_TABLE else 0
