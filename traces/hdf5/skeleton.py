"""A trace with nothing in it yet: every name and attribute the file will ever have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from io import BytesIO
from typing import Any

import h5py

from diag import __version__
from diag.common.modes import figure_in
from traces.checksums import bytes_checksum
from traces.hdf5.blobs import create_blobs
from traces.hdf5.creation import create_table, create_text
from traces.hdf5.plots import create_plots
from traces.hdf5.scales import label_blobs, label_columns
from traces.hdf5.tensors import create_tensors
from traces.schema import SCHEMA, TraceLayout

ATTRIBUTES = ("schema", "version", "created", "portable")
BLOBS = ("programs", "reports")
CHECKSUMS, ROOT = "checksums", "/"
"""A document of the checksums of all others and, under "/", of the root's attributes."""
FORMAT = ("v110", "v110")
"""The oldest that has SWMR, for the tools of any HDF5 since 1.10."""


def skeleton_image(
    layout: TraceLayout,
    documents: Mapping[str, object],
    *,
    portable: bool,
    created: str | None = None,
    compact: bool = False,
) -> bytes:
    """The file up to the first row; created: when, ISO 8601 in UTC, by default now; compact: with numbers compressed.

    It is made in memory: where the disk is full, HDF5 cannot close a file that it began there, and
    crashes (1.14.6).
    """
    image = BytesIO()
    with h5py.File(image, "w", libver=FORMAT) as file:
        created = created or datetime.now(timezone.utc).isoformat(timespec="seconds")
        file.attrs.update(schema=SCHEMA, version=__version__, created=created, portable=portable)
        _fill(file, layout, documents, portable, compact)
    return image.getvalue()


def document_checksum(text: bytes) -> str:
    """As the document `checksums` has it: 16 hexadecimal digits."""
    return f"{bytes_checksum(text):016x}"


def root_checksum(attributes: Mapping[str, Any]) -> str:
    """The same of the root's attributes that a reader goes by."""
    return document_checksum(json.dumps([str(attributes[name]) for name in ATTRIBUTES]).encode())


def _fill(file: h5py.File, layout: TraceLayout, documents: Mapping[str, object], portable: bool, compact: bool) -> None:
    texts = {name: json.dumps(document) for name, document in documents.items()}
    for name, text in texts.items():
        create_text(file, name, text)
    checksums = {name: document_checksum(text.encode()) for name, text in texts.items()}
    create_text(file, CHECKSUMS, json.dumps({**checksums, ROOT: root_checksum(file.attrs)}))
    for name, table in layout.tables.items():
        group = file.create_group(name, track_order=True)
        create_table(group, table, portable=portable, compact=compact)
        label_columns(group, table, layout.layers)
        if table.tensors:
            create_tensors(group, table, layout.lanes, portable=portable)
    for name in BLOBS:
        create_blobs(file.create_group(name))
        label_blobs(file[name])
    settings = documents.get("settings")
    create_plots(file, layout, figure_in(settings if isinstance(settings, Mapping) else {}))
