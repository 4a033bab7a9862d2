"""Exact probes: healthy places pass, and each planted fault is seen where it strikes and said in words."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from diag.machine.places import parse_place
from probes import exact
from probes.exact import judging
from probes.exact.case import LIMITS, case, share_of
from probes.exact.judging import CaseOutcome, check_exact, outcome
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import FAIL, NOTE, PASS, UNSUPPORTED, Measurement
from probes.frame.fallback import computed_elsewhere
from probes.frame.plan import Choice, Probe, carried_out

PLANNED = {(each.op, each.dtype, each.case): each for each in exact.probes(Choice())}


def measurements(place: str, *wanted: tuple[str, str, str]) -> list[Measurement]:
    chosen: list[Probe] = [PLANNED[key] for key in wanted]
    return list(carried_out(chosen, DeviceUnderTest(parse_place(place)), lambda probe: None))


def read(place: str, op: str, dtype: str, name: str) -> Measurement:
    (found,) = measurements(place, (op, dtype, name))
    return found


def test_names_are_unique_and_cover_what_networks_use() -> None:
    keys = [(each.op, each.dtype, each.case) for each in exact.probes(Choice())]
    assert len(keys) == len(set(keys))
    ops = {op for op, _, _ in keys}
    assert {"MatMul", "Conv2D", "Conv2DBackpropFilter", "MaxPoolGrad", "TopKV2", "Sum", "GatherV2", "Transpose"} <= ops


@pytest.mark.parametrize("place", ["CPU:0/eager", "CPU:0/graph"])
def test_a_healthy_place_fails_nothing(place: str) -> None:
    """A few cases of every float32 probe."""
    quick = [each for each in exact.probes(Choice(quick=True)) if each.dtype == "float32"]
    subject = DeviceUnderTest(parse_place(place))
    found = list(carried_out(quick, subject, lambda probe: None))
    assert [each.name for each in found if each.status == FAIL] == []
    if not subject.environment()["onednn"]:
        pytest.skip("TensorFlow uses no oneDNN here (no AVX512_VNNI), which alone convolves NCHW and groups on the CPU")
    assert [each.name for each in found if each.status == UNSUPPORTED] == []
    assert sum(each.status == PASS for each in found) > 100
    tried = [each for each in found if each.figures["cases"] - each.figures["unsupported_cases"] >= 1]
    assert len(tried) == len(found)


@pytest.mark.parametrize("place", ["sim:tf32/eager", "sim:reordered-sums/graph"])
def test_arithmetic_of_another_kind_is_exact_on_integers(place: str) -> None:
    found = measurements(place, ("MatMul", "float32", "long sums"), ("Conv2D", "float32", "strides"),
                     ("Sum", "float16", "axes, lengths"), ("Conv2DBackpropFilter", "float32", "extreme sizes"),
                     ("BiasAddGrad", "bfloat16", "shapes"))  # fmt: skip
    assert [each.name for each in found if each.status != PASS] == []


def test_compiled_by_xla() -> None:
    found = measurements("CPU:0/xla", ("Conv2D", "bfloat16", "paddings, strides"), ("TopKV2", "float16", "k"),
                     ("gradient of Dense", "float32", "shapes"))  # fmt: skip
    assert [(each.status, each.figures["unsupported_cases"]) for each in found] == [(PASS, 0)] * 3


@pytest.mark.parametrize(
    ("place", "probe", "words"),
    [
        ("sim:conv1d-last-channel/eager", ("tf.nn.conv1d", "float32", "shapes"), "channel"),
        ("sim:conv1d-last-channel/graph", ("Conv2D", "float32", "sizes"), "channel"),
        ("sim:filter-grad-tail/eager", ("Conv2DBackpropFilter", "float32", "sizes"), "wrong in"),
        ("sim:strided-read/eager", ("MatMul", "float32", "reads slices and transposes"), "wrong in 7 of 8 cases"),
        ("sim:strided-read/eager", ("Transpose", "float16", "shapes"), "wrong in"),
        ("sim:topk-16/eager", ("TopKV2", "float32", "k"), "indices from 16 to the end"),
        ("sim:stale-partial-batch/eager", ("MatMul", "float32", "after a larger batch"), "33 rows after 65"),
        ("sim:stale-partial-batch/graph", ("BiasAddGrad", "float16", "after a larger batch"), "33 rows after 65"),
        ("sim:metal-fused-dense/graph", ("Dense", "float32", "bias and relu"), "elements wrong"),
        ("sim:metal-fused-dense/graph", ("Dense", "float16", "bias and relu6"), "elements wrong"),
        ("sim:metal-fused-dense/graph", ("gradient of Dense", "float32", "shapes"), "elements wrong"),
        ("sim:fp16-accumulate/eager", ("MatMul", "float16", "sums beyond float16's integers"), "expected 1597"),
        ("sim:fp16-accumulate/eager", ("Conv2D", "float16", "sums beyond float16's integers"), "expected 1597"),
        ("sim:one-bit/eager", ("MatMul", "float32", "sizes"), "not the same twice in a row: 1 of"),
        ("sim:one-bit/eager", ("Conv2D", "float32", "paddings"), "wrong in 6 of 6 cases"),  # in norm that is little
    ],
)  # fmt: skip
def test_a_planted_fault_is_seen(place: str, probe: tuple[str, str, str], words: str) -> None:
    found = read(place, *probe)
    assert found.status == FAIL
    assert words in found.says
    assert found.figures["wrong_cases"] >= 1 and found.figures["wrong_elements"] >= 1
    assert found.reproducer


@pytest.mark.parametrize(
    "place", ["sim:metal-fused-dense/eager", "sim:tf32-truncate/graph", "sim:gemm-11bit/eager", "sim:bf16-inputs/eager"]
)
def test_faults_that_leave_integers_alone_are_not_seen(place: str) -> None:
    found = measurements(place, ("MatMul", "float32", "sizes"), ("Conv2D", "float32", "sizes"),
                     ("Dense", "float32", "bias and relu"))  # fmt: skip
    assert [each.status for each in found] == [PASS] * 3


def test_a_transform_algorithm_is_noted_and_no_failure() -> None:
    found = read("sim:winograd-4x4/eager", "Conv2D", "float32", "sizes")
    assert found.status == NOTE and "right in norm, not per element" in found.says
    assert found.figures["wrong_cases"] == 0 and 0 < found.figures["largest_error"] < 1e-3
    blocks = measurements("sim:winograd-4x4/eager", ("Conv2D layer", "float32", "bias and relu6"),
                      ("gradient of Conv2D layer", "float32", "shapes"))  # fmt: skip
    assert FAIL not in [each.status for each in blocks]


FAULTS = """
import numpy as np

