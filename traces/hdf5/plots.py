"""NXdata groups: what silx, h5web and other NeXus viewers plot when the file is opened.

They hold hard links to the columns of the step table, and so grow with it. NeXus names a way from
the root to what is shown first: https://manual.nexusformat.org/datarules.html (find the plottable data).
"""

from __future__ import annotations

import json

import h5py

from traces.hdf5.creation import create_text
from traces.hdf5.scales import LAYER
from traces.schema import TraceLayout


def create_plots(file: h5py.File, layout: TraceLayout, figure: str) -> None:
    """Make the plots; the first is the excess of each layer and step, where it is taken.

    figure: what the losses are (`diag.common.modes.FIGURE`).
    """
    entry = file.create_group("plots", track_order=True)
    _plot_losses(entry, file["steps"], layout, figure)
    if layout.layers:
        _plot_excess(entry, file["steps"])
    file.attrs.update(NX_class="NXroot", default="plots")
    entry.attrs.update(NX_class="NXentry", default="overview" if layout.layers else "loss")


def _plot_excess(entry: h5py.Group, steps: h5py.Group) -> None:
    group = _create_plot(entry, "overview", "Largest excess (error / bound) of each step and layer")
    for name in ("excess", "step", LAYER, "layer_name"):
        group[name] = steps[name]
    group["excess"].attrs.update(long_name="largest error / bound", interpretation="image")
    group[LAYER].attrs["long_name"] = "layer (a row of layer_name)"
    group.attrs.update(
        signal="excess",
        axes=["step", LAYER],
        SILX_style=json.dumps({"signal_scale_type": "log"}),  # from far below 1 to far beyond; h5web heeds it too
    )


def _plot_losses(entry: h5py.Group, steps: h5py.Group, layout: TraceLayout, figure: str) -> None:
    group = _create_plot(entry, "loss", f"{figure.capitalize()} of each lane")
    group["step"] = steps["step"]
    for lane in layout.lanes:
        group[lane] = steps[f"loss/{lane}"]
        group[lane].attrs["long_name"] = f"{figure} ({lane})"
    group.attrs.update(signal=layout.lanes[0], axes=["step"])
    if layout.lanes[1:]:
        group.attrs["auxiliary_signals"] = list(layout.lanes[1:])


def _create_plot(entry: h5py.Group, name: str, title: str) -> h5py.Group:
    group = entry.create_group(name, track_order=True)
    group.attrs["NX_class"] = "NXdata"
    create_text(group, "title", title)
    return group
