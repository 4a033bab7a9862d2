"""A layout says all a run may write, or refuses to."""

from __future__ import annotations

import json

import pytest

from traces.schema import Column, TensorSpec, TraceLayout, op_columns, tensor_path, unit_columns

LANES = ("reference", "candidate")


def test_a_layout_survives_json() -> None:
    layout = TraceLayout(
        steps=20,
        tensors=(TensorSpec("conv2d", (32, 5, 5, 3), "bfloat16", "candidate", "activation"),),
        variables=(TensorSpec("conv2d/kernel", (3, 3), "float32", "reference"),),
        batch=(TensorSpec("inputs", (32, 7), "uint8"),),
        layers=("conv2d", "dense"),
        op_columns=op_columns(("max_ulp",)),
        unit_columns=unit_columns(("max_ulp",)),
    )
    assert TraceLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_the_statistics_stand_between_what_names_a_row_and_how_it_is_judged() -> None:
    names = [column.name for column in op_columns(("max_ulp", "rms"))]
    assert names[:3] == ["step", "index", "output"]
    assert names[-5:] == ["max_ulp", "rms", "bound", "excess", "verdict"]


def test_a_layer_within_a_layer_has_its_own_path() -> None:
    outer = TensorSpec("block", (1,), "float32", "reference", "activation")
    inner = TensorSpec("block/reference", (1,), "float32", "reference", "activation")
    assert tensor_path(outer, LANES) == "tensors/activation/block/reference"
    assert tensor_path(inner, LANES) == "tensors/activation/block/reference%/reference"
    assert tensor_path(TensorSpec("inputs", (1,), "float32"), LANES) == "tensors/inputs/values"


def test_a_tensor_hdf5_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="A trace stores"):
        TensorSpec("a", (1,), "string")


def test_a_layout_that_contradicts_itself_is_refused() -> None:
    spec = TensorSpec("dense", (1,), "float32", "reference", "gradient")
    with pytest.raises(ValueError, match="Received twice"):
        TraceLayout(tensors=(spec, spec))
    with pytest.raises(ValueError, match="lane must be one of"):
        TraceLayout(tensors=(TensorSpec("dense", (1,), "float32", "truth"),))
    with pytest.raises(ValueError, match="at least one lane"):
        TraceLayout(lanes=())
    with pytest.raises(ValueError, match="Received twice"):
        TraceLayout(op_columns=(Column("step", "int64"), Column("step", "text")))
