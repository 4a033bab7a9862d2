"""The one door: whatever opens a trace comes through here, and sees nothing of a file that was not checked.

In this order: the file holds plain datasets and links to nothing outside (plain.py); its documents are records
(records.py); its datasets are of the kinds and shapes that the layout names (contents.py), and hold as many rows as
it counts (counts.py). What is read later of the
rows is held against what is stored of them, at that time (traces/hdf5/chunks.py). docs/TRACE.md says it for a reader.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from diag.errors import UserError
from traces.door.contents import refuse_other_contents, refuse_other_text
from traces.door.counts import refuse_uncounted
from traces.door.plain import Stored, datasets_of
from traces.door.records import layout_of, parsed, refuse_other_records
from traces.hdf5.chunks import Unsound
from traces.hdf5.failures import explained_gaps, explained_reading
from traces.hdf5.opening import crashes, is_changing, lacks_its_end, open_file
from traces.hdf5.skeleton import ATTRIBUTES, CHECKSUMS
from traces.schema import TraceLayout

RUN_DOCUMENTS = ("command", "seeds", "settings", "model_config")
LONGEST_ATTRIBUTE = 100
ATTEMPTS, SECONDS_BETWEEN = 5, 0.1
"""Of a file that a run writes meanwhile: a block of it may be half written when it is read."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class OpenTrace:
    """A trace that was let in.

    `texts` are its JSON documents as they lie on file, by name, and `documents` what they say; of `checksums` each
    document's, empty where the trace has none.
    """

    file: h5py.File
    attributes: Mapping[str, Any]
    layout: TraceLayout
    documents: Mapping[str, Any]
    texts: Mapping[str, bytes]
    checksums: Mapping[str, str]


def open_trace(path: Path) -> OpenTrace:
    """A trace, checked, and open for reading.

    Raises:
      UserError: it cannot be read, is no trace, or holds what a trace does not.
    """
    return _again_while_it_is_written(path, lambda: _open(path))


def _again_while_it_is_written(path: Path, attempt: Callable[[], Value]) -> Value:
    for _ in range(ATTEMPTS - 1):
        try:
            return attempt()
        except UserError:
            if not is_changing(path):
                raise
            time.sleep(SECONDS_BETWEEN)
    return attempt()


def _open(path: Path) -> OpenTrace:
    file = open_file(path)
    try:
        with explained_reading(path), explained_gaps(path):
            return _checked(file, path)
    except BaseException:
        file.close()
        raise


def _checked(file: h5py.File, path: Path) -> OpenTrace:
    size = path.stat().st_size
    if lacks_its_end(path) and crashes(lambda: datasets_of(file, size)):
        raise OSError("the names in it are lost: the file was cut")
    found = datasets_of(file, size)
    attributes = {name: _attribute(file, name) for name in ATTRIBUTES}
    layout_text = _text(file, found, "layout")
    layout = layout_of(parsed(layout_text, "layout"))
    names = (*(f"environment/{lane}" for lane in layout.lanes), *RUN_DOCUMENTS)
    texts = {"layout": layout_text, **{name: _text(file, found, name) for name in names}}
    documents = {name: parsed(text, name) for name, text in texts.items() if name != "layout"}
    refuse_other_records(documents)
    refuse_other_contents(found, layout, portable=bool(attributes["portable"]))
    refuse_uncounted(file, found, layout)
    checksums = parsed(_text(file, found, CHECKSUMS), CHECKSUMS) if CHECKSUMS in found else {}
    if not isinstance(checksums, dict):
        raise Unsound(f"{CHECKSUMS} is not as expected: an object")
    return OpenTrace(file, attributes, layout, documents, texts, checksums)


def _text(file: h5py.File, found: Mapping[str, Stored], name: str) -> bytes:
    refuse_other_text(found, name)
    return bytes(file[name][()])


def _attribute(file: h5py.File, name: str) -> Any:
    """One of the root's attributes: a truth, or a short text."""
    try:
        value = file.attrs[name]
    except (TypeError, ValueError, OSError):
        value = None
    if name == "portable" and isinstance(value, np.bool_):
        return value
    if not isinstance(value, str) or len(value) > LONGEST_ATTRIBUTE or not value.isprintable():
        raise Unsound(f"the attribute {name} of the file is not as expected: a truth or a short text")
    return value