def last_row_left_out(call):
    if call.op_type == "MatMul" and call.outputs[0].size > 1:
        made = call.outputs[0].copy()
        made[-1] = 0
        return [made]

def last_row_of_a_table(call):
    if call.op_type == "GatherV2":
        return [np.where(call.inputs[1].reshape(-1, *[1] * (call.outputs[0].ndim - 1)) == len(call.inputs[0]) - 1, 0,
                call.outputs[0])] if call.inputs[1].ndim == 1 and len(call.inputs[1]) == len(call.outputs[0]) else None

def a_little_too_large(call):
    if call.op_type == "Conv2D":
        return [call.outputs[0] * (1 + 2 ** -9)]
"""


@pytest.mark.parametrize(
    ("function", "probe", "words"),
    [
        ("last_row_left_out", ("MatMul", "float32", "transposes"), "wrong in 7 of 9 cases"),
        ("last_row_of_a_table", ("GatherV2", "float32", "shapes"), "wrong in"),
        ("a_little_too_large", ("Conv2D", "float32", "sizes"), "wrong in"),  # a scale is no transform's rounding
    ],
)
def test_faults_of_a_users_own(tmp_path: Path, function: str, probe: tuple[str, str, str], words: str) -> None:
    path = tmp_path / "faults.py"
    path.write_text(FAULTS, encoding="utf-8")
    found = read(f"sim:{path}:{function}/eager", *probe)
    assert found.status == FAIL and words in found.says


def test_the_program_of_a_planted_fault_says_that_the_device_is_right(tmp_path: Path) -> None:
    """And so it recomputes, from its own text, what the oracle had."""
    found = read("sim:stale-partial-batch/graph", "MatMul", "float32", "after a larger batch")
    path = tmp_path / "program.py"
    path.write_text(found.reproducer, encoding="utf-8")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120, cwd=tmp_path,
                          env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "CPU:0 is right" in done.stdout and "compute(tf.constant" in found.reproducer


@pytest.mark.parametrize("dtype", sorted(LIMITS))
def test_so_many_terms_stay_within_the_integers(dtype: str) -> None:
    for count in (1, 9, 1000, 32769):
        share = share_of(count, dtype)
        assert 0 < share <= 0.2
        assert count * (1.5 * share) ** 2 <= LIMITS[dtype] / 7.9


def test_a_sum_that_is_not_exact_is_a_bug_of_the_probe() -> None:
    ones = case("ones", "tf.reduce_sum(x)", {"x": "np.ones(257)"}, np.sum, is_sum=True)
    with pytest.raises(ValueError, match="Not exact in bfloat16"):
        outcome(DeviceUnderTest(parse_place("CPU:0/eager")), ones, "bfloat16")
    check_exact(ones, [np.ones(257)], "float16")


def test_an_answer_of_another_shape_is_wrong() -> None:
    wrong = case("shape", "tf.reshape(x, [3, 2])", {"x": "np.zeros((2, 3))"}, lambda x: x)
    found = outcome(DeviceUnderTest(parse_place("CPU:0/eager")), wrong, "float32")
    assert found.status == FAIL and "shape [(3, 2)], expected [(2, 3)]" in found.says


def test_an_op_without_a_kernel_on_a_gpu_is_no_answer_of_the_gpus() -> None:
    device = DeviceUnderTest(parse_place("CPU:0/eager"))

    def elsewhere(function, array, dtype: str) -> str:
        return computed_elsewhere(device.computation(function).graph(array), "GPU", dtype)

    numbers, whole = np.ones((3, 3), np.float32), np.ones((3, 3), np.int32)
    assert "no GPU kernel of StringFormat" in elsewhere(lambda x: tf.strings.format("{}", x), numbers, "float32")
    if tf.test.is_built_with_cuda():  # else no kernel is registered for GPUs
        assert elsewhere(lambda x: tf.linalg.matmul(x, x), numbers, "float32") == ""
        assert "computes on the CPU" in elsewhere(lambda x: tf.reduce_sum(x, 0), whole, "int32")


def test_rows_of_variables(tmp_path: Path) -> None:
    wanted = [("AssignVariableOp", "float32", "variables"), ("ResourceScatterAdd", "float16", "variables"),
              ("ResourceGather", "bfloat16", "variables")]  # fmt: skip
    assert [each.status for each in measurements("CPU:0/graph", *wanted)] == [PASS] * 3
    path = tmp_path / "fault.py"
    path.write_text(
        "def kept(call):\n    return [call.inputs[0]] if call.op_type == 'AssignVariableOp' else None", encoding="utf-8"
    )
    found = read(f"sim:{path}:kept/eager", *wanted[0])
    assert found.status == FAIL and found.figures["largest_error"] == float("inf")  # the NaN are still there


def test_a_narrow_accumulator_is_a_note_where_nothing_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in's GPU: TensorFlow built without CUDA and ROCm.  Here a CPU stands in for it."""
    probe = PLANNED["MatMul", "float16", "sums beyond float16's integers"]
    device = DeviceUnderTest(parse_place("sim:fp16-accumulate/eager"))
    monkeypatch.setattr(device, "place", replace(device.place, device="GPU:0"))
    monkeypatch.setattr("probes.exact.judging.outcome", lambda device, case, dtype: CaseOutcome(case, FAIL, "off by 1"))
    for built, status in ((False, NOTE), (True, FAIL)):
        monkeypatch.setattr(tf.test, "is_built_with_gpu_support", lambda built=built: built)
        assert [each.status for each in probe.run(device)] == [status]


def test_what_a_function_may_lose_the_program_allows_too() -> None:
    found = read("sim:metal-fused-dense/graph", "Dense", "float32", "bias and elu")
    assert "expected) <= 0)" not in found.reproducer
    exactly = read("sim:metal-fused-dense/graph", "Dense", "float32", "bias and relu")
    assert "expected) <= 0)" in exactly.reproducer


def test_what_is_off_by_a_last_bit_is_said_in_digits_that_show_it():
    assert judging._expected_and_computed(3.0, 2.5) == "expected 3, computed 2.5"
    assert judging._expected_and_computed(-1.0, float(np.float32(-1.0000001))) == "expected -1, computed -1.00000012"
    assert judging._expected_and_computed(1.0, 1 + 2**-52) == "expected 1, computed 1.0000000000000002"
