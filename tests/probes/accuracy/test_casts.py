"""Casts: ties by hand, and what truncation and rounding twice look like."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from diag.machine.places import Place
from probes.accuracy import casts
from probes.frame.device import DeviceUnderTest

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(scope="module")
def cpu():
    return DeviceUnderTest(Place("CPU:0", "eager"))


@pytest.mark.parametrize(
    ("value", "target", "expected"),
    [
        (1 + 2.0**-8, BFLOAT16, 1.0),  # bfloat16 has steps of 2^-7 above 1: a tie, to the even one
        (1 + 3 * 2.0**-8, BFLOAT16, 1 + 2.0**-6),
        (1 + 2.0**-8 + 2.0**-20, BFLOAT16, 1 + 2.0**-7),
        (1 + 2.0**-11, np.dtype(np.float16), 1.0),
        (2.0**-25, np.dtype(np.float16), 0.0),  # half the smallest subnormal
        (3 * 2.0**-25, np.dtype(np.float16), 2.0**-23),
        (65519.99, np.dtype(np.float16), 65504.0),
        (65520.0, np.dtype(np.float16), np.inf),
        (-2.75, np.dtype(np.int32), -2),
    ],
)
def test_right_results_are_the_nearest_numbers(value, target, expected):
    assert float(casts.expected_of(np.array([value]), target)[0]) == expected


@pytest.mark.parametrize(("source", "target"), casts.PAIRS)
def test_inputs_hold_ties_of_the_target_where_there_are_any(source, target):
    x = casts.inputs(source, target, seed=0)
    assert x.dtype == casts.DTYPES[source] and x.size > 10_000
    narrower = target in ("float16", "bfloat16") and source in ("float32", "float64")
    if narrower:
        wide = x.astype(np.float64)
        wide = wide[np.isfinite(wide) & (np.abs(wide) > 1e-3) & (np.abs(wide) < 1e4)]
        step = 2.0 ** (np.floor(np.log2(np.abs(wide))) - (7 if target == "bfloat16" else 10))
        assert np.count_nonzero(np.abs(wide / step % 1) == 0.5) > 1000


def test_right_casts_pass(cpu):
    for source, target in (("float32", "float16"), ("float32", "bfloat16"), ("float16", "float32")):
        x = casts.inputs(source, target, seed=0)
        y = cpu.run(lambda t, target=target: casts.tf.cast(t, target), x)[0]
        assert casts.measurement_of(x, y, cpu).status == "pass"


def test_truncation_fails_with_a_program(cpu):
    x = casts.inputs("float32", "bfloat16", seed=0)
    y = (x.view(np.uint32) >> 16).astype(np.uint16).view(BFLOAT16)
    found = casts.measurement_of(x, y, cpu)
    assert found.status == "fail" and found.figures["num_wrong"] > 10_000
    compile(found.reproducer, "reproducer", "exec")


def test_rounding_twice_is_told_from_rounding_wrongly(cpu):
    x = np.array([1 + 2.0**-8 + 2.0**-40, 2.0])  # a tie in float32, and then the even number below it
    twice = x.astype(np.float32).astype(BFLOAT16)
    assert float(twice[0]) == 1.0
    found = casts.measurement_of(x, twice, cpu)
    assert found.status == "note" and "rounded twice" in found.says
    assert casts.measurement_of(x, np.array([1.0, 2.015625], BFLOAT16), cpu).status == "fail"


def test_a_flushed_subnormal_is_no_error_of_float32_and_one_of_float16(cpu):
    tiny = np.array([1e-40], np.float32)
    assert casts.measurement_of(tiny, np.zeros(1, BFLOAT16), cpu).status == "pass"
    assert casts.measurement_of(np.array([1e-6], np.float32), np.zeros(1, np.float16), cpu).status == "fail"
