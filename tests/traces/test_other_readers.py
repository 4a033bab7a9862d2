"""silx, xarray, pandas, h5dump and plain h5py open a trace and find in it what was written."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  registers the filters for every reader of this process
import ml_dtypes
import numpy as np
import pytest

from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout, op_columns, unit_columns
from traces.writer import TraceWriter

LANES = ("reference", "candidate")
LAYERS = ("conv", "größe", "dense")
LAYOUT = TraceLayout(
    tensors=tuple(
        TensorSpec(name, shape, dtype, lane, kind)
        for kind, name, shape, dtype in (
            ("activation", "conv", (4, 5, 5, 300), "float32"),
            ("activation", "block/conv", (4, 5), "float32"),
            ("activation", "block", (4, 7), "bfloat16"),
            ("activation", "mask", (4, 2), "bool"),
            ("gradient", "dense/kernel", (5, 5), "float32"),
            ("gradient", "scalar", (), "float32"),
        )
        for lane in LANES
    ),
    variables=tuple(TensorSpec("dense/kernel", (5, 5), "float32", lane) for lane in LANES),
    batch=(TensorSpec("inputs", (4, 3), "float32"),),
    layers=LAYERS,
    op_columns=op_columns(("max_ulp",)),
    unit_columns=unit_columns(("max_ulp",)),
)
STEPS = (5, 6, 9)
EXCESS = np.array([[0.25, 0.0, 3.5], [np.nan, 1e-3, 611.0], [np.inf, 1.0, 2.0]])


def value(spec: TensorSpec, step: int) -> np.ndarray:
    dtype = ml_dtypes.bfloat16 if spec.dtype == "bfloat16" else spec.dtype
    return np.random.default_rng([step, len(spec.name)]).integers(0, 2, spec.shape).astype(dtype)


@pytest.fixture(params=[False, True], ids=["default", "portable"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "trace.h5"
    environment = {lane: {"device": "CPU:0"} for lane in LANES}
    with TraceWriter(path, LAYOUT, RunDocuments(environment), portable=request.param) as trace:
        trace.write_program(b"a step")
        trace.write_batch(0, {"inputs": np.ones((3, 3), np.float32)})
        trace.write_snapshot(5, {lane: {"dense/kernel": np.ones((5, 5), np.float32)} for lane in LANES})
        for step, excess in zip(STEPS, EXCESS, strict=True):
            tensors = {spec.key: value(spec, step) for spec in LAYOUT.tensors}
            loss = {"reference": step / 4, "candidate": step / 2}
            keep = tensors if step == 6 else ()
            record = StepRecord(step, 0, loss, tensors, keep, dict(zip(LAYERS, excess, strict=True)))
            trace.append_step(record)
            empty = dict.fromkeys(column.name for column in LAYOUT.op_columns)
            trace.append_ops([{**empty, "step": step, "index": i, "op_type": f"Op{i}"} for i in range(2)])
        trace.write_report({"verdict": "rounding"})
    return path


def test_silx_finds_the_default_plot(path: Path) -> None:
    nxdata = pytest.importorskip("silx.io.nxdata")
    with h5py.File(path) as file:
        plot = nxdata.get_default(file)
        assert plot is not None
        assert plot.is_valid, plot.issues
        assert plot.group.name == "/plots/overview"
        assert (plot.signal_dataset_name, plot.axes_dataset_names) == ("excess", ["step", "layer"])
        assert plot.interpretation == "image"
        assert plot.plot_style.signal_scale_type == "log"
        np.testing.assert_array_equal(plot.signal[()], EXCESS)
        np.testing.assert_array_equal(plot.axes[0][()], STEPS)
        np.testing.assert_array_equal(plot.axes[1][()], [0, 1, 2])
        assert list(plot.group["layer_name"].asstr()) == list(LAYERS)


def test_silx_plots_the_losses_of_all_lanes(path: Path) -> None:
    nxdata = pytest.importorskip("silx.io.nxdata")
    with h5py.File(path) as file:
        plot = nxdata.NXdata(file["plots/loss"])
        assert plot.is_valid, plot.issues
        assert (plot.signal_dataset_name, plot.auxiliary_signals_dataset_names) == ("reference", ["candidate"])
        np.testing.assert_array_equal(plot.auxiliary_signals[0][()], np.divide(STEPS, 2))
        np.testing.assert_array_equal(plot.axes[0][()], STEPS)


def test_a_trace_of_no_layers_shows_the_losses(tmp_path: Path) -> None:
    nxdata = pytest.importorskip("silx.io.nxdata")
    layout = TraceLayout(lanes=("reference",))
    with TraceWriter(tmp_path / "trace.h5", layout, RunDocuments({"reference": {}})) as trace:
        trace.append_step(StepRecord(0, 0, {"reference": 1.5}))
        trace.append_step(StepRecord(1, 0, {"reference": 0.5}))
    with h5py.File(tmp_path / "trace.h5") as file:
        plot = nxdata.get_default(file)
        assert (plot.group.name, plot.auxiliary_signals_dataset_names) == ("/plots/loss", [])
        np.testing.assert_array_equal(plot.signal[()], [1.5, 0.5])


def test_xarray_opens_every_group(path: Path) -> None:
    """With warnings as errors, so every axis has a scale: of others xarray warns."""
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        excess = tree["plots/overview/excess"]
        assert (excess.dims, float(excess.sel(step=6, layer=2))) == (("step", "layer"), 611.0)
        assert list(tree["steps/layer_name"].values) == list(LAYERS)
        np.testing.assert_array_equal(tree["steps/loss/candidate"].sel(step=9), 4.5)
        conv = tree["steps/tensors/activation/conv/reference"]
        assert conv.dims == ("step", "axis_0_4", "axis_1_5", "axis_2_5", "axis_3_300")
        np.testing.assert_array_equal(conv.sel(step=6), value(LAYOUT.tensors[0], 6))
        assert np.isnan(conv.sel(step=5)).all()  # it was not kept
        assert tree["ops"].to_dataset().sel(step=9)["op_type"].values.tolist() == ["Op0", "Op1"]
        inputs = tree["batches/tensors/inputs/values"].sel(index=0)
        assert np.isnan(inputs[3]).all()
        assert (inputs[:3] == 1).all()
        checksum = tree["steps/checksum"]
        np.testing.assert_array_equal(checksum.sel(step=5) == checksum.sel(step=9), checksum[0] == checksum[2])
        assert checksum.indexes["tensor"][0] == "tensors/activation/conv/reference"
        for node in tree.subtree:
            node.to_dataset().load()


def test_pandas_loads_the_op_table_at_once(path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    from traces.reader import TraceReader

    with TraceReader(path) as trace:
        table = pandas.DataFrame(trace.op_table())
    assert table.shape == (6, len(LAYOUT.op_columns))
    assert list(table.columns) == [column.name for column in LAYOUT.op_columns]
    assert table[(table.step == 6) & (table["index"] == 1)].op_type.tolist() == ["Op1"]
    assert (table.dtypes["step"], table.dtypes["max_ulp"]) == (np.int64, np.float64)


def test_xarray_loads_the_op_table_at_once(path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    from traces.reader import TraceReader

    with TraceReader(path) as trace:
        table = xarray.Dataset({name: ("row", column) for name, column in trace.op_table().items()})
    assert table.sizes == {"row": 6}
    assert table.where(table.step == 9, drop=True).op_type.values.tolist() == ["Op0", "Op1"]


def test_h5dump_reads_the_structure(path: Path) -> None:
    """Debian's hdf5-tools: HDF5 1.10, the oldest that knows SWMR."""
    if shutil.which("h5dump") is None:
        pytest.skip("no h5dump: apt install hdf5-tools")
    ran = subprocess.run(["h5dump", "-H", path], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count('HARDLINK "/plots/overview/excess"') == 1
    loss = subprocess.run(["h5dump", "-d", "/plots/loss/candidate", path], capture_output=True, text=True, check=True)
    assert "(0): 2.5, 3, 4.5" in loss.stdout


def test_h5py_finds_the_scales(path: Path) -> None:
    with h5py.File(path) as file:
        tensor = file["steps/tensors/gradient/dense/kernel/candidate"]
        assert [dict(axis.items()).popitem()[1].name.split("/")[-1] for axis in tensor.dims] == [
            "step",
            "axis_0_5",
            "axis_1_5",
        ]
        attached = {(file[dataset].name, axis) for dataset, axis in file["steps/axis_1_5"].attrs["REFERENCE_LIST"]}
        assert (tensor.name, 2) in attached
        assert file[file["steps/axis_1_5"].ref].name == "/axes/steps/axis_1_5"  # the name that is found soonest
