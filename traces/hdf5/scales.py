"""Dimension scales: what each axis of a dataset counts, for xarray and any reader that knows them.

They are HDF5's own (HDF5 Dimension Scale Specification), and netCDF-4's where a scale has no values of
its own. All axes of a dataset have one or none has: h5netcdf takes nothing between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import h5py
import numpy as np

from traces.hdf5.creation import APPENDED_CHECKSUM, APPENDED_STOP, create_text
from traces.schema import TableLayout

_NO_VALUES = "This is a netCDF dimension but not a netCDF variable.{:>10}"
"""The NAME that netCDF-4 gives a dimension that is only a length."""
LAYER = "layer"
_REFERENCE = np.dtype([("dataset", h5py.ref_dtype), ("dimension", "<i4")])


class Scales:
    """Attaches scales to many datasets, and writes that down once.

    HDF5's own call writes a scale's whole list of datasets again with each of them: 3.2 s for 4,000
    datasets of four axes. A scale that grows has no such list: h5netcdf 1.8 would go through it for every
    dataset, to find the longest, and take 20 s to open 280 of them.
    """

    def __init__(self) -> None:
        self._attached: dict[h5py.Dataset, list[tuple[h5py.Reference, int]]] = defaultdict(list)

    def attach(self, dataset: h5py.Dataset, scales: Sequence[h5py.Dataset]) -> None:
        """Say what each axis of a dataset counts."""
        label(dataset, scales)
        self.count(dataset.ref, scales)

    def count(self, dataset: h5py.Reference, scales: Sequence[h5py.Dataset]) -> None:
        """Have the scales know of a dataset that says already what its axes count."""
        for axis, scale in enumerate(scales):
            self._attached[scale].append((dataset, axis))

    def write(self) -> None:
        """Tell each scale that does not grow where it is attached."""
        for scale, attached in self._attached.items():
            if scale.maxshape == scale.shape:
                scale.attrs.create("REFERENCE_LIST", np.array(attached, _REFERENCE))


def label(dataset: h5py.Dataset, scales: Sequence[h5py.Dataset]) -> None:
    """Say what each axis of a dataset counts, and leave the scales to be told."""
    references = np.empty(len(scales), object)
    for axis, scale in enumerate(scales):
        references[axis] = np.array([scale.ref], h5py.ref_dtype)
    dataset.attrs.create("DIMENSION_LIST", references, dtype=h5py.vlen_dtype(h5py.ref_dtype))


def label_columns(group: h5py.Group, layout: TableLayout, layers: Sequence[str]) -> None:
    """Give every axis of a table's columns a scale; the first of them counts the rows."""
    scales = Scales()
    row = group[layout.columns[0].name]
    row.make_scale(layout.columns[0].name)
    if any(column.width for column in layout.columns):
        _label_layers(group, layers, scales)
    for column in layout.columns[1:]:
        scales.attach(group[column.name], [row] if column.width is None else [row, group[LAYER]])
    group[APPENDED_STOP].make_scale(APPENDED_STOP)
    scales.attach(group[APPENDED_CHECKSUM], [group[APPENDED_STOP]])
    scales.write()


def label_blobs(group: h5py.Group) -> None:
    """Give the axes of a group of documents a scale."""
    scales = Scales()
    group["stop"].make_scale("stop")
    scales.attach(group["bytes"], [create_length(group, "byte", None)])
    scales.attach(group["checksum"], [group["stop"]])
    scales.write()


def _label_layers(group: h5py.Group, layers: Sequence[str], scales: Scales) -> None:
    """An axis of numbers, as NXdata wants it, with the names beside."""
    layer = group.create_dataset(LAYER, data=np.arange(len(layers)))
    layer.make_scale(LAYER)
    scales.attach(create_text(group, "layer_name", layers), [layer])


def create_axes(group: h5py.Group, lengths: Iterable[tuple[int, int]]) -> dict[tuple[int, int], h5py.Dataset]:
    """A scale for each axis and length of a table's tensors."""
    axes = {key: create_length(group, "axis_{}_{}".format(*key), key[1]) for key in sorted(lengths)}
    _link(group, axes.values())
    return axes


def _link(group: h5py.Group, axes: Iterable[h5py.Dataset]) -> None:
    """Give a table's axes a second name, which HDF5 comes upon before any table's.

    A reader that follows a dataset to its scales and asks for their names has HDF5 search the whole file
    for each. With these names xarray opens a trace of 2,000 tensors in 20 s instead of 190.
    """
    links = group.file.create_group(f"axes{group.name}")
    for axis in axes:
        links[axis.name.rsplit("/", 1)[1]] = axis


def create_length(group: h5py.Group, name: str, length: int | None) -> h5py.Dataset:
    """A scale that only has a length, None for one that grows; it takes no room for values."""
    shape, maxshape, chunks = ((0,), (None,), (1,)) if length is None else ((length,), None, None)
    scale = group.create_dataset(name, shape, "i1", maxshape=maxshape, chunks=chunks)
    scale.make_scale(_NO_VALUES.format(length or 0))
    return scale
