"""Tensors of one shape and dtype are copies of one dataset, and each is as if it had been made by itself."""

from __future__ import annotations

from io import BytesIO

import h5py
import numpy as np
import pytest

from traces.hdf5.skeleton import skeleton_image
from traces.schema import VIEW, RunDocuments, TensorSpec, TraceLayout

NAMES, SHAPE = ("first", "second", "block/third"), (40, 9)
LAYOUT = TraceLayout(
    tensors=tuple(
        TensorSpec(name, SHAPE, "float32", lane, "activation", VIEW if name == "second" else "step")
        for name in NAMES
        for lane in ("reference", "candidate")
    )
)


@pytest.fixture(params=[False, True], ids=["default", "portable"])
def file(request: pytest.FixtureRequest) -> h5py.File:
    documents = RunDocuments({lane: {} for lane in LAYOUT.lanes}).to_json(LAYOUT)
    return h5py.File(BytesIO(skeleton_image(LAYOUT, documents, portable=request.param)), "r")


@pytest.mark.parametrize("name", NAMES)
def test_each_is_the_difference_from_its_own_base(file: h5py.File, name: str) -> None:
    group = file[f"steps/tensors/activation/{name}"]
    base, other = group["reference"], group["candidate"]
    assert "difference_from" not in base.attrs
    expected = None if file.attrs["portable"] else base.name
    assert (other.attrs.get("difference_from"), other.dtype) == (expected, np.dtype("i4" if expected else "f4"))


@pytest.mark.parametrize("name", NAMES)
def test_each_has_its_attributes_and_scales(file: h5py.File, name: str) -> None:
    for dataset in file[f"steps/tensors/activation/{name}"].values():
        assert dataset.attrs["dtype"] == "float32"
        assert dataset.attrs.get("observed") == (VIEW if name == "second" else None)
        assert (dataset.shape, dataset.maxshape) == ((0, *SHAPE), (None, *SHAPE))
        scales = [dict(axis.items()).popitem()[1] for axis in dataset.dims]
        assert scales == [file["steps/step"], file["steps/axis_0_40"], file["steps/axis_1_9"]]
        for axis, scale in enumerate(scales[1:], start=1):
            counted = [(file[reference], number) for reference, number in scale.attrs["REFERENCE_LIST"]]
            assert counted.count((dataset, axis)) == 1


def test_nothing_but_the_named_tensors_stays(file: h5py.File) -> None:
    attached = {file[reference].name for reference, _ in file["steps/axis_1_9"].attrs["REFERENCE_LIST"]}
    assert attached == {f"/steps/tensors/activation/{name}/{lane}" for name in NAMES for lane in LAYOUT.lanes}
