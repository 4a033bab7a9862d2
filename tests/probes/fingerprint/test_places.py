"""Fingerprints of places: what each simulated fault does is what its card line says."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from diag.machine.places import parse_place
from probes import fingerprint
from probes.fingerprint import ops
from probes.fingerprint.arithmetic import OpArithmetic, arithmetic_of, order_of
from probes.fingerprint.ops import SumShape
from probes.fingerprint.sums import spread
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import NOTE, Measurement, check_unique
from probes.frame.plan import Choice, carried_out

CORES = Path(__file__).with_name("simulated_cores.py")
FLOAT32, FLOAT16, BFLOAT16 = np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
PRODUCT, VECTORS = ops.matmul(32, 32, 32), ops.matmul(1, 16, 1)


def device(place: str) -> DeviceUnderTest:
    return DeviceUnderTest(parse_place(place, "eager"))


def found(place: str, shape: SumShape, dtype: np.dtype = FLOAT32, num_terms: int | None = None) -> OpArithmetic:
    asked = shape.make(device(place), dtype)
    return arithmetic_of(asked if num_terms is None else spread(asked, range(num_terms)))


@pytest.mark.parametrize(
    ("place", "inputs"),
    [
        ("CPU:0", "float32"),
        ("sim:tf32", "TF32 to nearest even"),
        ("sim:tf32-truncate", "TF32 truncated"),
        ("sim:bf16-inputs", "bfloat16 to nearest even"),
        ("sim:gemm-11bit", "TF32 truncated"),  # 11 significand bits, cut off, are TF32's
    ],
)  # fmt: skip
def test_input_formats_of_places(place: str, inputs: str) -> None:
    assert {str(each) for each in found(place, PRODUCT).inputs} == {inputs}
    of_convolution = "float32" if place == "sim:gemm-11bit" else inputs
    assert str(found(place, ops.conv(2, 4, 8)).inputs[0]) == of_convolution


def test_a_shape_may_be_read_otherwise() -> None:
    """gemm-11bit spares vectors, as the kernel of which it was reported does."""
    assert str(found("sim:gemm-11bit", VECTORS).inputs[0]) == "float32"


@pytest.mark.parametrize("execution", ["eager", "graph", "xla"])
def test_a_cpu_adds_in_float32(execution: str) -> None:
    """TensorFlow's CPU kernels of MatMul, and XLA's, keep float32 sums in all dtypes, rounded to nearest even."""
    for dtype in (FLOAT32, FLOAT16, BFLOAT16):
        of_product = found(f"CPU:0/{execution}", PRODUCT, dtype)
        assert (of_product.width.fewest, of_product.rounding) == (24, "to nearest even")
        assert of_product.order.tree is not None
        assert of_product.inputs[0].name == dtype.name


def test_float16_sums_between_blocks() -> None:
    of_product = found("sim:fp16-accumulate", PRODUCT, FLOAT16)
    assert (of_product.width.fewest, of_product.width.most, of_product.rounded_every) == (11, 24, 8)
    assert found("CPU:0", PRODUCT, FLOAT16).width.fewest == 24


def test_reordered_sums() -> None:
    rows = ops.sum_rows("Sum", 8, 1024)
    far = range(0, 1024, 64)
    assert order_of(spread(rows.make(device("sim:reordered-sums"), FLOAT32), far)).is_stable is False
    assert order_of(spread(rows.make(device("CPU:0"), FLOAT32), far)).is_stable


def test_winograd_has_no_order() -> None:
    shape, far = ops.conv(3, 32, 32), range(0, 288, 36)
    assert "transformed" in order_of(spread(shape.make(device("sim:winograd-4x4"), FLOAT32), far)).words
    assert order_of(spread(shape.make(device("CPU:0"), FLOAT32), far)).tree is not None


@pytest.mark.parametrize(("place", "kept"), [("CPU:0", "kept"), ("sim:flush-subnormals", "flushed")])
def test_flushed_subnormals(place: str, kept: str) -> None:
    """Of float16, whose subnormals TensorFlow's CPU kernels keep."""
    of_product = found(place, ops.matmul(8, 8, 8), FLOAT16).subnormals
    assert (of_product.inputs, of_product.products) == (kept, kept)
    probes = [p for p in fingerprint.probes(Choice()) if (p.op, p.dtype, p.case) == ("Mul", "float16", "subnormals")]
    (measurement,) = carried_out(probes, device(place), lambda probe: None)
    assert measurement.figures == {"in": kept, "out": kept}


@pytest.mark.parametrize("execution", ["eager", "graph"])
def test_own_tensor_cores_are_recognised(execution: str) -> None:
    narrow = found(f"sim:{CORES}:blocks_of_4/{execution}", PRODUCT, FLOAT16)
    assert "float32 accumulate truncated, blocks of 4 added as one, 0 extra bits" in narrow.line()
    wide = found(f"sim:{CORES}:blocks_of_8/{execution}", PRODUCT)
    assert wide.line().startswith(
        "TF32 inputs truncated, float32 accumulate truncated, blocks of 8 added as one, 2 extra bits"
    )


@pytest.mark.parametrize(
    ("shape", "terms"),
    [
        (ops.matmul(4, 6, 4), 6),
        (ops.matmul(3, 6, 5, transpose_a=True, transpose_b=True), 6),
        (ops.batch_matmul(2, 3, 6, 4), 6),
        (ops.conv(2, 3, 4), 12),
        (ops.conv_to_input(2, 3), 18),
        (ops.conv_to_filter(3, 2, 3), 18),
        (ops.sum_rows("Sum", 3, 6), 6),
        (ops.sum_columns("Mean", 6, 3), 6),
        (ops.sum_whole("Mean", 2, 3), 6),
        (ops.bias_gradient(6, 3), 6),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_each_op_is_asked_for_the_sum_of_its_terms(shape: SumShape, terms: int) -> None:
    """Integers: a question's answer is the sum of its products, whichever element of the output it stands in."""
    asked = shape.make(device("CPU:0"), FLOAT32)
    assert asked.num_terms == terms
    random = np.random.default_rng(1)
    a, b = random.integers(-8, 9, (2, 7, terms)).astype(float)
    expected = (a * b).sum(axis=1) if asked.has_factors else a.sum(axis=1)
    np.testing.assert_allclose(asked(a, b), expected, rtol=1e-6)  # a mean is rounded


def test_a_quick_card_of_a_cpu() -> None:
    """Every reading is a note, none says that nothing is known, and no two have one name."""
    probes = [p for p in fingerprint.probes(Choice(quick=True)) if p.op in ("MatMul", "AddV2", "Cast", "Sum")]
    measurements: list[Measurement] = list(carried_out(probes, device("CPU:0"), lambda probe: None))
    check_unique(measurements)
    assert {measurement.status for measurement in measurements} == {NOTE}
    (line,) = [r for r in measurements if (r.op, r.dtype, r.case) == ("MatMul", "float32", "arithmetic")]
    assert line.says.startswith("float32 inputs, ") and "float32 accumulate" in line.says
    (orders,) = [r for r in measurements if r.case.startswith("order of") and (r.op, r.dtype) == ("Sum", "float32")]
    assert str(orders.figures["drawing"]).count("x") == 16
    assert not any(
        "in no known way" in measurement.says or "unrecognised" in measurement.says for measurement in measurements
    )
