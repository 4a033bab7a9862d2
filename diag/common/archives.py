"""Zip archives of a stranger, `.keras` and `.npz`: looked at before anything of one is unpacked."""

from __future__ import annotations

import stat
import zipfile
from collections import Counter
from pathlib import PurePosixPath, PureWindowsPath

from diag.common.text import as_text
from diag.common.wording import size_text
from diag.errors import UserError

MOST_INFLATED = 256
"""Times the size of its file; random weights and photos do not shrink, and zeros shrink 1000 times."""
ALWAYS_ALLOWED = 256 << 20
"""Bytes that an archive may inflate to whatever its size: labels that are nearly all zero are no bomb."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1


def refuse_unsafe(archive: zipfile.ZipFile, num_bytes: int, is_trusted: bool = False) -> None:
    """Check the table of contents of an archive whose file has `num_bytes`; nothing is unpacked.

    is_trusted: whatever it inflates to.

    Raises:
        UserError: a member leads out of the folder that it is unpacked in, is a link, is there twice or compressed in
            a way that is not used, or all of them together are too large for the archive.
    """
    members = archive.infolist()
    for name, count in Counter(member.filename for member in members).items():
        if count > 1:
            raise UserError(f"it holds {as_text(name)} {count} times; expected each once; write it again")
    for member in members:
        if (problem := _problem_of(member)) is not None:
            raise UserError(f"it holds {as_text(member.filename)}, {problem}; write it again without that")
    inflated = sum(member.file_size for member in members)
    if inflated > max(ALWAYS_ALLOWED, MOST_INFLATED * num_bytes) and not is_trusted:
        raise UserError(
            f"it inflates from {size_text(num_bytes)} to {size_text(inflated)}; expected at most {MOST_INFLATED} "
            "times as much; if you trust whoever made it: --trust reads it"
        )


def _problem_of(member: zipfile.ZipInfo) -> str | None:
    name = member.filename
    paths = (PurePosixPath(name), PureWindowsPath(name))
    if any(path.is_absolute() or path.drive or ".." in path.parts for path in paths):
        return "which leads out of it"
    kind = stat.S_IFMT(member.external_attr >> 16)  # as Unix has it; 0 where the writer says nothing
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "which is a link or a device"
    if member.flag_bits & _ENCRYPTED:
        return "which is encrypted"
    if member.compress_type not in _METHODS:
        return f"which is compressed by method {member.compress_type}"
    return None
