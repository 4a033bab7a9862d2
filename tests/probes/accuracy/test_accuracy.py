"""Ops at a place: right on the CPU, wrong where a fault is planted, and which input shows it."""

from __future__ import annotations

import numpy as np
import pytest

from diag.machine.places import parse_place
from probes import accuracy
from probes.accuracy import inputs_of, measurement_of
from probes.accuracy.elementwise import FUNCTIONS
from probes.accuracy.op_call import computation_of
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import check_unique
from probes.frame.plan import Choice, Probe, carried_out

BY_OP = {function.op: function for function in FUNCTIONS}
ONE_INPUT_WRONG = '''
import numpy as np


def fault(call):
    """exp(2.5) is off by 8 ULP, wherever it stands."""
    if call.op_type != "Exp":
        return None
    y = np.array(call.outputs[0])
    y[call.inputs[0] == 2.5] += np.float32(8 * 2.0**-20)
    return [y]
'''


def read(place: str, op: str, dtype: str):
    device = DeviceUnderTest(parse_place(place))
    (probe,) = [each for each in accuracy.probes(Choice(quick=True)) if (each.op, each.dtype) == (op, dtype)]
    (found,) = carried_out([probe], device, lambda _: None)
    return found


@pytest.mark.parametrize(
    ("place", "op", "dtype", "status"),
    [
        ("CPU:0/eager", "Log", "float32", "pass"),
        ("CPU:0/graph", "Sqrt", "float32", "pass"),
        ("CPU:0/xla", "Tanh", "bfloat16", "pass"),
        ("CPU:0/eager", "Exp", "float16", "pass"),
        ("CPU:0/eager", "AddV2", "float16", "pass"),
        ("CPU:0/eager", "Relu", "float16", "pass"),
        ("CPU:0/eager", "TanhGrad", "float32", "pass"),
        ("CPU:0/eager", "Erfinv", "bfloat16", "unsupported"),
        ("sim:exp-log-approx/eager", "Log", "float32", "fail"),
        ("sim:exp-log-approx/graph", "Exp", "float32", "fail"),
        ("sim:rsqrt-12bit/eager", "Sqrt", "float32", "fail"),
        ("sim:flush-subnormals/eager", "Exp", "float16", "fail"),
        ("sim:flush-subnormals/eager", "AddV2", "float16", "fail"),
        ("sim:flush-subnormals/graph", "Relu", "float16", "fail"),
    ],
)
def test_faults_are_seen_and_a_sound_place_is_not_accused(place, op, dtype, status):
    found = read(place, op, dtype)
    assert found.status == status, found.says
    assert bool(found.reproducer) == (status == "fail")


def test_one_wrong_number_is_found_and_named(tmp_path):
    (tmp_path / "faults.py").write_text(ONE_INPUT_WRONG, encoding="utf-8")
    found = read(f"sim:{tmp_path / 'faults.py'}:fault/eager", "Exp", "float32")
    assert found.status == "fail" and found.figures["num_beyond"] == 1
    assert (found.figures["x"], found.figures["x_hex"]) == (2.5, "0x40200000")
    # a ULP of exp(2.5) = 12.18 is 2^-20
    assert found.figures["held_ulp"] == pytest.approx(8, abs=0.6)


def test_subnormals_that_float16_keeps_and_float32_flushes_on_the_cpu():
    assert read("CPU:0/eager", "Square", "float16").figures["subnormals_out"] == "kept"
    assert read("sim:flush-subnormals/eager", "Square", "float16").figures["subnormals_out"] == "flushed"
    assert read("CPU:0/eager", "Square", "float32").figures["subnormals_out"] == "flushed"


def test_an_error_that_a_flushed_term_explains_is_no_failure():
    """1 / 2^114 is off by 2^-126 where the last correction of Newton's method is flushed."""
    x = np.array([2.0**114, 3.0], np.float32)
    y = np.array([2.0**-114 + 2.0**-126, 1 / 3], np.float32)
    found = measurement_of(BY_OP["Reciprocal"], (x,), y, parse_place("CPU:0/eager"))
    assert found.status == "pass"
    assert found.figures["max_ulp"] > 2000 > 0.5 >= found.figures["held_ulp"]


def test_every_op_has_truth_and_allowances_for_its_own_inputs():
    """The right results, rounded once, pass: what is held against them is no accident of the table."""
    place = parse_place("CPU:0/eager")
    for function in FUNCTIONS:
        arrays = inputs_of(function, "float32", 512, seed=0)
        with np.errstate(all="ignore"):
            y = np.asarray(function.truth(*(each.astype(np.float64) for each in arrays))).astype(np.float32)
            found = measurement_of(function, arrays, y, place)
        assert found.status == "pass", (function.op, found.says)


def test_every_op_wrong_by_a_thousandth_fails():
    place = parse_place("CPU:0/eager")
    for function in FUNCTIONS:
        arrays = inputs_of(function, "float32", 512, seed=0)
        with np.errstate(all="ignore"):
            y = np.asarray(function.truth(*(each.astype(np.float64) for each in arrays)))
            found = measurement_of(function, arrays, (y * 1.001).astype(np.float32), place)
        assert found.status == "fail", (function.op, found.says)


def test_probes_have_names_of_their_own_and_quick_ones_the_same():
    def names(choice: Choice) -> list[tuple[str, str, str, str]]:
        return [(p.family, p.op, p.dtype, p.case) for p in accuracy.probes(choice)]

    full = names(Choice())
    assert len(set(full)) == len(full) > 200
    assert names(Choice(quick=True)) == full
    exhaustive = list(accuracy.probes(Choice(exhaustive=True)))
    assert all(isinstance(p, Probe) and p.dtype == "float32" and p.case for p in exhaustive) and len(exhaustive) > 30
    check_unique([read("CPU:0/eager", "Abs", "float32"), read("CPU:0/eager", "Neg", "float32")])


def test_each_op_is_the_one_that_its_name_says():
    device = DeviceUnderTest(parse_place("CPU:0/eager"))
    for op in ("EluGrad", "Atan2", "LeakyRelu", "Xlog1py"):
        arrays = inputs_of(BY_OP[op], "float32", 512, seed=0)
        graph = computation_of(BY_OP[op], device).graph(*arrays)
        assert [node.op for node in graph if not node.is_silent and node.op != "Identity"] == [op]
