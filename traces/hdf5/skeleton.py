"""A trace with nothing in it yet: every name and attribute the file will ever have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from io import BytesIO

import h5py

from diag import __version__
from traces.hdf5.blobs import create_blobs
from traces.hdf5.creation import create_table, create_text
from traces.hdf5.plots import create_plots
from traces.hdf5.scales import label_blobs, label_columns
from traces.hdf5.tensors import create_tensors
from traces.schema import SCHEMA, TraceLayout

BLOBS = ("programs", "reports")
FORMAT = ("v110", "v110")
"""The oldest that has SWMR, for the tools of any HDF5 since 1.10."""


def skeleton_image(layout: TraceLayout, documents: Mapping[str, object], *, portable: bool) -> bytes:
    """The file up to the first row.

    It is made in memory: where the disk is full, HDF5 cannot close a file that it began there, and
    crashes (1.14.6).
    """
    image = BytesIO()
    with h5py.File(image, "w", libver=FORMAT) as file:
        _fill(file, layout, documents, portable)
    return image.getvalue()


def _fill(file: h5py.File, layout: TraceLayout, documents: Mapping[str, object], portable: bool) -> None:
    file.attrs.update(
        schema=SCHEMA,
        version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        portable=portable,
    )
    for name, document in documents.items():
        create_text(file, name, json.dumps(document))
    for name, table in layout.tables.items():
        group = file.create_group(name, track_order=True)
        create_table(group, table, portable=portable)
        label_columns(group, table, layout.layers)
        if table.tensors:
            create_tensors(group, table, layout.lanes, portable=portable)
    for name in BLOBS:
        create_blobs(file.create_group(name))
        label_blobs(file[name])
    create_plots(file, layout)
